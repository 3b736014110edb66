"""SumMax (m = 1) on noisy digits: implicit against vmap, and against SAM.

The recipe `configs/digits.py`: PreAct ResNet-18 of width 16, 60% label noise. First
both ways to the same algorithm train for a few epochs from one seed; then SumMax, its
rho chosen by noisy validation error, and SAM train for equal time.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from configs import digits
from experiments.frame import Arrays, Claim
from sam_jax import plotting
from sam_jax.training import loop, writer

SOURCE = "Eq. 2 and 3"


@dataclasses.dataclass(frozen=True)
class Settings:
    """epochs: of SumMax. time_ratio: a SumMax step over a SAM step, as measured by the
    benchmarks; SAM trains for that many times the epochs.
    rhos: those SumMax chooses from. check_epochs: of implicit against vmap.
    model: the network; the recipe's own but in smoke.
    """

    epochs: int = 40
    time_ratio: float = 1.33
    rhos: tuple[float, ...] = (0.05, 0.1)
    check_epochs: int = 2
    model: str = "preact_resnet18"
    seed: int = 0


SCALES = {
    "smoke": Settings(
        epochs=2, rhos=(0.1,), time_ratio=1.0, check_epochs=1, model="conv_net"
    ),
    "cpu": Settings(),
    "paper": Settings(epochs=200, rhos=(0.025, 0.05, 0.1, 0.2), check_epochs=20),
}
FIGURES = ("epoch", "train_loss", "test_error", "validation_error", "running_loss")


def run(settings: Settings) -> tuple[Arrays, list[Claim]]:
    """Trains all runs; their curves, and what they say."""
    s = settings
    runs: dict[str, dict[str, np.ndarray]] = {}
    summaries: dict[str, dict[str, Any]] = {}

    def train(name: str, epochs: int, **sam: Any) -> None:
        config = digits.get_config("sam")
        config.seed, config.epochs, config.model.name = s.seed, epochs, s.model
        config.schedule.warmup_epochs = min(5.0, epochs / 2)
        config.sam.update(sam)
        with tempfile.TemporaryDirectory() as folder:
            summaries[name] = loop.run(config, folder, silent=True)
            records = writer.read_records(pathlib.Path(folder) / "metrics.jsonl")
        runs[name] = {f: np.array([r[f] for r in records]) for f in FIGURES}

    train("implicit", s.check_epochs, kind="sum_max", m=1, rho=s.rhos[0])
    train("vmap", s.check_epochs, kind="sam", m=1, rho=s.rhos[0])
    for rho in s.rhos:
        train(f"SumMax, rho {rho:g}", s.epochs, kind="sum_max", m=1, rho=rho)
    train("SAM", round(s.time_ratio * s.epochs), kind="sam")
    best = min(
        (name for name in runs if name.startswith("SumMax")),
        key=lambda name: summaries[name]["validation_error_best"],
    )
    curves = {f"{name}/{f}": a for name, run in runs.items() for f, a in run.items()}
    return {**curves, "best": np.array(best)}, list(_claims(runs, summaries, best))


def _claims(runs: Any, summaries: Any, best: str) -> Iterator[Claim]:
    ours, oracle = (runs[name]["running_loss"] for name in ("implicit", "vmap"))
    apart = float(np.max(np.abs(ours - oracle) / oracle))
    text = f"implicit and vmap: relative distance of the losses of {len(ours)} epochs"
    yield Claim.close(text, "Eq. 2, same algorithm", 0.0, apart, 1e-3)
    seconds = {name: summaries[name]["seconds"] for name in ("implicit", "vmap")}
    text = "vmap's time over implicit's, whole runs with compiling, is above 1"
    slower = seconds["vmap"] / seconds["implicit"]
    yield Claim(text, "Sec. 1: m = 1 is inefficient", None, slower, "> 1", slower > 1)
    equal = summaries[best]["seconds"] / summaries["SAM"]["seconds"]
    text = "seconds of SumMax over seconds of SAM, meant to be equal"
    yield Claim.close(text, "this run", 1.0, equal, 0.25)
    for at in ("best", "last"):
        error, sam = (summaries[name][f"test_error_{at}"] for name in (best, "SAM"))
        text = f"{best}: test error, {at} epoch, is at most that of SAM in equal time"
        tolerance = "<= SAM's, left; one seed"
        yield Claim(text, "Eq. 2 against 5", sam, error, tolerance, error <= sam)


def plot(arrays: Arrays) -> plotting.Figure:
    """Training loss and test error of SumMax and SAM, and both ways to SumMax."""
    names = {str(arrays["best"]): str(arrays["best"]), "SAM": "SAM"}
    figure, (loss, error, same) = plotting.panels(1, 3)
    for (name, label), color in zip(names.items(), plotting.COLORS, strict=False):
        progress = arrays[f"{name}/epoch"] / arrays[f"{name}/epoch"][-1]
        loss.plot(progress, arrays[f"{name}/train_loss"], color=color, label=label)
        percent = 100 * arrays[f"{name}/test_error"]
        error.plot(progress, percent, color=color, label=label)
    for name, style, color in (("vmap", "o", "#D55E00"), ("implicit", "-", "#0072B2")):
        epochs = arrays[f"{name}/epoch"]
        same.plot(
            epochs, arrays[f"{name}/running_loss"], style, color=color, label=name
        )
    loss.set(xlabel="time (fraction of the run)", ylabel="training loss", yscale="log")
    error.set(xlabel="time (fraction of the run)", ylabel="test error (%)")
    same.set(xlabel="epoch", ylabel="training loss, running")
    error.legend(frameon=False)
    same.legend(frameon=False)
    return figure
