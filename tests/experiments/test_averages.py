"""Where averages lie: a run for every rate and decay, and what is said of a line."""

import numpy as np

from experiments import averages, fig11
from sam_jax.training import configuration


def test_one_thing_differs_from_fig_11_at_a_time():
    settings = averages.SCALES["fashion"]
    planned = averages.runs(settings)
    assert len(planned) == 3 * 5
    cases = [
        ("piecewise_constant", 0.99),
        ("piecewise_constant", 0.997),
        ("constant", 0.99),
    ]
    assert list(dict.fromkeys(key[:2] for key in planned)) == cases
    of_fig_11 = {m.key: m.config for m in fig11.methods(fig11.SCALES["fashion"])}
    assert of_fig_11["erm"].ema.decay == 0.99
    assert of_fig_11["erm"].schedule.name == "piecewise_constant"
    for (rate, decay, seed), plan in planned.items():
        config = configuration.check(plan.config)
        assert config.sam.kind == "erm"
        found = config.schedule.name, config.ema.decay, config.seed
        assert found == (rate, decay, seed)


def test_an_average_is_judged_by_the_line_to_it():
    alphas = np.linspace(-0.5, 1.5, 9)
    near, far = np.abs(alphas), np.abs(alphas - 1)  # the loss is least at ERM; at it
    hill = np.exp(-((alphas - 0.5) ** 2) / 0.01)
    losses = np.array([near, far, near + hill])
    lines = np.zeros((3, 3, 9, 4))
    lines[..., 0] = losses[:, None] + 0.01
    lines[..., 3] = lines[..., 0]
    distances = np.array([0.01, 0.2, 0.2])[:, None] + np.zeros(3)
    arrays = {
        "alphas": alphas,
        "rates": np.array(["piecewise_constant", "piecewise_constant", "constant"]),
        "decays": np.array([0.99, 0.997, 0.99]),
        "lines": lines + 1e-4 * np.arange(3)[:, None, None],
        "distances": distances + 1e-3 * np.arange(3),
    }
    claims = list(averages.judge(averages.SCALES["fashion"], arrays))
    verdicts = [[c.verdict for c in claims[i : i + 4]] for i in range(0, 12, 4)]
    assert verdicts[0] == ["holds", "contrary", "holds", "contrary"]
    assert verdicts[1] == ["holds", "holds", "holds", "holds"]
    assert verdicts[2] == ["holds", "contrary", "contrary", "contrary"]
    assert {c.kind for c in claims} == {"control"}
    assert "0.99, learning rate dropped twice" in claims[0].claim
    assert "0.99, learning rate full" in claims[-1].claim
