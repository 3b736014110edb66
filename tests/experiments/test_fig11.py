"""The average that ERM goes on from, and claims on a line of no length."""

import types

import numpy as np
import pytest

from experiments import fig11


@pytest.mark.parametrize(("distance", "verdict"), [(0.01, "undecided"), (0.5, "holds")])
def test_an_average_that_lies_on_erm_decides_nothing(distance, verdict):
    line = np.array([[1.0, 0.1, 0.9, 0.1, 1.0], [1.0, 0.1, 0.8, 0.1, 1.0]])
    arrays = {
        "alphas": np.array([-0.5, 0.0, 0.5, 1.0, 1.5]),
        "sam_train_loss": line,
        "ema_train_loss": np.array([[2.0, 0.1, 0.1, 0.1, 0.2]] * 2),
        "sam_test_error": line,
        "sam_distance": np.array([1.1, 1.2]),
        "ema_distance": np.full(2, distance),
        "sam_ema_distance": np.array([0.3, 0.3]),
        "tuned": np.array([[0.1, 0.2], [0.1, 0.3]]),
    }
    claims = {c.claim: c for c in fig11.judge(fig11.SCALES["fashion"], arrays)}
    told = [c for c in claims.values() if "lies on ERM" in str(c.measured)]
    of_the_line = [
        c
        for text, c in claims.items()
        if "its average, over" in text or text.startswith("|w_SWA - w_ERM|")
    ]
    assert [c.verdict for c in of_the_line] == [verdict] * 2
    assert len(told) == (2 if verdict == "undecided" else 0)


@pytest.mark.parametrize(("beyond", "verdict"), [(9.5, "holds"), (8.5, "contrary")])
def test_a_rise_is_sharp_beside_a_bowl(beyond, verdict):
    losses = np.array([[beyond, 1.5, 1.0, 1.0]]) * [[1.0], [1.001]]
    arrays = {"alphas": np.array([-0.5, 0.0, 1.0, 1.5]), "ema_train_loss": losses}
    (claim,) = fig11._side_claims(arrays, "ERM")
    assert claim.verdict == verdict


def test_each_line_begins_at_its_own_run(monkeypatch):
    weights = {"erm": 1.0, "sam": 2.0, "swa": 4.0}

    class Run:
        def __init__(self, name):
            self.params = {"w": np.array([weights[name]])}
            self.ema_params = {"w": -self.params["w"]}

        def epochs(self):
            return [1]

        def states(self, epochs):
            return iter([self] * len(epochs))

        def initial_state(self):
            return types.SimpleNamespace(params={"w": np.zeros(1)})

    def lines_from(run, state, ends, alphas):
        lines = [[[run.params["w"][0], end["w"][0]]] for end in ends]
        return np.array(lines), np.zeros(len(ends))

    monkeypatch.setattr(fig11.restore, "read", Run)
    monkeypatch.setattr(fig11, "lines_from", lines_from)
    lines, distances = fig11._lines("erm", "sam", "swa", np.array([0.0, 1.0]))
    np.testing.assert_array_equal(lines[:, 0], [[1.0, 2.0], [4.0, -4.0]])
    np.testing.assert_allclose(distances, [0.0, 0.0, 3.0])  # |2 - (-4)| / |2 - 0|


def test_at_papers_scale_it_is_the_average_of_erm_itself():
    planned = fig11.runs(fig11.SCALES["paper"])
    tuned = [plan for key, plan in planned.items() if key[0] == fig11.TUNED]
    assert {key[0] for key in planned} == {"erm", "sam", fig11.TUNED}
    assert {plan.parent[0] for plan in tuned} == {"erm"}
    assert all(planned[plan.parent].config.ema.decay == 0.999 for plan in tuned)


def test_the_average_below_it_is_that_of_the_full_rate():
    (swa,) = (m for m in fig11.methods(fig11.SCALES["fashion"]) if m.key == fig11.SWA)
    assert swa.config.schedule.name == "constant"
    assert swa.config.ema.decay == 0.99


def test_fig_11_goes_on_from_the_average_at_nine_tenths():
    planned = fig11.runs(fig11.SCALES["fashion"])
    tuned = {key: plan for key, plan in planned.items() if key[0] == fig11.TUNED}
    assert len(tuned) == 5
    for (_, rho, seed), plan in tuned.items():
        assert plan.parent == (fig11.SWA, rho, seed)
        assert plan.average
        assert plan.config.schedule.name == "piecewise_constant"
        assert plan.epoch == 0.9 * plan.config.epochs
        kept = planned[plan.parent].config.checkpoint
        assert plan.epoch % kept.every_epochs == 0
        assert plan.epoch > plan.config.epochs - kept.keep * kept.every_epochs
