"""The mechanism of Sec. 4: ascent raises the loss derivatives of clean examples.

60% label noise. At checkpoints of ERM and of SAM: the mean derivative 1 - p_y of clean
examples over that of noisy ones, and by which factor the ascent of single examples
(SumMax), of groups, of the batch (SAM), of another batch (MaxSum) and of a random
direction multiplies this ratio. All ascents have one radius; single examples stand a
second time at a smaller one, where SumMax trains best. SAM's direction alone takes its
derivatives at w, so that its factor is 1; its derivative alone has SAM's.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

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
MEASURED = ("clean", "noisy", "lowered")


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of the runs and of the ascents measured, one. groups: sizes m of those, 0
    for the batch. single: a second radius for single examples, 0 for none.
    checkpoints: at how many of them, batches: over how many each.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rho: tuple[float, ...] = (0.1,)
    groups: tuple[int, ...] = (1, 16, 0)
    single: float = 0.0
    checkpoints: int = 10
    batches: int = 20


PLAIN = comparison.PLAIN  # single examples have no BatchNorm
SCALES = {
    "smoke": Settings(
        seeds=(0,),
        groups=(1, 0),
        single=0.02,
        checkpoints=3,
        batches=1,
        recipe="smoke",
        changes=PLAIN,
    ),
    "cpu": Settings(recipe="embedded", changes=PLAIN),
    "fashion": Settings(  # .02 is what choose_rho's sweep of m = 1 has as the best
        single=0.02, checkpoints=20, batches=8, recipe="fashion", changes=PLAIN
    ),
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
    arrays = {
        "seeds": np.asarray(settings.seeds),
        "ascents": np.array(list(_radii(settings))),
    }
    for kind in LABELS:
        own = [run.workdir for key, run in trained.items() if key[0] == kind]
        found = [_measured(settings, workdir) for workdir in own]
        arrays["epoch"] = found[0]["epoch"]
        for name in MEASURED:
            arrays[f"{kind}_{name}"] = np.stack([f[name] for f in found])
    return arrays


def _radii(settings: Settings) -> dict[str, float]:
    """The radius of every ascent, by its name."""
    rho, names = settings.rho[0], [*map(_name, settings.groups), "MaxSum", "random"]
    again = {f"{_name(1)}, rho = {settings.single:g}": settings.single}
    return dict.fromkeys(names, rho) | (again if settings.single else {})


def _measured(settings: Settings, workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """MEASURED of all ascents, and the epochs of the checkpoints."""
    # Of a second pass the single examples alone: MaxSum and random have one radius.
    passes = [(settings.rho[0], settings.groups, slice(None))]
    if settings.single:
        passes.append((settings.single, (1,), slice(1)))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in MEASURED}
    for rho, groups, kept in passes:
        found = networks.weights_over_training(
            workdir, rho=rho, groups=groups, batches=settings.batches
        )
        for name, part in parts.items():
            part.append(getattr(found, name)[:, kept])
    joined = {name: np.concatenate(part, 1) for name, part in parts.items()}
    return {"epoch": found.epochs, **joined}


def _name(m: int) -> str:
    return {0: "SAM", 1: "SumMax"}.get(m, f"m = {m}")


def factors(arrays: Arrays, kind: str) -> np.ndarray:
    """By what ascents multiply clean over noisy, [seeds, checkpoints, ascents]."""
    ratio = arrays[f"{kind}_clean"] / arrays[f"{kind}_noisy"]
    return ratio[..., 1] / ratio[..., 0]


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The factor of every ascent, and whose offset is never negative; with the radius
    of the ascent. What has a radius of its own comes first.
    """
    shared, names = settings.rho[0], list(map(str, arrays["ascents"]))
    radii = _radii(settings)
    for kind, label in LABELS.items():
        where = f"along {label}, mean over training"
        values = factors(arrays, kind), arrays[f"{kind}_lowered"]
        factor, lowered = (
            dict(zip(names, value.mean(1).T, strict=True)) for value in values
        )
        for name in sorted(names, key=lambda n: radii[n] == shared):
            for claim in _claims(name, where, factor, lowered):
                rho = f"{radii[name]:g}"
                if radii[name] != shared and "above SAM" in claim.claim:
                    rho = f"{rho}, SAM {shared:g}"
                yield dataclasses.replace(claim, rho=rho)


def _claims(
    name: str,
    where: str,
    factor: Mapping[str, np.ndarray],
    lowered: Mapping[str, np.ndarray],
) -> Iterator[Claim]:
    """Of an ascent: both by name, over seeds."""
    single = name.startswith("SumMax")
    text = (
        f"{name}, {where}: derivatives of clean over noisy examples are multiplied by"
    )
    if name == "random":
        yield Claim.mean(
            text, "control", None, factor[name], low=1 - ALIKE, high=1 + ALIKE
        )
    else:
        source = "Sec. 4" if single else "target beside Sec. 4"
        yield Claim.mean(text, source, "> 1", factor[name], low=1)
    if single:
        gap = factor[name] - factor["SAM"]
        words = f"{factor[name].mean():.3f} against {factor['SAM'].mean():.3f}"
        text = f"{name} above SAM, {where}: factor"
        yield Claim.mean(text, "Sec. 4", "> 0", gap, low=0, measured=words)
    text = f"{name}, {where}: share of examples whose offset is not negative"
    bounds: dict[str, Any] = {"low": EVERY} if single else {"high": EVERY}
    source = "Sec. 4" if single or name == "MaxSum" else "target beside Sec. 4"
    source = "control" if name == "random" else source
    printed = "all" if single else "not all"
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
    panels[0].legend(frameon=False, fontsize="small", labelspacing=0.3)
    figure.suptitle("means and 10-90% of seeds", fontsize="medium")
    return figure


def _ascents(
    panel: plotting.Axes, x: np.ndarray, arrays: Arrays, values: np.ndarray
) -> None:
    for i, name in enumerate(arrays["ascents"]):
        line = {"color": plotting.COLORS[i % len(plotting.COLORS)]}
        if i and name.startswith(arrays["ascents"][0]):  # over the first, at 100%
            line["linestyle"] = "--"
        plotting.band(panel, x, values[..., i], label=str(name), **line)
