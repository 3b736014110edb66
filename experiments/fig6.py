"""A margin offset acts on points of small positive margin; with GCE also of negative.

Sec. 4.2: on a linear model SumMax subtracts c = rho |x| from every margin. The change
l'(z - c) - l'(z) of the loss derivative is what reweights clean and noisy points.
"""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting
from sam_jax.toys import linear

SOURCE = "Figure 6"
X64 = True
EXACT, RUN = "closed form", "reference run"
LOSSES = {"CE": linear.cross_entropy, "GCE": linear.generalized_cross_entropy}


@dataclasses.dataclass(frozen=True)
class Settings:
    """offset: c. reach: margins from -reach to reach. points: of the grid."""

    offset: float = 2.0
    reach: float = 8.0
    points: int = 16_001


SCALES = dict.fromkeys(("smoke", "cpu", "paper"), Settings())


def run(settings: Settings) -> Arrays:
    """Losses and derivative changes on a grid of margins (GCE with q = 0.7)."""
    c = settings.offset
    margin = np.linspace(-settings.reach, settings.reach, settings.points)
    arrays = {"margin": margin, "offset": np.array(c)}
    for name, loss in LOSSES.items():
        z = jnp.array(margin)
        arrays[f"{name}_loss"] = np.asarray(loss(z))
        arrays[f"{name}_offset_loss"] = np.asarray(loss(z - c))
        arrays[f"{name}_change"] = np.asarray(linear.derivative_change(loss, z, c))
    return arrays


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The places and sizes of the extrema of both derivative changes."""
    z, c = arrays["margin"], float(arrays["offset"])
    ce, gce = arrays["CE_change"], arrays["GCE_change"]
    crossing = np.flatnonzero(np.diff(np.sign(gce)))
    width = z[1] - z[0]
    for text, source, paper, measured, tolerance in (
        ("CE: margin of the least change, c / 2", EXACT, c / 2, z[ce.argmin()], width),
        ("CE: least change, -tanh(c / 4)", EXACT, -np.tanh(c / 4), ce.min(), 1e-6),
        ("GCE: margin of the least change", RUN, 2.248, z[gce.argmin()], 2e-3),
        ("GCE: least change", RUN, -0.2037, gce.min(), 1e-4),
        ("GCE: margin of the greatest change", RUN, -0.992, z[gce.argmax()], 2e-3),
        ("GCE: greatest change", RUN, 0.1788, gce.max(), 1e-4),
        ("GCE: margin without change", RUN, 0.614, z[crossing].mean(), 2e-3),
    ):
        yield Claim.close(text, source, paper, measured, tolerance)
    for text, source, at, low, high in (
        ("CE: the derivative falls", "Fig. 6b", z[ce.argmin()], 0, 2 * c),
        ("GCE: the derivative falls", "Fig. 6c", z[gce.argmin()], 0, 2 * c),
        ("GCE: the derivative rises", "Fig. 6c", z[gce.argmax()], -2 * c, 0),
    ):
        paper = "small, positive" if low == 0 else "small, negative"
        text, words = f"{text} most at the margin", f"{low:g} to {high:g}"
        yield Claim.decided(text, source, paper, at, words, bool(low < at < high))
    text = "CE: greatest rise of the derivative anywhere"
    yield Claim.decided(text, "Fig. 6b", "none", ce.max(), "<= 0", bool(ce.max() <= 0))


def plot(arrays: Arrays) -> plotting.Figure:
    """(a) Both losses, (b) the derivative change of CE, (c) that of GCE."""
    z, c = arrays["margin"], arrays["offset"]
    figure, axes = plotting.panels(1, 3, width=3.4, height=2.8)
    for name, color in zip(LOSSES, plotting.COLORS, strict=False):
        axes[0].plot(z, arrays[f"{name}_loss"], color=color, label=name)
        offset = arrays[f"{name}_offset_loss"]
        axes[0].plot(z, offset, "--", color=color, label=f"{name}, offset c = {c:g}")
    axes[0].set(title="losses", xlabel=r"margin $y f_x(w)$", ylabel="loss")
    axes[0].legend(frameon=False)
    for panel, name, color in zip(axes[1:], LOSSES, plotting.COLORS, strict=False):
        panel.axhline(0, color="gray", linewidth=0.8)
        panel.axvline(0, color="gray", linewidth=0.8, linestyle=":")
        panel.plot(z, arrays[f"{name}_change"], color=color)
        title = f"derivative change for {name}, c = {c:g}"
        panel.set(title=title, xlabel=r"margin $y f_x(w)$", ylim=(-0.5, 0.25))
        panel.set_ylabel(r"$\ell'(z - c) - \ell'(z)$")
    return figure
