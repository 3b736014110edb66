"""SumMax (m = 1) on noisy digits: implicit against vmap, and against SAM.

The recipe `configs/digits.py`: PreAct ResNet-18 of width 16, 60% label noise. First
both ways to the same algorithm train for a few epochs from one seed; then SumMax, its
rho chosen by noisy validation error, and SAM train for equal time.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from configs import digits
from experiments.harness import pairs
from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting
from sam_jax.training import loop, writer

SOURCE = "Eq. 2 and 3"


@dataclasses.dataclass(frozen=True)
class Settings:
    """epochs: of SumMax; SAM trains for as many as take the same time.
    rhos: for SumMax to choose from. check_epochs: of implicit against vmap, in float64:
    within two epochs training magnifies the rounding of float32 by the thousand.
    model: the network; the recipe's own but in smoke.
    """

    epochs: int = 50
    rhos: tuple[float, ...] = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05)
    check_epochs: int = 2
    model: str = "preact_resnet18"
    seeds: tuple[int, ...] = (0,)


SCALES = {
    "smoke": Settings(epochs=2, rhos=(0.1,), check_epochs=1, model="mlp"),
    "cpu": Settings(seeds=(0, 1, 2, 3, 4)),
    "paper": Settings(epochs=200, rhos=(0.025, 0.05, 0.1, 0.2), check_epochs=20),
}
# Of SumMax the one in the text, by the seeds of the table; SAM has the recipe's, which
# is of 50 epochs, and takes all the epochs that it has the time for.
RADII = f"SAM {digits.get_config().sam.rho:g}, of the recipe"
FIGURES = ("seconds", "train_loss", "test_error", "validation_error", "running_loss")
ENDS = {
    "validation": "validation_error_best",
    "best": "test_error_best",
    "last": "test_error_last",
}


def run(settings: Settings) -> Arrays:
    """Curves of all runs, name/figure f[S, E], and figures of their ends f[S]."""
    s = settings
    arrays: dict[str, np.ndarray] = {}

    def train(name: str, epochs: int, seeds: Sequence[int], **options: Any) -> None:
        found = [_train(s.model, epochs, seed, **options) for seed in seeds]
        arrays.update(
            {f"{name}/{f}": np.stack([r[f] for r in found]) for f in found[0]}
        )

    with jax.enable_x64(True):
        wide = {"dtype": "float64", "m": 1, "rho": s.rhos[-1]}
        train("implicit", s.check_epochs, s.seeds[:1], kind="sum_max", **wide)
        train("vmap", s.check_epochs, s.seeds[:1], kind="sam", **wide)
    names = {f"SumMax, rho {rho:g}": rho for rho in s.rhos}
    for name, rho in names.items():
        train(name, s.epochs, s.seeds, kind="sum_max", m=1, rho=rho)
    train("SAM, timed", s.check_epochs + 1, s.seeds[:1], kind="sam")
    ratio = _epoch_seconds(arrays, name) / _epoch_seconds(arrays, "SAM, timed")
    train("SAM", max(2, round(s.epochs * ratio)), s.seeds, kind="sam")
    validation = [arrays[f"{name}/validation"].mean() for name in names]
    return {**arrays, "best": np.array(list(names)[int(np.argmin(validation))])}


def _train(
    model: str, epochs: int, seed: int, dtype: str = "float32", **sam: Any
) -> dict[str, np.ndarray]:
    config = digits.get_config("sam")
    config.seed, config.epochs, config.model.name = seed, epochs, model
    config.model.dtype = dtype
    config.schedule.warmup_epochs = min(5.0, epochs / 2)
    config.sam.update(sam)
    with tempfile.TemporaryDirectory() as folder:
        summary = loop.run(config, folder, silent=True)
        records = writer.read_records(pathlib.Path(folder) / "metrics.jsonl")
    curves = {f: np.array([r[f] for r in records]) for f in FIGURES}
    return curves | {f: np.array(summary[name]) for f, name in ENDS.items()}


def _epoch_seconds(arrays: Arrays, name: str) -> float:
    """Of an epoch after the first, which compiles."""
    return float(np.diff(arrays[f"{name}/seconds"]).mean())


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Both ways to SumMax are one; SumMax against SAM in equal time."""
    best = str(arrays["best"])
    ours, oracle = (arrays[f"{name}/running_loss"] for name in ("implicit", "vmap"))
    apart = float(np.max(np.abs(ours - oracle) / oracle))
    text = f"implicit and vmap: relative distance of the losses of {ours.size} epochs"
    yield Claim.close(text, "control of Eq. 2", 0.0, apart, 1e-9)
    text = "vmap's time over implicit's, whole runs with compiling, is above 1"
    seconds = [float(arrays[f"{n}/seconds"][0, -1]) for n in ("vmap", "implicit")]
    slower = seconds[0] / seconds[1]
    yield Claim.decided(text, "target", None, slower, "> 1", slower > 1)
    taken = [
        arrays[f"{name}/seconds"].shape[1] * _epoch_seconds(arrays, name)
        for name in (best, "SAM")
    ]
    text = "seconds of SumMax over seconds of SAM without compiling, meant to be equal"
    yield Claim.close(text, "control", 1.0, taken[0] / taken[1], 0.25)
    for at in ("best", "last"):
        text = f"{best} below SAM in equal time: test error, {at} epoch"
        errors = (arrays[f"{name}/{at}"] for name in (best, "SAM"))
        yield pairs.paired(text, "target", None, *errors, rho=RADII)


def plot(arrays: Arrays) -> plotting.Figure:
    """Training loss and test error of SumMax and SAM, means over seeds, and both ways
    to SumMax on the first.
    """
    best = str(arrays["best"])
    names = [key.removesuffix("/seconds") for key in arrays if key.endswith("/seconds")]
    others = [name for name in names if name.startswith("SumMax") and name != best]
    figure, (loss, error, same) = plotting.panels(1, 3)
    for name in [*others, best, "SAM"]:
        blue, orange = plotting.COLORS[:2]
        line: dict[str, Any] = {"color": orange if name == "SAM" else blue}
        line |= {"alpha": 0.3, "linewidth": 1} if name in others else {"label": name}
        seconds = arrays[f"{name}/seconds"].mean(0)
        loss.plot(seconds, arrays[f"{name}/train_loss"].mean(0), **line)
        error.plot(seconds, 100 * arrays[f"{name}/test_error"].mean(0), **line)
    for name, style in (("vmap", "o"), ("implicit", ".")):
        losses = arrays[f"{name}/running_loss"][0]
        same.plot(np.arange(1, len(losses) + 1), losses, style, label=name)
    error.plot([], [], color=blue, alpha=0.3, linewidth=1, label="SumMax, other rho")
    loss.set(xlabel="seconds", ylabel="training loss", yscale="log")
    error.set(xlabel="seconds", ylabel="test error (%)")
    same.set(xlabel="epoch", ylabel="training loss, running")
    error.legend(frameon=False, fontsize="small")
    same.legend(frameon=False)
    return figure
