"""Early learning: the clean points are fitted first, the noisy ones later.

Margins of a linear model trained by gradient descent on two Gaussians, 22 of 50 labels
flipped. How well margins tell clean from noisy labels is the area under the ROC curve.
"""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting
from sam_jax.toys import descent, gaussians, linear

SOURCE = "Figure 5"
X64 = True
# iteration: area under the curve, by symmetry at the start, else of an independent
# NumPy run of ten seeds.
REFERENCE = {0: 0.5, 2: 1.00, 50: 0.72, 50_000: 0.59}
ENDS = (2, 50_000)  # early in training, and its end


@dataclasses.dataclass(frozen=True)
class Settings:
    """steps: iterations in all; areas are recorded at `times` about evenly in log t."""

    seeds: int = 10
    n: int = 50
    d: int = 100
    sigma: float = 0.1
    flips: int = 22
    step_size: float = 2.0
    steps: int = 50_000
    times: int = 60


SCALES = {
    "smoke": Settings(seeds=2, steps=50, times=10),
    "cpu": Settings(seeds=40),
    "paper": Settings(),
}


def run(settings: Settings) -> Arrays:
    """Margins of the training points and the area under their curve over iterations."""
    s = settings
    spread = np.geomspace(1, s.steps, s.times).astype(int)
    times = np.unique([*(t for t in REFERENCE if t <= s.steps), *spread])

    def one_seed(key):
        problem_key, start_key = jax.random.split(key)
        problem = gaussians.sample(
            problem_key, n=s.n, d=s.d, sigma=s.sigma, flips=s.flips
        )

        def observe(w):
            margins = linear.margins(w, problem.examples)
            return margins, linear.area_under_curve(margins, ~problem.flipped)

        gradient = descent.full_batch(linear.objective(), problem.examples, rho=0.0)
        w = gaussians.start(start_key, s.d)
        seen = descent.descend(
            gradient, w, step_size=s.step_size, times=times, observe=observe
        )
        return problem.flipped, *seen

    keys = jax.random.split(jax.random.key(0), s.seeds)
    flipped, margins, areas = jax.device_get(jax.jit(jax.vmap(one_seed))(keys))
    return {"times": times, "flipped": flipped, "margins": margins, "areas": areas}


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The areas at some times against those of the reference, and what they do."""
    for t, expected in REFERENCE.items():
        areas = arrays["areas"][:, arrays["times"] == t].ravel()
        if len(areas):
            text = f"area under the ROC curve of clean over noisy margins at t = {t}"
            source = "reference run" if t else "by symmetry"
            yield Claim.agrees(text, source, expected, areas, within=0.03)
    early, end = (arrays["areas"][:, arrays["times"] == t].ravel() for t in ENDS)
    if len(early) and len(end):
        text = "area of clean over noisy margins, early in training"
        yield Claim.mean(f"{text} (t = {ENDS[0]})", "Fig. 5b", "good", early, low=0.9)
        text = f"the same at the end of training (t = {ENDS[1]}), near chance"
        yield Claim.mean(text, "Fig. 5c", "disappears", end, low=0.4, high=0.6)


def plot(arrays: Arrays) -> plotting.Figure:
    """Histograms of one seed's margins at three times, and the areas of all seeds."""
    times, margins = arrays["times"], arrays["margins"][0]
    flipped = arrays["flipped"][0]
    figure, axes = plotting.panels(1, 4, width=3.2, height=2.8)
    last = times[-1]
    names = {0: "start of training", 2: "early in training", last: "end of training"}
    for panel, (t, name) in zip(axes, names.items(), strict=False):
        values = margins[times == t][0]
        edges = np.linspace(values.min(), values.max(), 21)
        for mask, label, color in (
            (flipped, "noisy labels", plotting.COLORS[1]),
            (~flipped, "correct labels", plotting.COLORS[0]),
        ):
            panel.hist(values[mask], edges, alpha=0.6, label=label, color=color)
        panel.set(title=f"{name}: t = {t}", xlabel="margin", ylabel="training points")
    axes[0].legend(frameon=False)
    shown = times > 0
    plotting.band(axes[3], times[shown], arrays["areas"][:, shown])
    axes[3].set_xscale("log")
    axes[3].set(xlabel="iteration", ylabel="area under the curve", ylim=(0.5, 1.02))
    axes[3].set_title("clean over noisy margins")
    return figure
