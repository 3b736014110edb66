"""SumMax against SAM with one perturbation for the batch, on a network (Sec. 4).

"Using SumMax SAM leads to better generalization than MaxSum SAM", the paper says where
it turns to linear models; it shows that of the diagonal networks of Fig. 1. Here with
60% label noise, on twenty seeds that `m_sharpness` has not: its ten left it undecided.
Both have grids of rho by its rule.
"""

import dataclasses
from collections.abc import Iterator

from experiments import m_sharpness
from experiments.harness import comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.m_sharpness import Settings, methods, run, runs
from sam_jax import plotting

__all__ = ["SCALES", "SOURCE", "judge", "methods", "plot", "run", "runs"]

SOURCE = "Section 4, SumMax and MaxSum"
TAKES = ("m_sharpness", "fig10")  # whose trained runs are taken
LABELS = {"none_erm": "ERM", "none_1": "m = 1 (SumMax)", "none_0": "m = batch"}
SCALES = {
    scale: dataclasses.replace(settings, m=(1, 0), norms=("none",))
    for scale, settings in m_sharpness.SCALES.items()
}
SCALES["fashion"] = dataclasses.replace(SCALES["fashion"], seeds=comparison.MORE_SEEDS)


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """SumMax below MaxSum, and both below ERM."""
    for at in ("best", "last"):
        text = f"SumMax (m = 1) below m = batch: test error, {at} epoch"
        yield pairs.lower(text, "Sec. 4", None, arrays, "none_1", "none_0", at)
    for key in ("none_1", "none_0"):
        text = f"{LABELS[key]} below ERM: test error, best epoch"
        yield pairs.lower(text, "control", None, arrays, key, "none_erm")


def plot(arrays: Arrays) -> plotting.Figure:
    """Test error over epochs, and the best epoch's over rho."""
    return comparison_plots.curves_and_grid(arrays, LABELS)
