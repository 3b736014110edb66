"""The mechanism of Sec. 4: ascent raises the loss derivatives of clean examples.

60% label noise. At checkpoints of ERM and of SAM: the mean derivative 1 - p_y of clean
examples over that of noisy ones, and by which factor the ascent of single examples
(SumMax), of groups, of the batch (SAM), of another batch (MaxSum) and of a random
direction multiplies this ratio. All ascents have one radius. SAM's direction alone
takes its derivatives at w, so that its factor is 1; its derivative alone has SAM's.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from configs import cifar10_noise
from experiments.harness import comparison
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from sam_jax import plotting
from sam_jax.analysis import networks

SOURCE = "Section 4"
LABELS = {"erm": "ERM", "sam": "SAM"}
ALIKE = 0.01  # the factor counts as 1 within this
EVERY = 0.99  # share of examples that counts as all: the offset is of first order


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of the runs and of the ascents measured, one. groups: sizes m of those, 0
    for the batch. checkpoints: at how many of them, batches: over how many each.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rho: tuple[float, ...] = (0.1,)
    groups: tuple[int, ...] = (1, 16, 0)
    checkpoints: int = 10
    batches: int = 20


PLAIN = comparison.PLAIN  # single examples have no BatchNorm
SCALES = {
    "smoke": Settings(
        seeds=(0,),
        groups=(1, 0),
        checkpoints=3,
        batches=1,
        recipe="smoke",
        changes=PLAIN,
    ),
    "cpu": Settings(recipe="embedded", changes=PLAIN),
    "fashion": Settings(checkpoints=20, batches=8, recipe="fashion", changes=PLAIN),
    "paper": Settings(checkpoints=50, changes={"model.norm": "group"}),
}


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """ERM and SAM on every seed, with their checkpoints."""
    found = comparison.from_recipe(cifar10_noise.get_config, LABELS, settings)
    for method in found:
        every = method.config.epochs // settings.checkpoints
        method.config.checkpoint.update(every_epochs=every, keep=settings.checkpoints)
        method.config.sam.rho = settings.rho[0]
    return comparison.plan(found, settings.seeds)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Mean derivatives [seeds, checkpoints, ascents, 2], at w and where an ascent ends;
    shares of examples whose margin it does not raise [seeds, checkpoints, ascents].
    """
    arrays: dict[str, np.ndarray] = {"seeds": np.asarray(settings.seeds)}
    arrays["ascents"] = np.array([*map(_name, settings.groups), "MaxSum", "random"])
    for kind in LABELS:
        found = [
            networks.weights_over_training(
                run.workdir,
                rho=settings.rho[0],
                groups=settings.groups,
                batches=settings.batches,
            )
            for key, run in trained.items()
            if key[0] == kind
        ]
        arrays["epoch"] = found[0].epochs
        for name in ("clean", "noisy", "lowered"):
            arrays[f"{kind}_{name}"] = np.stack([getattr(f, name) for f in found])
    return arrays


def _name(m: int) -> str:
    return {0: "SAM", 1: "SumMax"}.get(m, f"m = {m}")


def factors(arrays: Arrays, kind: str) -> np.ndarray:
    """By what ascents multiply clean over noisy, [seeds, checkpoints, ascents]."""
    ratio = arrays[f"{kind}_clean"] / arrays[f"{kind}_noisy"]
    return ratio[..., 1] / ratio[..., 0]


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The claims, with the radius of all ascents, at which SumMax may not train."""
    for claim in _claims(arrays):
        yield dataclasses.replace(claim, rho=f"{settings.rho[0]:g}, all ascents")


def _claims(arrays: Arrays) -> Iterator[Claim]:
    """The factor of every ascent, and whose offset is never negative."""
    for kind, label in LABELS.items():
        mean = dict(
            zip(arrays["ascents"], factors(arrays, kind).mean(1).T, strict=True)
        )
        where = f"along {label}, mean over training"
        text = "derivatives of clean over noisy examples are multiplied by"
        for name in arrays["ascents"]:
            if name == "random":
                low, high = 1 - ALIKE, 1 + ALIKE
                yield Claim.mean(
                    f"{name}, {where}: {text}",
                    "control",
                    None,
                    mean[name],
                    low=low,
                    high=high,
                )
            else:
                source = "Sec. 4" if name == "SumMax" else "target beside Sec. 4"
                yield Claim.mean(
                    f"{name}, {where}: {text}", source, "> 1", mean[name], low=1
                )
        text = f"SumMax above SAM, {where}: factor"
        gap = mean["SumMax"] - mean["SAM"]
        words = f"{mean['SumMax'].mean():.3f} against {mean['SAM'].mean():.3f}"
        yield Claim.mean(text, "Sec. 4", "> 0", gap, low=0, measured=words)
        lowered = dict(
            zip(arrays["ascents"], arrays[f"{kind}_lowered"].mean(1).T, strict=True)
        )
        for name in arrays["ascents"]:
            text = f"{name}, {where}: share of examples whose offset is not negative"
            single = name == "SumMax"
            bounds = {"low": EVERY} if single else {"high": EVERY}
            printed = "all" if single else "not all"
            said = name in ("SumMax", "MaxSum", "random")
            source = "Sec. 4" if said else "target beside Sec. 4"
            yield Claim.mean(text, source, printed, lowered[name], **bounds)


def plot(arrays: Arrays) -> plotting.Figure:
    """The ratio at w, its factors along ERM and SAM, and the shares along ERM."""
    figure, (ratios, *panels, shares) = plotting.panels(2, 2, width=4.4)
    x = arrays["epoch"]
    for (kind, label), color in zip(LABELS.items(), plotting.COLORS, strict=False):
        ratio = arrays[f"{kind}_clean"][..., 0, 0] / arrays[f"{kind}_noisy"][..., 0, 0]
        plotting.band(ratios, x, ratio, label=label, color=color)
    title = "derivatives at w, clean over noisy"
    ratios.set(xlabel="epoch", ylabel="ratio of mean 1 - p", title=title)
    for panel, (kind, label) in zip(panels, LABELS.items(), strict=True):
        _ascents(panel, x, arrays, factors(arrays, kind))
        title = f"ratio at the ascent point over that at w, along {label}"
        panel.set(xlabel="epoch", ylabel="factor")
        panel.set_title(title, fontsize="medium")
    _ascents(shares, x, arrays, 100 * arrays["erm_lowered"])
    title = "margins not raised, along ERM"
    shares.set(xlabel="epoch", ylabel="share of examples (%)", title=title)
    ratios.legend(frameon=False)
    panels[0].legend(frameon=False)
    figure.suptitle("means and 10-90% of seeds", fontsize="medium")
    return figure


def _ascents(
    panel: plotting.Axes, x: np.ndarray, arrays: Arrays, values: np.ndarray
) -> None:
    for i, name in enumerate(arrays["ascents"]):
        color = plotting.COLORS[i % len(plotting.COLORS)]
        plotting.band(panel, x, values[..., i], label=str(name), color=color)
