"""Candidates of a first stage of runs, and what they choose."""

import dataclasses
import pathlib
import pickle

import numpy as np
import pytest

from experiments import equal_time
from experiments.harness import equal_cost, grids, tuning
from experiments.harness.final_sharpness import MEASURES
from experiments.harness.runs import TrainedRun, changed
from sam_jax.training import configuration
from sam_jax.transforms import VARIANTS
from tests.training.problems import tiny

METHOD = tuning.Tuned(
    "a",
    tiny(sam__kind="wsam"),
    "validation_error_best",
    (7, 8),
    [
        {"sam.rho": rho, "sam.gamma": gamma}
        for rho in (0.1, 0.3)
        for gamma in (0.5, 0.9)
    ],
)
UNTUNED = tuning.Tuned("b", METHOD.config, METHOD.figure, (7, 8))
# A failed run has the greatest error there is.
ERRORS = [[0.3, 0.3], [0.1, 0.4], [0.2, None], [0.2, 0.2]]


def trained():
    return {
        ("a_tuning", i, seed): TrainedRun(
            pathlib.Path(), {} if e is None else {"validation_error_best": e}, []
        )
        for i, row in enumerate(ERRORS)
        for seed, e in zip((7, 8), row, strict=True)
    }


def test_every_candidate_is_tried_on_every_tuning_seed():
    planned = tuning.trials(METHOD)
    assert list(planned) == list(trained())
    config = planned["a_tuning", 1, 8].config
    assert (config.sam.rho, config.sam.gamma, config.seed) == (0.1, 0.9, 8)
    assert tuning.trials(UNTUNED) == {}


def test_the_least_mean_error_wins_and_is_what_is_trained():
    assert tuning.best(METHOD, trained()) == 3
    planned = tuning.plan(METHOD, (0, 1), key="longer", changes={"epochs": 5})
    late = {key for key, run in planned.items() if run.trial.chosen(trained())}
    assert late == {("longer", 3, 0), ("longer", 3, 1)}
    config = planned["longer", 3, 1].config
    assert (config.sam.rho, config.sam.gamma) == (0.3, 0.9)
    assert (config.seed, config.epochs) == (1, 5)
    assert sum(run.share for run in planned.values()) == 2


def test_what_has_one_candidate_is_not_tuned():
    assert tuning.best(UNTUNED, {}) == 0
    assert tuning.collect(UNTUNED, {}) == {}
    planned = tuning.plan(UNTUNED, (0, 1))
    assert {key: run.trial for key, run in planned.items()} == {
        ("b", 0, 0): None,
        ("b", 0, 1): None,
    }


def test_what_is_saved_says_what_was_chosen():
    arrays = tuning.collect(METHOD, trained())
    np.testing.assert_array_equal(arrays["a_tuned_gamma"], [0.5, 0.9, 0.5, 0.9])
    assert arrays["a_tuning"][2, 1] == 1.0
    assert tuning.words(arrays, "a") == "a rho 0.3 (of two), gamma 0.9 (of two)"
    arrays["a_tuned_rho"] = np.array([0.01, 0.03, 0.1, 0.3])
    assert tuning.words(arrays, "a") == (
        "a rho 0.3 (edge of its grid), gamma 0.9 (of two)"
    )
    assert tuning.words(arrays, "b") is None


@pytest.mark.parametrize("radii", [(0.03, 0.1, 0.3, 1.0), (0.05, 0.1)])
def test_all_variants_have_the_same_number_of_candidates(radii):
    for kind in equal_time.KINDS:
        if kind in grids.WEIGHTS and len(radii) != 4:
            continue
        found = grids.candidates(kind, radii)
        assert len({tuple(c.items()) for c in found}) == len(radii), kind
        for candidate in found:
            configuration.check(changed(tiny(sam__kind=kind), candidate))
    for kind, (knob, _) in grids.KNOBS.items():
        assert knob in VARIANTS[kind].options


def test_the_gpt_has_radii_of_its_own():
    settings = dataclasses.replace(equal_time.SCALES["fashion"], gpt_rho=(1e-4, 0.5))
    assert equal_time.base(settings, "gpt")[1] == (1e-4, 0.5)
    own = equal_time.tuned(settings, "gpt", "sam").candidates
    assert own == [{"sam.rho": 1e-4}, {"sam.rho": 0.5}]
    assert equal_time.base(settings, "noisy")[1] == settings.rho


def test_tuning_seeds_are_none_of_the_table():
    for settings in equal_time.SCALES.values():
        assert not set(settings.tuning_seeds) & set(settings.seeds)


def test_the_plan_tunes_at_equal_gradients():
    settings = equal_time.SCALES["fashion"]
    settings = dataclasses.replace(settings, places=tuple(equal_cost.PLACES))
    kinds = len(settings.kinds)
    uneven = [k for k in equal_time.kinds(settings) if grids.gradients(k) != 2]
    # Four candidates of two seeds; five seeds, twice where equal steps differ.
    each = kinds * 4 * 2 + (kinds + 1 + len(uneven)) * 5
    planned = equal_time.runs(settings)
    assert sum(run.share for run in planned.values()) == 3 * each
    for kind in equal_time.kinds(settings):
        one = equal_time.tuned(settings, "noisy", kind)
        work = one.config.epochs * grids.gradients(kind)
        assert work == pytest.approx(80, abs=grids.gradients(kind) / 2)
        last = planned[f"gpt_{kind}", 0, 4]
        assert (last.config.data.name, last.config.sam.kind) == ("stdlib", kind)
        assert last.then.file == "sharpness.json"
        assert pickle.loads(pickle.dumps(last.then)) == last.then  # to a worker
    assert sum(run.share for run in planned.values() if run.then) == 3 * 5 * (kinds + 1)


def test_equal_time_ends_where_sams_run_does():
    arrays = {
        "noisy_sam_epoch": np.arange(1, 5),
        "noisy_sam_seconds": np.array(2.0),
        "noisy_slow_epoch": np.arange(1, 5),
        "noisy_slow_seconds": np.array(4.0),
        "noisy_slow_validation": np.array([[0.5, 0.5]]),
        "noisy_slow_best": np.array([[0.1, 0.1]]),
        "noisy_slow_validating": np.array(
            [[[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.0, 0.0]]]
        ),
        "noisy_slow_curve": np.array([[[0.5, 0.6, 0.7, 0.1], [0.8, 0.9, 0.1, 0.1]]]),
    }
    # 8 seconds are two of its epochs; the better of these by validation counts.
    found = equal_time.at_equal(arrays, "noisy", "slow", "seconds")
    np.testing.assert_array_equal(found, [0.6, 0.8])
    found = equal_time.at_equal(arrays, "noisy", "slow", "gradients")
    np.testing.assert_array_equal(found, [0.1, 0.1])


def compared(errors, seconds):
    """Arrays of methods on noisy labels, of one epoch each and two seeds."""
    arrays = {"places": np.array(["noisy"]), "kinds": np.array(["sam", "other"])}
    for kind, error in errors.items():
        key, second = f"noisy_{kind}", seconds[kind]
        arrays |= {
            f"{key}_epoch": np.array([1]),
            f"{key}_seconds": np.array(second),
            f"{key}_validation": np.zeros((1, 2)),
            f"{key}_best": np.array([error]),
            f"{key}_last": np.array([error]) + 0.5,
            f"{key}_validating": np.zeros((1, 2, 1)),
            f"{key}_curve": np.array(error).reshape(1, 2, 1),
            f"{key}_failed": np.array([False, kind == "other"]),
        }
        arrays |= {f"{key}_{name}": np.full(2, 7.0) for name in MEASURES}
    return arrays


def test_the_table_has_a_row_for_each_method_with_its_failures():
    errors = {"erm": [0.2, 0.4], "sam": [0.1, 0.2], "other": [0.11, 0.25]}
    arrays = compared(errors, {"erm": 1.0, "sam": 2.0, "other": 2.0})
    arrays |= {
        "noisy_other_tuning": np.array([[0.3], [0.2]]),
        "noisy_other_tuning_failed": np.array([[True], [False]]),
        "noisy_other_tuned_rho": np.array([0.1, 0.3]),
    }
    header, erm, sam, other = equal_time.table(arrays)
    assert len(header) == len(erm) == len(sam) == len(other)
    found = dict(zip(header, other, strict=True))
    assert (found["method"], found["chosen"]) == ("other", "rho 0.3 (of two)")
    assert found["time of a step"] == "2.00"
    assert found["in equal time"] == "18 ± 9.9"
    # 1 and 5 points: 3 +- 12.71 * 2.83 / sqrt 2.
    assert found["less SAM's, 95%"] == "3 [-22.4 to 28.4]"
    assert found["last epoch"] == "68 ± 9.9"
    assert found["failed runs"] == "2"  # one of the table, one of the tuning
    assert other[-len(MEASURES) :] == ["7"] * len(MEASURES)
    assert dict(zip(header, sam, strict=True))["less SAM's, 95%"] == "-"
