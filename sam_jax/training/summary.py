"""From the records of a run to its summary, its table and its picture."""

import operator
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sam_jax import output

Record = dict[str, Any]
PREFIXES = {"": "", "ema_": " EMA"}
ENDS = ("best", "last")
BITS = "test_bits_per_byte"
FIGURES = ("_loss", "_error", "_perplexity", "_bits_per_byte")


def summarize(history: Sequence[Record]) -> dict[str, Any]:
    """Every evaluated figure at the last epoch and at the best one.

    The best epoch is the one of least validation error (noisy labels where the training
    labels are noisy), or least robust validation error where that is measured, or of
    text least validation loss, the earliest of equals; it is chosen anew for the EMA
    weights.

    Returns: epochs, steps, seconds; best_epoch, {name}_last, {name}_best for every loss
      and error of the records; the same for the average with ema_ in front. Without
      validation there is no best.
    """
    evaluated = [r for r in history if "test_error" in r]
    last = evaluated[-1]
    summary = {
        "epochs": history[-1]["epoch"],
        "steps": history[-1]["step"],
        "seconds": history[-1]["seconds"],
    }
    for prefix in PREFIXES:
        names = [n for n in last if _is_figure(n, prefix)]
        summary |= {f"{n}_last": last[n] for n in names}
        if (best := best_record(history, prefix)) is not None:
            summary[f"{prefix}best_epoch"] = best["epoch"]
            summary |= {f"{n}_best": best[n] for n in names}
    return summary


def best_record(history: Sequence[Record], prefix: str = "") -> Record | None:
    """The record of least validation error, or what stands for it (`criterion_of`).

    The earliest of equals; None where nothing was evaluated, or without validation.

    Args:
      prefix: "ema_" for the weights' average.
    """
    evaluated = [r for r in history if "test_error" in r]
    criterion = prefix + criterion_of(evaluated[-1]) if evaluated else ""
    if not evaluated or criterion not in evaluated[-1]:
        return None
    return min(evaluated, key=operator.itemgetter(criterion))


def criterion_of(record: Mapping[str, Any]) -> str:
    """Name of the figure that the best epoch has least of: the error, the robust one
    where that is measured, and of text the loss.
    """
    if "validation_perplexity" in record:
        return "validation_loss"
    robust = "validation_robust_error"
    return robust if robust in record else "validation_error"


def curves(history: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Lines of `plotting.training_curves`, over evaluated epochs, by suffix of label.

    One entry for the last weights, one more for their EMA where there is one.
    """
    evaluated = [r for r in history if "test_error" in r]
    summary = summarize(history)
    lines = {}
    for prefix, suffix in PREFIXES.items():
        if f"{prefix}test_error" not in evaluated[-1]:
            continue
        line = {"epoch": np.array([r["epoch"] for r in evaluated])}
        for name in ("train_loss", "test_error"):
            line[name] = np.array([r[f"{prefix}{name}"] for r in evaluated])
        if f"{prefix}best_epoch" in summary:
            line["best_epoch"] = summary[f"{prefix}best_epoch"]
        lines[suffix] = line
    return lines


def table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Runs against each other: errors at the best epoch by validation and at the last.

    Args:
      summaries: label -> summary. Weights averaged by EMA get a row of their own.
    """
    header = ["run", "best epoch", "test best", "test last"]
    robust = any("test_robust_error_last" in s for s in summaries.values())
    header += ["robust test best", "robust test last"] if robust else []
    noisy = any("train_noisy_error_last" in s for s in summaries.values())
    header += ["noisy train best", "noisy train last"] if noisy else []
    text = any(f"{BITS}_last" in s for s in summaries.values())
    header += ["bits per byte best", "bits per byte last"] if text else []
    rows = []
    for label, summary in summaries.items():
        for prefix, suffix in PREFIXES.items():
            if f"{prefix}test_error_last" not in summary:
                continue
            row = [label + suffix, str(summary.get(f"{prefix}best_epoch") or "-")]
            parts = ["test_error"]
            parts += ["test_robust_error"] if robust else []
            parts += ["train_noisy_error"] if noisy else []
            for part in parts:
                names = [f"{prefix}{part}_{at}" for at in ENDS]
                row += [output.percent(summary.get(name)) for name in names]
            if text:
                row += [_number(summary.get(f"{prefix}{BITS}_{at}")) for at in ENDS]
            rows.append([*row, f"{summary['seconds']:.0f} s"])
    return output.table([*header, "time"], rows)


def write(
    workdir: str | pathlib.Path, label: str, history: Sequence[Record]
) -> dict[str, Any]:
    """Writes summary.json and curves.png, and returns the summary, with the device."""
    from sam_jax import plotting  # late: matplotlib is not needed to train

    workdir = pathlib.Path(workdir)
    summary = summarize(history) | {"device": jax.devices()[0].device_kind}
    output.write_json(workdir / "summary.json", summary)
    lines = {label + suffix: line for suffix, line in curves(history).items()}
    plotting.save(plotting.training_curves(lines), workdir / "curves.png")
    return summary


def _is_figure(name: str, prefix: str) -> bool:
    own = name.startswith("ema_") == bool(prefix)
    return own and name.removesuffix("_true").endswith(FIGURES)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
