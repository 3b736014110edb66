"""Overfitting of noisy labels, and how SAM's gradient aligns with their part of it.

60% label noise. Left: errors of ERM and SAM over training. Right: at the weights of an
ERM model, the cosine of the gradient on batches, taken at w and at SAM's point, with
the gradient of the true labels and with that of the noisy examples.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from configs import cifar10_noise
from experiments.harness import comparison, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from sam_jax import plotting
from sam_jax.analysis import networks

SOURCE = "Figure 3"
LABELS = {"erm": "ERM", "sam": "SAM"}
PARTS = {
    "curve": ("test_error", "test"),
    "clean": ("train_clean_error", "training, clean"),
    "noisy_curve": ("train_noisy_error", "training, noisy"),
}
REFERENCES = ("true", "noisy")
OTHERS = 9  # classes beside the true one
MEMORISED = 0.5


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """rho: of SAM. alignment_rho: of SAM's point in the cosines; checkpoints: at how
    many of them, batches: over how many batches each.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rho: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4)
    alignment_rho: float = 0.2
    checkpoints: int = 50
    batches: int = 20


SCALES = {
    "smoke": Settings(
        seeds=(0,),
        rho=(0.1,),
        checkpoints=2,
        batches=1,
        recipe="smoke",
        changes={"model.name": "mlp", "epochs": 4},
    ),
    "cpu": Settings(
        rho=(0.1, 0.2, 0.3, 0.4),
        checkpoints=10,
        recipe="embedded",
        changes={"model.name": "conv_net"},
    ),
    "fashion": Settings(
        rho=comparison.FASHION_RHO,
        checkpoints=20,
        tuning=comparison.FASHION_TUNING,
        recipe="fashion",
    ),
    "paper": Settings(),
}


def methods(settings: Settings) -> list[comparison.Method]:
    """ERM, which keeps the checkpoints that the cosines need, and SAM."""
    found = comparison.from_recipe(cifar10_noise.get_config, LABELS, settings)
    erm = found[0].config
    every = erm.epochs // settings.checkpoints
    erm.checkpoint.update(every_epochs=every, keep=settings.checkpoints)
    return found


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """ERM, and SAM with every rho, on every seed."""
    return comparison.plan(methods(settings), settings.seeds, settings.tuning)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Error curves, and cosines at the checkpoints of ERM."""
    curves = {name: part[0] for name, part in PARTS.items()}
    arrays = comparison.collect(
        methods(settings), settings.seeds, trained, curves=curves
    )
    found = [
        networks.alignment_over_training(
            run.workdir, rho=settings.alignment_rho, batches=settings.batches
        )
        for (kind, _, _), run in trained.items()
        if kind == "erm"
    ]
    epochs = found[0].epochs
    cosines = {
        f"cosine_{name}": np.stack([getattr(f, name) for f in found])
        for name in REFERENCES
    }
    return {**arrays, "cosine_epoch": np.array(epochs), **cosines}


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Errors of SAM below ERM's, and the cosines after memorisation."""
    pair = arrays, "sam", "erm"
    text = "SAM below ERM: test error, last epoch"
    yield pairs.lower(text, "Fig. 3a", None, *pair, "last")
    text = "SAM below ERM: test error, best epoch by noisy validation"
    paper = "10.03 (SAM, rho .2)"
    yield pairs.lower(text, "Fig. 3a, App. B.3", paper, *pair)
    text = "ERM overfits: last test error above the best epoch's (points)"
    rise = comparison.rises(arrays, "erm")
    yield Claim.mean(text, "Fig. 3a", "> 0", rise, low=0)
    yield from _late_fitting(arrays)
    late = _late(arrays)
    at_w, at_sam = np.moveaxis(arrays["cosine_noisy"][:, late].mean(1), -1, 0)
    text = "after memorisation the cosine with the noisy part is lower at SAM's point"
    words = f"{at_sam.mean():.3f} against {at_w.mean():.3f} at w"
    rho = f"SAM {settings.alignment_rho:g}, not chosen"
    gap = at_sam - at_w
    yield Claim.mean(text, "Fig. 3c", "lower", gap, high=0, measured=words, rho=rho)
    change = np.diff(arrays["cosine_true"][:, late].mean(1), axis=-1)[:, 0]
    text = "after memorisation SAM's point changes the cosine with the true part by"
    alike = Claim.agrees(text, "Fig. 3b", 0, change, within=0.05)
    yield dataclasses.replace(alike, rho=rho)


def _late_fitting(arrays: Arrays) -> Iterator[Claim]:
    """SAM too learns wrong labels, later in training, and then overfits."""
    rho = comparison.radii(arrays, ["sam"])
    sam, erm = (
        100 * comparison.by_heart(arrays, key, "noisy_curve", "curve", others=OTHERS)
        for key in ("sam", "erm")
    )
    half, last = sam[:, len(arrays["epoch"]) // 2 - 1], sam[:, -1]
    text = (
        "SAM too learns wrong labels by heart: their share, last less half-way (points)"
    )
    words = f"{(last - half).mean():.1f}, to {last.mean():.1f} %"
    words = f"{words} (ERM {erm[:, -1].mean():.0f})"
    yield Claim.mean(text, "Sec. 4", "> 0", last - half, low=0, measured=words, rho=rho)
    text = "SAM too overfits then: last test error above the best epoch's (points)"
    rise = comparison.rises(arrays, "sam")
    yield Claim.mean(text, "Sec. 4", "> 0", rise, low=0, rho=rho)


def _late(arrays: Arrays) -> np.ndarray:
    """The checkpoints after which ERM has fitted half of the noisy labels, bool[C].

    The last one alone where it never has.
    """
    error = arrays["erm_noisy_curve"][0].mean(0)
    at = np.isin(arrays["epoch"], arrays["cosine_epoch"])
    late = error[at] < MEMORISED
    late[-1] = True
    return late


def plot(arrays: Arrays) -> plotting.Figure:
    """Errors over training; cosines with the true and the noisy gradients."""
    figure, (errors, *axes) = plotting.panels(1, 3)
    styles = {"curve": "-", "clean": ":", "noisy_curve": "--"}
    for key, color in zip(LABELS, plotting.COLORS, strict=False):
        for name, (_, part) in PARTS.items():
            label = f"{LABELS[key]}, {part}"
            curve = 100 * comparison.chosen(arrays, key, name)
            line = {"color": color, "linestyle": styles[name], "label": label}
            plotting.band(errors, arrays["epoch"], curve, **line)
    title = f"errors (SAM: rho = {comparison.rho(arrays, 'sam'):g})"
    errors.set(xlabel="epoch", ylabel="error (%)", title=title, ylim=(0, 100))
    place = {"loc": "upper right", "bbox_to_anchor": (1, 0.91), "labelspacing": 0.2}
    errors.legend(frameon=False, fontsize="x-small", **place)
    for panel, name in zip(axes, REFERENCES, strict=True):
        for i, where in enumerate(("at w", "at SAM's point")):
            cosines = arrays[f"cosine_{name}"][..., i]
            color = plotting.COLORS[i]
            x = arrays["cosine_epoch"]
            plotting.band(panel, x, cosines, color=color, label=where)
        title = f"cosine with the {name} part"
        panel.set(xlabel="epoch of ERM", ylabel="cosine", title=title)
        panel.legend(frameon=False)
    return figure
