"""Every experiment runs at smoke scale, in float32 mode as a user would start it."""

import jax
import numpy as np
import pytest

from experiments.harness import execution, registry
from sam_jax import attacks
from sam_jax.attacks import auto

# Claims that hold with any number of seeds and steps.
CERTAIN = {
    "fig4": ["22 of 50", "26 of 50"],
    "fig5": ["at t = 2"],
    "fig6": ["CE: ", "GCE: "],
    "fig8": ["label-preserving"],
    "facts": ["I: ", "II: ", "III: "],
    "implicit_bias": ["distance of flow", "order in rho", "least distance"],
    "step_sizes": ["normalised on"],
    "errata": [f"{number}: " for number in range(1, 10)],
    "convergence": ["mean w", "x^2 + 3 sin^2 x", "1 - cos"],
}


@pytest.fixture
def quick_attacks(monkeypatch):
    """The standard AutoAttack asks a network 5000 times."""
    for name, attack in auto.ATTACKS.items():
        steps = {"queries": 20} if name == "square" else {"steps": 8}
        monkeypatch.setitem(auto.ATTACKS, name, jax.tree_util.Partial(attack, **steps))


@pytest.mark.program
# At this scale a network may be as good as untrained, its gradient 0 on most images.
@pytest.mark.filterwarnings(
    f"ignore::{attacks.GradientMaskingWarning.__module__}.GradientMaskingWarning"
)
@pytest.mark.parametrize("name", registry.names())
def test_smoke(name, tmp_path, quick_attacks):
    with jax.enable_x64(False):
        claims = execution.execute(name, "smoke", tmp_path / name)
        assert execution.check(tmp_path / name).odd == []
    assert claims
    assert {"settings.json", "arrays.npz", "claims.json", "figure.png"} <= {
        path.name for path in (tmp_path / name).iterdir()
    }
    for text in CERTAIN.get(name, []):
        chosen = [claim for claim in claims if text in claim.claim]
        assert chosen, text
        assert all(claim.holds for claim in chosen), chosen


@pytest.mark.parametrize("name", registry.names())
def test_scales_are_declared_and_the_sources_named(name):
    module = registry.load(name)
    known = [scale for scale in registry.SCALES if scale in module.SCALES]
    assert list(module.SCALES) == known
    assert {"smoke", "cpu", "paper"} <= set(known)
    assert module.SOURCE
    assert len(registry.title(module)) <= 88


@pytest.mark.program
def test_false_statements_of_the_paper_are_reported_as_false(tmp_path):
    for name in ("facts", "convergence"):
        claims = execution.execute(name, "smoke", tmp_path / name)
        printed = [claim for claim in claims if "printed" in claim.source]
        assert len(printed) == {"facts": 1, "convergence": 3}[name]
        assert not any(claim.holds for claim in printed)


def test_figure_4_sees_the_majority():
    # With 26 of 50 labels wrong the wrong ones are the majority: SAM learns them.
    module = registry.load("fig4")
    with jax.enable_x64(True):
        arrays = module.run(module.SCALES["smoke"])
    few, many = arrays["error"][0, :, :, -1], arrays["error"][-1, :, :, -1]
    assert np.all(few[1] <= few[0])
    assert np.all(many[1] > 0.5)
