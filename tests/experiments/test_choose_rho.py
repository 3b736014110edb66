"""Tests of `experiments/choose_rho.py`: what it says where there is no radius."""

import numpy as np

from experiments import carry_rho, choose_rho


def test_a_sweep_without_a_radius_is_contrary_and_drawn_without_one():
    errors = np.array([[0.3, 0.3, 0.31], [0.2, 0.21, 0.2], [0.25, 0.26, 0.25]])
    arrays = {
        "sweeps": np.array(["digits", "fashion"]),
        "digits_chosen": np.array(0.0),
        "fashion_chosen": np.array(0.09),
    }
    for name in ("digits", "fashion"):
        arrays[f"{name}_rho"] = np.array([0.01, 0.1, 1.0])
        arrays[f"{name}_best"] = arrays[f"{name}_validation"] = errors
    none, some = choose_rho.judge(choose_rho.SCALES["cpu"], arrays)
    assert (none.verdict, some.verdict) == ("contrary", "holds")
    assert "no radius" in none.measured
    digits, fashion = choose_rho.plot(arrays).get_axes()[:2]
    assert len(digits.get_lines()) == 1
    assert len(fashion.get_lines()) == 2


def test_a_radius_is_carried_to_runs_that_differ_in_one_thing():
    settings = carry_rho.SCALES["cpu"]
    base, *others = (choose_rho.sweep(settings, name) for name in settings.sweeps)
    for name, other in zip(settings.sweeps[1:], others, strict=True):
        one, ours, its = choose_rho.SWEEPS[name], base.config, other.config
        assert one.like == "digits"
        assert set(base.rho) < set(other.rho)
        assert its.sam.kind == "sam"
        sizes = its.batch_size, tuple(its.model.widths)
        assert sizes != (ours.batch_size, tuple(ours.model.widths))
        # Only a batch size has a rule by the noise of gradients.
        assert (one.whole == "digits") == (its.batch_size != ours.batch_size)
        with its.unlocked():
            its.batch_size, its.model.widths = ours.batch_size, ours.model.widths
        assert its.to_dict() == ours.to_dict()


def test_every_way_to_carry_a_radius_is_judged():
    errors = np.array([[0.3, 0.3, 0.31], [0.2, 0.21, 0.2], [0.25, 0.26, 0.25]])
    arrays = {
        "sweeps": np.array(["digits_32"]),
        "digits_32_rho": np.array([0.01, 0.1, 1.0]),
        "digits_32_best": errors,
        "digits_32_validation": errors,
        "digits_32_chosen": np.array(0.09),
        "digits_32_carried": np.array(0.011),
        "digits_32_alike": np.array(0.8),
    }
    claims = list(choose_rho.judge(carry_rho.SCALES["cpu"], arrays))
    assert [c.verdict for c in claims] == ["holds", "contrary", "contrary"]
    assert [c.claim.split(" of ")[2].split(",")[0] for c in claims] == [
        "choose_rho",
        "carry_rho",
        "an equal rise",
    ]
    assert claims[2].rho == "0.8, nearest 1, best 0.1"
