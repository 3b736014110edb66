"""Where the average of ERM's weights lies, over its length and the last rate.

A control of Fig. 11, which at scale fashion found the average on ERM's end: it was over
about a hundred steps at a hundredth of the learning rate. Declared before the run: if
that is what decides it, an average over three times the steps lies apart from the end
that it is an average of, and so does one at the full rate; and there the loss rises
more sharply on ERM's side, without a barrier between.

What came out: the rate takes it there, where the loss is least, and three times the
steps move it by less. As far from the average the loss is alike on both sides. (That
comparison was added after a look.) Fig. 11 takes the full rate since, on other seeds.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from configs import cifar10
from experiments import fig11
from experiments.fig11 import APART
from experiments.harness import comparison, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from sam_jax import plotting
from sam_jax.analysis import restore

SOURCE = "Control of Figure 11, App. D"
ROWS = "control of Fig. 11"
RATES = {"piecewise_constant": "dropped twice", "constant": "full"}
SMALL = 0.05  # a barrier in the training loss below which there is none


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """decays: of the average, that of Fig. 11 and a longer one; the first also at its
    full rate. points: of a line, from alpha = -span at ERM's side to 1 + span.
    """

    decays: tuple[float, float] = (0.999, 0.9997)
    points: int = 9
    span: float = 0.5

    @property
    def cases(self) -> list[tuple[str, float]]:
        """Rates, of RATES, and decays: those of ERM, and one of them changed."""
        (dropped, full), (short, long) = RATES, self.decays
        return [(dropped, short), (dropped, long), (full, short)]


SHORT = (0.99, 0.997)  # a longer one would keep some of the start, in 1,560 steps
SCALES = {
    "smoke": Settings(
        decays=SHORT,
        points=5,
        recipe="smoke",
        changes={"model.name": "mlp", "epochs": 2},
    ),
    "cpu": Settings(seeds=(0, 1, 2), decays=SHORT, recipe="embedded"),
    "fashion": Settings(seeds=(0, 1, 2, 3, 4), decays=SHORT, recipe="fashion"),
    "paper": Settings(seeds=(0, 1, 2)),
}


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """ERM in every case, on all seeds."""
    config = cifar10.get_config(variants("erm", settings.recipe))
    found: dict[Key, PlannedRun] = {}
    for (rate, decay), seed in itertools.product(settings.cases, settings.seeds):
        own = {"schedule.name": rate, "ema.decay": decay, "seed": seed}
        plan = PlannedRun(changed(config, {**settings.changes, **own}))
        found[rate, decay, seed] = plan
    return found


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Figures of `fig11` on the lines, f[cases, seeds, points, 4], and how far the
    average is from ERM over how far it is from the start, f[cases, seeds].
    """
    alphas = np.linspace(-settings.span, 1 + settings.span, settings.points)
    lines, distances = [], []
    for case, seed in itertools.product(settings.cases, settings.seeds):
        one = restore.read(trained[*case, seed].workdir)
        (state,) = one.states(one.epochs()[-1:])
        met = fig11.lines_from(one, state, [state.ema_params], alphas)
        lines.append(met[0][0])
        distances.append(met[1][0])
    shape = len(settings.cases), len(settings.seeds)
    rates, decays = zip(*settings.cases, strict=True)
    return {
        "alphas": alphas,
        "rates": np.array(rates),
        "decays": np.array(decays),
        "lines": np.reshape(lines, (*shape, *np.shape(lines)[1:])),
        "distances": np.reshape(distances, shape),
    }


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Of every case: how far the average lies from ERM's end, and its error; and where
    it lies apart, the line between them.
    """
    at = [int(np.argmin(abs(arrays["alphas"] - alpha))) for alpha in (1, 0)]
    cases = zip(_labels(arrays), arrays["distances"], arrays["lines"], strict=True)
    for i, (label, distance, lines) in enumerate(cases):
        text = f"average of decay {label}"
        # The first is the one that Fig. 11 had before.
        limits: dict[str, Any] = {"low": APART} if i else {"high": APART}
        words = "apart from ERM's end" if i else "on ERM's end"
        claim = f"{text} lies {words}: distance over that from the start"
        yield Claim.mean(claim, ROWS, None, distance, **limits)
        error = lines[:, at, 3].T
        claim = f"{text} below its ERM: test error, last epoch"
        yield pairs.paired(claim, ROWS, None, *error)
        if distance.mean() > APART:
            yield from _of_the_line(arrays["alphas"], lines[..., 0], text)


def _of_the_line(alphas: np.ndarray, losses: np.ndarray, text: str) -> Iterator[Claim]:
    """A sharp rise on ERM's side, as Fig. 11 has it, and as far from the average on
    both; and no barrier.
    """
    ratio = fig11.side(losses)
    words = f"{10 ** ratio.mean():.3g}, geometric mean"
    claim = f"{text}: training loss beyond ERM over that beyond the average, log10"
    yield Claim.mean(claim, ROWS, None, ratio, low=0, measured=words)
    as_far = abs(alphas - (2 - alphas[-1])) < 1e-6
    ratio = np.log10(losses[:, as_far][:, 0] / losses[:, -1])
    words = f"{10 ** ratio.mean():.3g}, geometric mean"
    claim = f"{text}: training loss on ERM's side over that as far beyond it, log10"
    yield Claim.mean(claim, ROWS, None, ratio, low=0, measured=words)
    inside = (alphas >= 0) & (alphas <= 1)
    claim = f"{text}: barrier of the training loss, over the higher end"
    barrier = fig11.barrier(losses[:, inside])
    yield Claim.mean(claim, ROWS, None, barrier, high=SMALL)


def _labels(arrays: Arrays) -> list[str]:
    cases = zip(arrays["rates"], arrays["decays"], strict=True)
    return [f"{decay:g}, learning rate {RATES[str(rate)]}" for rate, decay in cases]


def plot(arrays: Arrays) -> plotting.Figure:
    """Training loss and test error on the lines from ERM to its average."""
    figure, axes = plotting.panels(1, 2)
    for i, where in enumerate(_labels(arrays)):
        line = {"color": plotting.COLORS[i], "label": where}
        for panel, at, unit in ((axes[0], 0, 1), (axes[1], 3, 100)):
            values = unit * arrays["lines"][i, :, :, at]
            plotting.band(panel, arrays["alphas"], values, **line)
    for panel, what in zip(axes, ("training loss", "test error (%)"), strict=True):
        for at in (0, 1):
            panel.axvline(at, color="gray", linewidth=0.8)
        panel.set(xlabel="0: ERM, 1: its average", ylabel=what)
        panel.margins(x=0)
    axes[0].set_yscale("log")
    style = {"edgecolor": "none", "framealpha": 1, "fontsize": "small"}
    axes[1].legend(title="decay of the average", loc="upper right", **style)
    return figure
