"""The loss on the line from ERM's weights to SAM's, and to the average of ERM's own.

SAM ends in another valley than ERM; the average of ERM's weights in the same one. The
average is what the paper calls SWA: an exponential moving one from the first step on
(App. C). BatchNorm's statistics are made anew on the way. Another run is ERM from that
average for the last tenth of the epochs, where SAM improves on ERM in Fig. 2.

In few epochs an average at the dropped rate lies on ERM's end, and a line to it tests
nothing (`averages`). Below the paper's scale it is that of a run at the full rate, on
seeds that `averages` has not; ERM goes on from it at its own, dropped rate.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from configs import cifar10
from experiments.harness import comparison
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed, variants
from experiments.harness.statistics import UNDECIDED
from sam_jax import plotting, sharpness
from sam_jax.analysis import networks, restore

SOURCE = "Figure 11"
LABELS = {"erm": "ERM", "sam": "SAM"}
SWA = "swa"  # the key of ERM at the full rate, whose average it is
TUNED = "tuned"  # and of the runs that go on from that
ENDS = {"sam": "SAM", "ema": "its average"}
# |average - ERM| / |average - start| below which the line between them tests nothing.
APART = 0.05
# Points that are a rise, five images of the test set. Set after a look: the interval of
# -.04 to .02 would leave any rise at all undecided.
RISE = 0.05
FIGURES = ("train_loss", "test_loss", "train_error", "test_error")


@dataclasses.dataclass(frozen=True)
class Settings:
    """swa_rate: the schedule of the run whose average it is, of its own if not ERM's.
    points: of a line, from alpha = -span at ERM's side to 1 + span.
    """

    seeds: tuple[int, ...] = (0,)
    rho: float = 0.1
    swa_rate: str = "constant"
    points: int = 31
    span: float = 0.5
    ema_decay: float = 0.999
    recipe: str = ""
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def averaged(self) -> str:
        """The key of the runs whose averages are taken."""
        return SWA if self.swa_rate else "erm"


SCALES = {
    "smoke": Settings(
        points=5, recipe="smoke", changes={"model.name": "mlp", "epochs": 2}
    ),
    "cpu": Settings(seeds=(0, 1, 2), rho=0.05, ema_decay=0.99, recipe="embedded"),
    "fashion": Settings(seeds=(5, 6, 7, 8, 9), ema_decay=0.99, recipe="fashion"),
    "paper": Settings(seeds=(0, 1, 2), swa_rate=""),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM and SAM, and ERM with an average."""
    found = {}
    for kind, label in LABELS.items():
        config = cifar10.get_config(variants(kind, settings.recipe))
        config = changed(config, settings.changes)
        found[kind] = comparison.Method(kind, label, config, (settings.rho,))
    erm = found["erm"].config
    erm.ema.decay = settings.ema_decay
    if settings.swa_rate:
        config = changed(erm, {"schedule.name": settings.swa_rate})
        found[SWA] = comparison.Method(SWA, "ERM, full rate", config, (settings.rho,))
    # The checkpoint at nine tenths is the start of the fine-tuning.
    kept = found[settings.averaged].config
    kept.checkpoint.update(every_epochs=max(kept.epochs // 10, 1), keep=2)
    return list(found.values())


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """ERM, SAM and the fine-tuned average on every seed."""
    found = comparison.plan(methods(settings), settings.seeds)
    for seed in settings.seeds:
        parent: Key = (settings.averaged, settings.rho, seed)
        every = found[parent].config.checkpoint.every_epochs
        config = found["erm", settings.rho, seed].config
        last = (config.epochs - 1) // every * every
        key = (TUNED, settings.rho, seed)
        found[key] = PlannedRun(config, parent, last, average=True)
    return found


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Losses and errors on both lines, and how far all ends are apart. tuned: test
    errors of the average at nine tenths, and of what ERM made of it, f[seeds, 2].
    """
    s = settings
    alphas = np.linspace(-s.span, 1 + s.span, s.points)
    lines, distances = [], []
    for seed in s.seeds:
        kinds = ("erm", "sam", s.averaged)
        met = _lines(*(trained[kind, s.rho, seed].workdir for kind in kinds), alphas)
        lines.append(met[0])
        distances.append(met[1])
    lines, distances = np.array(lines), np.array(distances)
    arrays: dict[str, np.ndarray] = {"alphas": alphas}
    for i, end in enumerate(ENDS):
        arrays[f"{end}_distance"] = distances[:, i]
        for j, figure in enumerate(FIGURES):
            arrays[f"{end}_{figure}"] = lines[:, i, :, j]
    tuned = []
    for seed in s.seeds:
        pair = (trained[key, s.rho, seed].workdir for key in (s.averaged, TUNED))
        tuned.append(_tuned(*pair, runs(s)[TUNED, s.rho, seed]))
    arrays |= {"tuned": np.array(tuned), "swa_rate": np.array(s.swa_rate)}
    return {**arrays, "sam_ema_distance": distances[:, -1]}


def _lines(erm_dir, sam_dir, swa_dir, alphas) -> tuple[np.ndarray, np.ndarray]:
    """Figures f[2, points, 4] on the lines from ERM to SAM and from a run to its
    average. Distances f[3]: of SAM from ERM, of the average from its run, and of SAM
    from the average, each over that of the first from its start.
    """
    runs = [restore.read(folder) for folder in (erm_dir, sam_dir, swa_dir)]
    erm, sam, swa = (next(run.states(run.epochs()[-1:])) for run in runs)
    to_sam = lines_from(runs[0], erm, [sam.params], alphas)
    to_average = lines_from(runs[2], swa, [swa.ema_params], alphas)
    lines, distances = zip(to_sam, to_average, strict=True)
    start = runs[1].initial_state().params
    apart = sharpness.relative_distance(sam.params, swa.ema_params, start)
    return np.concatenate(lines), np.array([*np.concatenate(distances), apart])


def lines_from(
    run: restore.Finished, state: Any, ends: Sequence[Any], alphas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """FIGURES on the lines from a run's weights to others, f[ends, points, 4], and how
    far these are from them, over how far they are from the start, f[ends].
    """
    evaluate = networks.evaluate_anew(run, state)

    def figures(params):
        met = evaluate(params)
        return [met[name] for name in FIGURES]

    start = run.initial_state().params
    lines = [sharpness.interpolate(figures, state.params, e, alphas) for e in ends]
    apart = [sharpness.relative_distance(e, state.params, start) for e in ends]
    return np.array(lines), np.array(apart)


def _tuned(
    swa_dir: pathlib.Path, tuned_dir: pathlib.Path, plan: PlannedRun
) -> list[float]:
    """Test errors before and after the fine-tuning, BatchNorm's statistics made anew
    for both.
    """
    before, after = restore.read(swa_dir), restore.read(tuned_dir)
    (start,) = before.states([plan.epoch])
    (end,) = after.states([plan.config.epochs])
    evaluate = networks.evaluate_anew(before, start)
    return [evaluate(params)["test_error"] for params in (start.ema_params, end.params)]


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Barriers on both lines, how far their ends are apart, and the fine-tuning; with
    the rho of what is claimed of SAM.
    """
    rho = f"SAM {settings.rho:g}, not chosen"
    erm = "ERM at the full rate" if settings.swa_rate else "ERM"
    for claim in _claims(arrays, erm):
        yield dataclasses.replace(claim, rho=rho) if "SAM" in claim.claim else claim


def _claims(arrays: Arrays, averaged: str) -> Iterator[Claim]:
    inside = (arrays["alphas"] >= 0) & (arrays["alphas"] <= 1)
    peaks = {end: barrier(arrays[f"{end}_train_loss"][:, inside]) for end in ENDS}
    text = "barrier of the training loss between {} and {}, over the higher end"
    to_sam = text.format("ERM", "SAM")
    yield Claim.mean(to_sam, "Fig. 11", "a peak", peaks["sam"], low=0)
    gap = peaks["ema"] - peaks["sam"]
    words = f"{peaks['ema'].mean():.3g} against {peaks['sam'].mean():.3g}"
    text = f"{text.format(averaged, 'its average')}, below that to SAM"
    claim = Claim.mean(text, "Fig. 11", "none", gap, high=0, measured=words)
    yield _if_apart(arrays, claim)
    error = 100 * arrays["sam_test_error"]
    ends = np.maximum(error[:, inside][:, 0], error[:, inside][:, -1])
    peak = error[:, inside].max(1)
    text = "largest test error between ERM and SAM above the higher end (points)"
    words = f"{(peak - ends).mean():.1f}, at {peak.mean():.1f} %"
    yield Claim.mean(
        text, "Fig. 11", "a peak of 40 %", peak - ends, low=1, measured=words
    )
    yield from _side_claims(arrays, averaged)
    text = "|w_SAM - w_SWA| / |w_SAM - start|"
    yield Claim.agrees(text, "App. D", 1 / 3, arrays["sam_ema_distance"], within=0.1)
    before, after = 100 * arrays["tuned"].T
    text = f"the test error rises by {RISE} when ERM goes on from its average (points)"
    words = f"{(after - before).mean():.2f}, from {before.mean():.1f} %"
    paper = "slight overfitting"
    yield Claim.mean(text, "App. D", paper, after - before, low=RISE, measured=words)
    far, near = arrays["sam_distance"], arrays["ema_distance"]
    text = "|w_SWA - w_ERM| / |w_SWA - start|, below that of SAM"
    words = f"{near.mean():.3g} against {far.mean():.3g}"
    claim = Claim.mean(text, "App. D", None, near - far, high=0, measured=words)
    yield _if_apart(arrays, claim)


def _if_apart(arrays: Arrays, claim: Claim) -> Claim:
    """The claim, undecided where the average is as good as ERM's end itself."""
    if not claim.holds or arrays["ema_distance"].mean() > APART:
        return claim
    words = f"{claim.measured}; but the average lies on ERM's end"
    return dataclasses.replace(claim, measured=words, verdict=UNDECIDED)


def _side_claims(arrays: Arrays, averaged: str) -> Iterator[Claim]:
    """The loss rises more sharply on ERM's side of the line to the average than a bowl
    around the average does: it is farther from there.
    """
    ratio, span = side(arrays["ema_train_loss"]), -arrays["alphas"][0]
    bowl = 2 * np.log10((1 + span) / span)
    text = f"training loss {span:g} beyond {averaged} over that {span:g} beyond its"
    text = f"{text} average, log10; a bowl around the average has {10**bowl:.0f}"
    words = f"{10 ** ratio.mean():.3g}, geometric mean"
    paper = "a sharp rise"
    yield Claim.mean(text, "App. D", paper, ratio, low=bowl, measured=words)


def side(losses: np.ndarray) -> np.ndarray:
    """log10 of the loss at the first end of a line over that at the last, f[seeds]."""
    return np.log10(losses[:, 0] / losses[:, -1])


def barrier(losses: np.ndarray) -> np.ndarray:
    """Greatest loss on a line over the higher of its two ends, f[seeds]."""
    return losses.max(1) - np.maximum(losses[:, 0], losses[:, -1])


def plot(arrays: Arrays) -> plotting.Figure:
    """Loss and error on the lines to SAM and to the average."""
    figure, axes = plotting.panels(2, 2)
    at_rate = " at the full rate" * bool(str(arrays["swa_rate"]))
    starts = {"sam": "ERM", "ema": f"ERM{at_rate}"}
    for row, (end, label) in enumerate(ENDS.items()):
        for panel, name, unit in (
            (axes[2 * row], "loss", 1),
            (axes[2 * row + 1], "error", 100),
        ):
            for color, part in zip(plotting.COLORS, ("train", "test"), strict=False):
                values = unit * arrays[f"{end}_{part}_{name}"]
                x = arrays["alphas"]
                plotting.band(panel, x, values, color=color, label=part)
            for at in (0, 1):
                panel.axvline(at, color="gray", linewidth=0.8)
            panel.set(xlabel=f"0: {starts[end]}, 1: {label}")
            panel.set(ylabel=name if unit == 1 else f"{name} (%)")
            panel.margins(x=0)
        axes[2 * row].set_yscale("log")
        axes[2 * row].set_title(f"from {starts[end]} to {label}")
    axes[0].legend(frameon=False)
    return figure
