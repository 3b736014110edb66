import numpy as np

from experiments import early_switch
from experiments.harness import comparison
from experiments.harness.runs import TrainedRun

SETTINGS = early_switch.SCALES["cpu"]


def test_each_switched_run_goes_on_from_sams_at_its_rho_and_seed():
    planned = early_switch.runs(SETTINGS)
    switched = {k: p for k, p in planned.items() if k[0].startswith("after_")}
    assert len(switched) == 4 * 3 * 5
    for (name, rho, seed), plan in switched.items():
        assert plan.parent == ("sam", rho, seed)
        share = int(name.removeprefix("after_")) / 100
        assert plan.epoch == plan.config.sam.stop_epoch == share * plan.config.epochs
        kept = planned[plan.parent].config.checkpoint
        assert plan.epoch % kept.every_epochs == 0
        assert kept.keep * kept.every_epochs >= plan.config.epochs


def test_switched_runs_are_compared_at_the_rho_that_is_sams_best(tmp_path):
    """Whichever validates best after the switch."""

    def trained(key, plan):
        name, rho, _ = key
        best = 0.2 if name == "sam" else 0.05
        error = 0.3 + abs(rho - best)
        epochs = range(1, plan.config.epochs + 1)
        record = {"test_error": rho, "train_loss": rho}
        figures = dict.fromkeys(comparison.FIGURES.values(), rho)
        summary = figures | {"validation_error_best": error}
        return TrainedRun(tmp_path, summary, [{"epoch": e, **record} for e in epochs])

    planned = early_switch.runs(SETTINGS)
    found = {key: trained(key, plan) for key, plan in planned.items()}
    arrays = early_switch.run(SETTINGS, found)
    for key in ("sam", "after_25", "after_90"):
        np.testing.assert_array_equal(comparison.chosen(arrays, key, "last"), 0.2)
    np.testing.assert_array_equal(arrays["loss_at_switch"], 0.2)
