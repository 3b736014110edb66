"""Methods at equal gradients, steps and seconds: the errors of each, and one table."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from experiments.harness import comparison, statistics, tuning
from experiments.harness.claims import Arrays, Claim
from experiments.harness.final_sharpness import MEASURES

ANDRIUSHCHENKO = "target (Andriushchenko et al. 2023)"
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
    "last epoch",
    "failed runs",
]


class Place(NamedTuple):
    """What the variants are compared on. title, unit: of its errors, which are numbers
    times `scale`. figures, curves: as in `comparison`. at_end: whether the last epoch
    counts, and not the best by validation. reference: what all are held against; not
    SAM where the radii come near to 0, and decide who comes nearest to ERM.
    """

    title: str
    unit: str
    scale: float
    figures: Mapping[str, str]
    curves: Mapping[str, str]
    at_end: bool = False
    reference: str = "sam"


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
        reference="erm",
    ),
}
# The costs at which all are compared.
COSTS = ("gradients", "seconds", "steps")


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


def last_errors(arrays: Arrays, place: str, kind: str) -> np.ndarray:
    """Test errors at the last epoch of the run at equal gradients, f[S]."""
    return comparison.chosen(arrays, f"{place}_{kind}", "last")


def below(arrays: Arrays, place: str, kind: str, other: str) -> Iterator[Claim]:
    """A variant below another method: once for all costs at which the errors are the
    same, as they are where the best epochs come early; and at the last epoch.
    """
    found: list[tuple[list[str], list[np.ndarray]]] = []
    for equal in COSTS:
        pair = [at_equal(arrays, place, k, equal) for k in (kind, other)]
        names = next((n for n, known in found if np.array_equal(known, pair)), None)
        if names is None:
            found.append(([equal], pair))
        else:
            names.append(equal)
    unit = PLACES[place].unit
    compared = [(_listed(names), unit, pair) for names, pair in found]
    if not PLACES[place].at_end:
        last = [last_errors(arrays, place, k) for k in (kind, other)]
        compared.append(("gradients", unit.replace("best", "last"), last))
    chosen = [tuning.words(arrays, f"{place}_{k}") for k in (kind, other)]
    for equal, unit, pair in compared:
        better, worse = (PLACES[place].scale * errors for errors in pair)
        yield Claim.mean(
            f"{PLACES[place].title}: {kind} below {other} at equal {equal}: {unit}",
            "peers",
            None,
            better - worse,
            high=0,
            measured=f"{better.mean():.4g} against {worse.mean():.4g}",
            rho="; ".join(filter(None, chosen)) or None,
        )


def _listed(names: list[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def ordered(
    arrays: Arrays, place: str, methods: str, taus: np.ndarray
) -> Iterator[Claim]:
    """Every measure of sharpness orders the errors at the last epoch, by Kendall's tau
    and its interval, f[measures, 3].
    """
    for name, (tau, low, high) in zip(MEASURES, taus.tolist(), strict=True):
        yield Claim(
            f"{PLACES[place].title}, {methods}: rank correlation of the last test "
            f"error with {MEASURES[name]}",
            ANDRIUSHCHENKO,
            None,
            tau,
            "> 0",
            statistics.verdict((low, high), 0.0, np.inf),
            (low, high),
            len(arrays["seeds"]),
        )


def in_equal_time(arrays: Arrays, place: str) -> dict[str, str]:
    """ERM and every variant -> its mean error in the time of SAM's run, "better" or
    "worse" where the interval of its difference to the place's reference excludes
    zero, and in brackets the last error.
    """
    at, found = PLACES[place], {}
    words = {statistics.HOLDS: " better", statistics.CONTRARY: " worse"}
    for kind in ("erm", *map(str, arrays["kinds"])):
        interval = statistics.of_mean(_less(arrays, place, kind, at.reference))
        verdict = statistics.verdict(interval, -np.inf, 0.0)
        mean = at.scale * at_equal(arrays, place, kind, "seconds").mean()
        last = at.scale * last_errors(arrays, place, kind).mean()
        beside = "" if at.at_end else f" ({last:.3g})"
        found[kind] = f"{mean:.3g}{beside}{words.get(verdict, '')}"
    return found


def _less(arrays: Arrays, place: str, kind: str, other: str) -> np.ndarray:
    """Errors in equal time less those of another, f[S]."""
    own, its = (at_equal(arrays, place, k, "seconds") for k in (kind, other))
    return PLACES[place].scale * (own - its)


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
    last = scale * last_errors(arrays, place, kind)
    errors = {
        equal: scale * at_equal(arrays, place, kind, equal)
        for equal in ("gradients", "steps", "seconds")
    }
    less = _less(arrays, place, kind, "sam")
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
        *map(_spread, errors.values()),
        apart,
        "-" if PLACES[place].at_end else _spread(last),
        str(_failed(arrays, key)),
        *(f"{arrays[f'{key}_{name}'].mean():.3g}" for name in MEASURES),
    ]


def _spread(values: np.ndarray) -> str:
    """Mean and deviation over seeds."""
    return f"{values.mean():.4g} ± {np.std(values, ddof=len(values) > 1):.2g}"


def _failed(arrays: Arrays, key: str) -> int:
    """Runs whose loss ceased to be finite: of the table and of the tuning."""
    names = (f"{key}_failed", f"{key}_steps_failed", f"{key}_tuning_failed")
    return sum(int(arrays[name].sum()) for name in names if name in arrays)
