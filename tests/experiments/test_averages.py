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
    assert of_fig_11["erm"].schedule.name == "piecewise_constant"
    averaged = of_fig_11[fig11.SWA]
    assert (averaged.schedule.name, averaged.ema.decay) == cases[-1]
    assert not set(fig11.SCALES["fashion"].seeds) & set(settings.seeds)
    for (rate, decay, seed), plan in planned.items():
        config = configuration.check(plan.config)
        assert config.sam.kind == "erm"
        found = config.schedule.name, config.ema.decay, config.seed
        assert found == (rate, decay, seed)


def test_a_line_is_judged_where_the_average_lies_apart():
    alphas = np.linspace(-0.5, 1.5, 9)
    bowl = np.abs(alphas - 1) + 0.01  # the loss is least at the average
    hill = np.exp(-((alphas - 0.5) ** 2) / 0.01)
    lines = np.zeros((3, 4, 9, 4))
    lines[..., 0] = np.array([bowl, bowl, bowl + hill])[:, None]
    lines[..., 3] = bowl
    lines[:, 1:, 4, 0] *= [1.01, 1.02, 1.03]  # half-way
    distances = np.array([0.01, 0.2, 0.2])[:, None] + 1e-3 * np.arange(4)
    arrays = {
        "alphas": alphas,
        "rates": np.array(["piecewise_constant", "piecewise_constant", "constant"]),
        "decays": np.array([0.99, 0.997, 0.99]),
        "lines": lines,
        "distances": distances,
    }
    claims = list(averages.judge(averages.SCALES["fashion"], arrays))
    assert len(claims) == 2 + 5 + 5
    assert [c.verdict for c in claims[:2]] == ["holds", "holds"]
    assert [c.verdict for c in claims[2:4]] == ["holds", "holds"]
    assert [c.verdict for c in claims[4:7]] == ["holds", "undecided", "holds"]
    assert [c.verdict for c in claims[9:]] == ["holds", "holds", "contrary"]
    assert {c.kind for c in claims} == {"control"}
    assert "0.99, learning rate dropped twice" in claims[0].claim
    assert "0.99, learning rate full" in claims[-1].claim
