"""Methods at equal gradients, steps and seconds: the errors of each, and one table."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.harness import comparison, statistics, tuning
from experiments.harness.claims import Arrays
from experiments.harness.final_sharpness import MEASURES

SLACK = 1.05  # of equal time: a schedule cut short by less would count as the method's
HEADER = [
    "on",
    "method",
    "chosen",
    "time of a step",
    "at equal gradients",
    "at equal steps",
    "in equal time",
    "less SAM's, 95%",
    "failed runs",
]


class Place(NamedTuple):
    """What the variants are compared on. title, unit: of its errors, which are numbers
    times `scale`. figures, curves: as in `comparison`. at_end: whether the last epoch
    counts, and not the best by validation.
    """

    title: str
    unit: str
    scale: float
    figures: Mapping[str, str]
    curves: Mapping[str, str]
    at_end: bool = False


def _images(title: str) -> Place:
    figures = {k: comparison.FIGURES[k] for k in ("validation", "best", "last")}
    curves = {"curve": "test_error", "validating": "validation_error"}
    return Place(title, "test error, best epoch (%)", 100, figures, curves)


BITS = "bits_per_byte"
PLACES = {
    "clean": _images("clean labels"),
    "noisy": _images("60% label noise"),
    "gpt": Place(
        "GPT",
        "bits per byte",
        1,
        {
            "validation": f"validation_{BITS}_last",
            "best": f"test_{BITS}_last",
            "last": f"test_{BITS}_last",
        },
        {"curve": f"test_{BITS}", "validating": f"validation_{BITS}"},
        at_end=True,
    ),
}


def at_equal(arrays: Arrays, place: str, kind: str, equal: str) -> np.ndarray:
    """Test errors of a variant at equal "gradients", "steps" or "seconds", f[S]."""
    key = f"{place}_{kind}"
    if equal == "steps" and f"{key}_steps_rho" in arrays:
        key = f"{key}_steps"
    if equal != "seconds":
        return comparison.chosen(arrays, key, "best")
    sam = f"{place}_sam"
    budget = SLACK * arrays[f"{sam}_epoch"][-1] * arrays[f"{sam}_seconds"]
    inside = arrays[f"{key}_epoch"] * arrays[f"{key}_seconds"] <= budget
    count = max(1, int(inside.sum()))
    test, validating = (
        comparison.chosen(arrays, key, name)[:, :count]
        for name in ("curve", "validating")
    )
    if PLACES[place].at_end:
        return test[:, -1]
    return np.take_along_axis(test, validating.argmin(1)[:, None], 1)[:, 0]


def in_equal_time(arrays: Arrays, place: str) -> dict[str, str]:
    """ERM and every variant -> its mean error in the time of SAM's run, with "better"
    or "worse" where the interval of its difference to SAM's excludes zero.
    """
    scale, found = PLACES[place].scale, {}
    words = {statistics.HOLDS: " better", statistics.CONTRARY: " worse"}
    for kind in ("erm", *map(str, arrays["kinds"])):
        interval = statistics.of_mean(_less_sam(arrays, place, kind))
        verdict = statistics.verdict(interval, -np.inf, 0.0)
        mean = scale * at_equal(arrays, place, kind, "seconds").mean()
        found[kind] = f"{mean:.3g}{words.get(verdict, '')}"
    return found


def _less_sam(arrays: Arrays, place: str, kind: str) -> np.ndarray:
    """Errors in equal time less SAM's, f[S]."""
    own, sam = (at_equal(arrays, place, k, "seconds") for k in (kind, "sam"))
    return PLACES[place].scale * (own - sam)


def table(arrays: Arrays) -> list[list[str]]:
    """A row for ERM and every variant of every place, below a header: what was chosen,
    the time of a step over ERM's, errors at equal cost, those in equal time less SAM's,
    runs that failed, and the sharpness of the last weights, by mean over seeds.
    """
    rows = [[*HEADER, *(f"sharpness, {words}" for words in MEASURES.values())]]
    for place in map(str, arrays["places"]):
        for kind in ("erm", *map(str, arrays["kinds"])):
            rows.append(_row(arrays, place, kind))
    return rows


def _row(arrays: Arrays, place: str, kind: str) -> list[str]:
    key, (title, unit, scale, *_) = f"{place}_{kind}", PLACES[place]
    errors = {
        equal: scale * at_equal(arrays, place, kind, equal)
        for equal in ("gradients", "steps", "seconds")
    }
    less = _less_sam(arrays, place, kind)
    interval = statistics.of_mean(less)
    apart = f"{less.mean():.3g}" if kind != "sam" else "-"
    if kind != "sam" and len(less) > 1:
        apart += f" [{interval[0]:.3g} to {interval[1]:.3g}]"
    step = float(arrays[f"{key}_seconds"] / arrays[f"{place}_erm_seconds"])
    return [
        f"{title}: {unit}",
        kind,
        (tuning.words(arrays, key) or "-").removeprefix(f"{key} "),
        f"{step:.2f}",
        *(
            f"{v.mean():.4g} ± {np.std(v, ddof=len(v) > 1):.2g}"
            for v in errors.values()
        ),
        apart,
        str(_failed(arrays, key)),
        *(f"{arrays[f'{key}_{name}'].mean():.3g}" for name in MEASURES),
    ]


def _failed(arrays: Arrays, key: str) -> int:
    """Runs whose loss ceased to be finite: of the table and of the tuning."""
    names = (f"{key}_failed", f"{key}_steps_failed", f"{key}_tuning_failed")
    return sum(int(arrays[name].sum()) for name in names if name in arrays)
