"""What the experiments on adversarial training share."""

import pathlib

import numpy as np

from experiments.harness import adversarial, registry
from experiments.harness.runs import TrainedRun
from sam_jax.training import configuration


def test_errors_of_the_averaged_weights_are_those_of_their_average():
    settings = adversarial.Settings(seeds=(0, 1), recipe="smoke")
    keys = ("at", "averaged")
    names = {*adversarial.FIGURES.values()}
    own, average = dict.fromkeys(names, 0.5), dict.fromkeys(names, 0.25)
    summary = own | {f"ema_{name}": value for name, value in average.items()}
    records = [{"test_error": 0.0, "epoch": 1}]
    for curve in adversarial.CURVES.values():
        records[0] |= {curve: 0.5, f"ema_{curve}": 0.25}
    run = TrainedRun(pathlib.Path(), summary, records)
    planned = adversarial.plan(adversarial.methods(settings, keys), settings)
    arrays = adversarial.collect(settings, keys, dict.fromkeys(planned, run))
    for name in (*adversarial.FIGURES, *adversarial.CURVES):
        np.testing.assert_array_equal(arrays[f"at_{name}"], 0.5)
        np.testing.assert_array_equal(arrays[f"averaged_{name}"], 0.25)


def test_that_a_method_overfits_less_is_undecided_where_it_does_not_fit():
    seeds = np.array([0.0, 0.01, 0.02])
    errors = {
        "at": {"best": 0.4, "last": 0.5, "train_last": 0.1},
        "gce": {"best": 0.6, "last": 0.6, "train_last": 0.55},
    }
    arrays = {
        f"{key}_{name}": error + seeds[None]
        for key, own in errors.items()
        for name, error in own.items()
    }
    arrays |= {f"{key}_validation": np.zeros((1, 3)) for key in errors}
    arrays |= {f"{key}_rho": np.array([0.1]) for key in errors}
    claim = adversarial.mitigates(arrays, "gce", "Fig. 13a")
    assert claim.verdict == "undecided"
    assert claim.measured == "0.0 against 10.0; but 56 % of training are not fitted"
    fig13a = registry.load("fig13a")
    (*_, no_better) = fig13a.judge(fig13a.SCALES["fashion"], arrays)
    assert no_better.verdict == "undecided"
    assert no_better.measured.endswith("; but 56 % of training are not fitted")
    arrays["gce_train_last"] -= 0.2
    assert [*fig13a.judge(fig13a.SCALES["fashion"], arrays)][-1].verdict == "holds"
    claim = adversarial.mitigates(arrays, "gce", "Fig. 13a")
    assert (claim.verdict, claim.measured) == ("holds", "0.0 against 10.0")


def test_awp_is_the_layerwise_variant_of_kernels_with_as_many_radii_as_sam():
    module = registry.load("robust_peers")
    for scale, settings in module.SCALES.items():
        found = {m.key: m for m in adversarial.methods(settings, module.KEYS)}
        grids = [np.array(found[key].rho) for key in ("sam", "awp")]
        np.testing.assert_allclose(grids[1], 0.1 * grids[0], rtol=1e-12)
        sam = configuration.check(found["awp"].config).sam
        assert (sam.kind, sam.only_kernels) == ("layerwise_sam", True)
        average = found["averaged"].config.ema.decay
        assert average == (0.999 if scale == "paper" else 0.99)
        assert found["at"].config.ema.decay == 0


def test_gce_has_the_q_that_its_label_says():
    module = registry.load("gce_q")
    for settings in module.SCALES.values():
        keys = ("gce", *module.KEYS)
        found = {m.key: m for m in adversarial.methods(settings, keys)}
        losses = {key: m.config.loss for key, m in found.items()}
        gce = {key: loss.q for key, loss in losses.items() if key != "at"}
        assert gce == {"gce": 0.9, "gce_7": 0.7, "gce_3": 0.3}
        assert {losses[key].name for key in gce} == {"generalized_cross_entropy"}
        assert "q = .7" in found["gce_7"].label
        assert "q = .3" in found["gce_3"].label
