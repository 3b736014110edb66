"""SumMax (m = 1) on noisy digits: implicit against vmap, and against SAM.

The recipe `configs/digits.py`: PreAct ResNet-18 of width 16, 60% label noise. First
both ways to the same algorithm train for a few epochs from one seed; then SumMax, its
rho chosen by noisy validation error, and SAM train for equal time.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from configs import digits
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
    seed: int = 0


SCALES = {
    "smoke": Settings(epochs=2, rhos=(0.1,), check_epochs=1, model="mlp"),
    "cpu": Settings(),
    "paper": Settings(epochs=200, rhos=(0.025, 0.05, 0.1, 0.2), check_epochs=20),
}
FIGURES = ("seconds", "train_loss", "test_error", "validation_error", "running_loss")


def run(settings: Settings) -> tuple[Arrays, list[Claim]]:
    """Trains all runs; their curves, and what they say."""
    s = settings
    runs: dict[str, dict[str, np.ndarray]] = {}
    summaries: dict[str, dict[str, Any]] = {}

    def train(name: str, epochs: int, dtype: str = "float32", **sam: Any) -> None:
        config = digits.get_config("sam")
        config.seed, config.epochs, config.model.name = s.seed, epochs, s.model
        config.model.dtype = dtype
        config.schedule.warmup_epochs = min(5.0, epochs / 2)
        config.sam.update(sam)
        with tempfile.TemporaryDirectory() as folder:
            summaries[name] = loop.run(config, folder, silent=True)
            records = writer.read_records(pathlib.Path(folder) / "metrics.jsonl")
        runs[name] = {f: np.array([r[f] for r in records]) for f in FIGURES}

    with jax.enable_x64(True):
        wide = {"dtype": "float64", "m": 1, "rho": s.rhos[-1]}
        train("implicit", s.check_epochs, kind="sum_max", **wide)
        train("vmap", s.check_epochs, kind="sam", **wide)
    for rho in s.rhos:
        name = f"SumMax, rho {rho:g}"
        train(name, s.epochs, kind="sum_max", m=1, rho=rho)
    train("SAM, timed", s.check_epochs + 1, kind="sam")
    ratio = _epoch_seconds(runs[name]) / _epoch_seconds(runs["SAM, timed"])
    train("SAM", max(2, round(s.epochs * ratio)), kind="sam")
    best = min(
        (name for name in runs if name.startswith("SumMax")),
        key=lambda name: summaries[name]["validation_error_best"],
    )
    curves = {f"{name}/{f}": a for name, run in runs.items() for f, a in run.items()}
    return {**curves, "best": np.array(best)}, list(_claims(runs, summaries, best))


def _epoch_seconds(run: Mapping[str, np.ndarray]) -> float:
    """Of an epoch after the first, which compiles."""
    return float(np.diff(run["seconds"]).mean())


def _claims(runs: Any, summaries: Any, best: str) -> Iterator[Claim]:
    ours, oracle = (runs[name]["running_loss"] for name in ("implicit", "vmap"))
    apart = float(np.max(np.abs(ours - oracle) / oracle))
    text = f"implicit and vmap: relative distance of the losses of {len(ours)} epochs"
    yield Claim.close(text, "Eq. 2, same algorithm", 0.0, apart, 1e-9)
    seconds = {name: summaries[name]["seconds"] for name in ("implicit", "vmap")}
    text = "vmap's time over implicit's, whole runs with compiling, is above 1"
    slower = seconds["vmap"] / seconds["implicit"]
    yield Claim(text, "Sec. 1: m = 1 is inefficient", None, slower, "> 1", slower > 1)
    taken = [
        len(runs[name]["seconds"]) * _epoch_seconds(runs[name])
        for name in (best, "SAM")
    ]
    equal = taken[0] / taken[1]
    text = "seconds of SumMax over seconds of SAM without compiling, meant to be equal"
    yield Claim.close(text, "this run", 1.0, equal, 0.25)
    for at in ("best", "last"):
        error, sam = (summaries[name][f"test_error_{at}"] for name in (best, "SAM"))
        text = f"{best}: test error, {at} epoch, is at most that of SAM in equal time"
        tolerance = "<= SAM's, left; one seed"
        yield Claim(text, "Eq. 2 against 5", sam, error, tolerance, error <= sam)


def plot(arrays: Arrays) -> plotting.Figure:
    """Training loss and test error of SumMax and SAM, and both ways to SumMax."""
    best = str(arrays["best"])
    names = [key.removesuffix("/seconds") for key in arrays if key.endswith("/seconds")]
    others = [name for name in names if name.startswith("SumMax") and name != best]
    figure, (loss, error, same) = plotting.panels(1, 3)
    for name in [*others, best, "SAM"]:
        blue, orange = plotting.COLORS[:2]
        line: dict[str, Any] = {"color": orange if name == "SAM" else blue}
        line |= {"alpha": 0.3, "linewidth": 1} if name in others else {"label": name}
        seconds = arrays[f"{name}/seconds"]
        loss.plot(seconds, arrays[f"{name}/train_loss"], **line)
        error.plot(seconds, 100 * arrays[f"{name}/test_error"], **line)
    for name, style in (("vmap", "o"), ("implicit", ".")):
        losses = arrays[f"{name}/running_loss"]
        same.plot(np.arange(1, len(losses) + 1), losses, style, label=name)
    error.plot([], [], color=blue, alpha=0.3, linewidth=1, label="SumMax, other rho")
    loss.set(xlabel="seconds", ylabel="training loss", yscale="log")
    error.set(xlabel="seconds", ylabel="test error (%)")
    same.set(xlabel="epoch", ylabel="training loss, running")
    error.legend(frameon=False, fontsize="small")
    same.legend(frameon=False)
    return figure
