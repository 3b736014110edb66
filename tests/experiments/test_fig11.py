from experiments import fig11


def test_fig_11_goes_on_from_the_average_at_nine_tenths():
    planned = fig11.runs(fig11.SCALES["fashion"])
    tuned = {key: plan for key, plan in planned.items() if key[0] == fig11.TUNED}
    assert len(tuned) == 5
    for (_, rho, seed), plan in tuned.items():
        assert plan.parent == ("erm", rho, seed)
        assert plan.average
        assert plan.epoch == 0.9 * plan.config.epochs
        kept = planned[plan.parent].config.checkpoint
        assert plan.epoch % kept.every_epochs == 0
        assert plan.epoch > plan.config.epochs - kept.keep * kept.every_epochs
