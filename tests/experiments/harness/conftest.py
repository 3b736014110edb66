"""An experiment for the tests of folders and of the report."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness import registry
from experiments.harness.claims import Claim
from sam_jax import plotting


@dataclasses.dataclass(frozen=True)
class Settings:
    seeds: int = 3
    rho: float = 0.1


def fake(**changes):
    """An experiment that saves its settings."""

    def run(settings):
        arrays = {"x": np.arange(4.0), "runs": np.full((settings.seeds, 4), 2.0)}
        return {**arrays, "width": np.array(jnp.zeros(1).itemsize)}

    def judge(settings, arrays):
        two = jnp.float32(arrays["runs"].mean())
        yield Claim.close("two", "Fig. 0", 2.0, two, 0.1)
        yield Claim.decided("a|b", "Fig. 0", None, 3, "<= 1", np.bool_(False))
        yield Claim.mean("mean", "target", None, np.array([1.0, 2.0, 6.0]), low=0)

    def plot(arrays):
        figure, (axes,) = plotting.panels()
        plotting.band(axes, arrays["x"], arrays["runs"])
        return figure

    module = types.ModuleType("fake", "A fake.\n\nMore.")
    scales = {
        "smoke": Settings(1),
        "cpu": Settings(),
        "paper": Settings(rho=0.2),
    }
    parts = {"SOURCE": "Figure 0", "SCALES": scales, "run": run}
    parts |= {"judge": judge, "plot": plot}
    module.__dict__.update(parts | changes)
    return module


@pytest.fixture
def module(monkeypatch):
    chosen = fake()
    monkeypatch.setattr(registry, "load", lambda name: chosen)
    monkeypatch.setattr(registry, "names", lambda: ["fake", "other"])
    return chosen
