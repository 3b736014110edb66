"""AutoAttack on adversarial training: plain, with pairing, with SAM; best and last.

The standard ensemble of four attacks on the first test images, so that a low robust
error by one attack is not taken for masked gradients.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from experiments.harness import adversarial, comparison, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.paper_scale import AUTO_ATTACK as PAPER
from experiments.harness.runs import Key, Measurement, PlannedRun, TrainedRun, read
from sam_jax import plotting
from sam_jax.analysis import robustness

SOURCE = "App. D, AutoAttack"
SHARED = adversarial.SHARED
KEYS = ("at", "pairing", "sam")
WHEN = ("best", "last")
FAR = 1.25  # times the median: what lies above is drawn at the end of the axis


@dataclasses.dataclass(frozen=True)
class Settings(adversarial.Settings):
    """count: test images attacked; 0 for all."""

    count: int = 0


SCALES = adversarial.scales(Settings())
SCALES["smoke"] = dataclasses.replace(SCALES["smoke"], count=16)
# Five of the ten seeds, and the radius that Fig. 7 chose on two of them: AutoAttack
# takes its time.
SCALES["fashion"] = dataclasses.replace(
    SCALES["fashion"], count=500, seeds=comparison.FASHION_SEEDS[:5], rho=(0.1,)
)


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """The three methods on every seed; where no radius is to be chosen, attacked where
    they are trained.
    """
    planned = adversarial.plan(adversarial.methods(settings, KEYS), settings)
    attack = _measurement(settings)
    return {
        key: plan._replace(then=attack if len(settings.rho) == 1 else None)
        for key, plan in planned.items()
    }


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Robust errors by PGD, and of the chosen runs by AutoAttack, and by the first of
    its attacks, f[seeds, when].
    """
    arrays = dict(adversarial.collect(settings, KEYS, trained))
    for key in KEYS:
        rho = list(arrays[f"{key}_rho"])[comparison.index(arrays, key)]
        chosen = [trained[key, rho, seed] for seed in settings.seeds]
        errors = np.array([_measurement(settings).of(r.workdir) for r in chosen])
        arrays[f"{key}_first"], arrays[f"{key}_auto"] = np.moveaxis(errors, -1, 0)
    return arrays


def _measurement(settings: Settings) -> Measurement:
    return Measurement("auto_attack.json", attacked, {"count": settings.count})


def attacked(workdir: pathlib.Path, *, count: int) -> list[list[float]]:
    """Of a run's best epoch and its last: robust errors by APGD, and by all attacks.

    Args:
      count: test images attacked; 0 for all.
    """
    run = read(workdir)
    epochs = [int(run.figure("best_epoch")), int(run.figure("epochs"))]
    found = robustness.auto_attack(workdir, epochs, count=count or None)
    results = [audit.result for audit in found]
    return [[r.robust_error["apgd_ce"], 1 - float(r.robust.mean())] for r in results]


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """SAM and pairing below plain training by AutoAttack; no masking."""
    for key in ("sam", "pairing"):
        for i, when in enumerate(WHEN):
            text = f"{adversarial.METHODS[key][0]} below plain by AutoAttack, {when}"
            paper = f"{PAPER[key]} against {PAPER['at']}" if when == "best" else None
            errors = (arrays[f"{k}_auto"][:, i] for k in (key, "at"))
            yield pairs.paired(text, SOURCE, paper, *errors)
    for key in KEYS:
        gap = (arrays[f"{key}_auto"] - arrays[f"{key}_first"])[:, 1]
        text = f"{adversarial.METHODS[key][0]}: AutoAttack above APGD, last (points)"
        yield Claim.mean(text, f"control of {SOURCE}: masking", None, 100 * gap, high=5)


def plot(arrays: Arrays) -> plotting.Figure:
    """Every seed as a point, with the median; what lies far above at the upper end."""
    figure, (axes,) = plotting.panels(width=5.5)
    every = 100 * np.concatenate([arrays[f"{key}_auto"].ravel() for key in KEYS])
    top = min(every.max() + 2, FAR * np.median(every))
    for i, key in enumerate(KEYS):
        for j, when in enumerate(WHEN):
            errors = 100 * arrays[f"{key}_auto"][:, j]
            x, color = i + 0.4 * j - 0.2, plotting.COLORS[j]
            label = f"{when} epoch" if i == 0 else None
            inside = errors[errors <= top]
            axes.plot(np.full(len(inside), x), inside, "o", color=color, label=label)
            axes.hlines(np.median(errors), x - 0.12, x + 0.12, color=color)
            for error in errors[errors > top]:
                axes.plot(x, top - 0.7, "^", color=color)
                axes.annotate(f" {error:.0f}", (x + 0.03, top - 0.7), va="center")
    axes.set_xticks(range(len(KEYS)), ["plain", "+ pairing", "+ SAM"])
    axes.set(ylabel="robust test error by AutoAttack (%)")
    axes.set_xlabel("points: seeds, lines: their medians")
    axes.set(ylim=(every.min() - 2, top))
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure
