"""Numbers that the paper prints of runs at its own scale: CIFAR, hundreds of epochs.

Two cores decide none of them. While an experiment has no results at scale paper, the
report has a claim for each with the verdict "needs a GPU" and the command that decides
it; at that scale `execution` judges them, beside the experiment's own claims.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.harness import claims, comparison, registry
from experiments.harness.claims import Arrays, Claim, Value
from experiments.harness.statistics import NEEDS_GPU

COLUMNS = ("cifar10_40", "cifar10_60", "cifar100_40", "cifar100_60")
# Test errors in %, by data set and percent of noise.
TABLE_2 = {
    "ce": (17.06, 23.06, 44.82, 58.30),
    "ce_sam": (7.29, 10.98, 36.79, 43.02),
    "gce_sam": (7.18, 10.41, 28.82, 37.32),
    "gce_sam_ema": (7.62, 9.74, 27.79, 35.91),
}
# Robust errors in % of the best epoch (App. D).
AUTO_ATTACK = {"at": 52.56, "pairing": 51.15, "sam": 50.07}


class Printed(NamedTuple):
    """A number, and where the experiment that reproduces it has it.

    experiment: its name. source: in the paper. claim: what it is of, in words. paper:
    as printed. measure: arrays of the experiment -> values, one a seed. low, high:
    where their mean must be. keys: methods whose rho the claim tells.
    """

    experiment: str
    source: str
    claim: str
    paper: Value
    measure: Callable[[Arrays], np.ndarray]
    low: float
    high: float
    keys: tuple[str, ...] = ()


def _error(
    experiment: str,
    source: str,
    label: str,
    key: str,
    paper: float,
    *,
    within: float,
    at: str = "best",
) -> Printed:
    """A test error in %, of the epoch that validation chooses or of the last."""
    text = {"best": "best epoch by validation", "last": "last epoch"}[at]

    def measure(arrays: Arrays) -> np.ndarray:
        return 100 * comparison.chosen(arrays, key, at)

    claim = f"{label}: test error, {text} (%)"
    low, high = paper - within, paper + within
    return Printed(experiment, source, claim, paper, measure, low, high, (key,))


def _attacked(key: str, label: str) -> Printed:
    """A robust error in % by AutoAttack."""

    def measure(arrays: Arrays) -> np.ndarray:
        return 100 * arrays[f"{key}_auto"][:, 0]

    claim = f"CIFAR-10, {label}: robust error by AutoAttack, best epoch (%)"
    paper = AUTO_ATTACK[key]
    low, high = paper - 1, paper + 1
    keys = (key,)
    source = "App. D, AutoAttack"
    return Printed("robust_table", source, claim, paper, measure, low, high, keys)


def _difference(
    experiment: str, source: str, claim: str, keys: tuple[str, str], within: float
) -> Printed:
    """Two methods of which the paper says that they do alike, best epochs in points."""

    def measure(arrays: Arrays) -> np.ndarray:
        first, second = (comparison.chosen(arrays, key, "best") for key in keys)
        return 100 * (first - second)

    return Printed(experiment, source, claim, "alike", measure, -within, within, keys)


def _figure_2(key: str, label: str, loss: float) -> Iterator[Printed]:
    """The last training loss of a run on CIFAR-10, and that it does not overfit."""
    where = "fig2", "Fig. 2"
    text = f"CIFAR-10, {label}: last mean training loss"

    def last_loss(arrays: Arrays) -> np.ndarray:
        return comparison.chosen(arrays, key, "train_loss")

    yield Printed(*where, text, loss, last_loss, loss - 5e-4, loss + 5e-4, (key,))
    text = f"CIFAR-10, {label}: last test error above the least of all epochs (points)"

    def rise(arrays: Arrays) -> np.ndarray:
        last, curve = (comparison.chosen(arrays, key, n) for n in ("last", "curve"))
        return 100 * (last - curve.min(-1))

    yield Printed("fig2", "Sec. 3.3", text, "<= 0.1", rise, -math.inf, 0.15, (key,))


def _peak(arrays: Arrays) -> np.ndarray:
    """The greatest test error in % on the line from ERM to SAM."""
    inside = (arrays["alphas"] >= 0) & (arrays["alphas"] <= 1)
    return 100 * arrays["sam_test_error"][:, inside].max(1)


def _table_2() -> Iterator[Printed]:
    labels = {
        "ce": "CE",
        "ce_sam": "CE + SAM",
        "gce_sam": "GCE + SAM",
        "gce_sam_ema": "GCE + SAM + weight averaging",
    }
    for key, row in TABLE_2.items():
        for column, paper in zip(COLUMNS, row, strict=True):
            data, noise = column.upper().replace("R1", "R-1").split("_")
            label = f"{data}, {noise}% noise, {labels[key]}"
            found = f"{column}_{key}"
            yield _error("table2", "Table 2", label, found, paper, within=1)


TWO = "CIFAR-10, horse and car, 80% noise"
CLEAN, NOISY = "CIFAR-10 without label noise", "CIFAR-10, 60% noise"
FORMS = {"sam": "normalised SAM", "unnormalized": "unnormalised SAM"}
PRINTED: tuple[Printed, ...] = (
    _error("fig2", "Fig. 2", "CIFAR-10, ERM", "erm", 5.03, within=0.3, at="last"),
    _error("fig2", "Fig. 2", "CIFAR-10, SAM", "sam", 3.76, within=0.3, at="last"),
    *_figure_2("erm", "ERM", 0.0012),
    *_figure_2("sam", "SAM", 0.0009),
    *(
        _error("fig10", "Fig. 10", f"{title}, {FORMS[form]}", key, paper, within=within)
        for form, title, key, paper, within in (
            ("sam", CLEAN, "clean_sam", 3.69, 0.3),
            ("unnormalized", CLEAN, "clean_unnormalized", 3.70, 0.3),
            ("sam", NOISY, "noisy_sam", 10.03, 1.0),
            ("unnormalized", NOISY, "noisy_unnormalized", 10.29, 1.0),
        )
    ),
    Printed(
        "fig11",
        "Fig. 11",
        "CIFAR-10: greatest test error on the line from ERM to SAM (%)",
        40,
        _peak,
        30,
        50,
    ),
    *(
        _error("table1", "Table 1", f"{TWO}, {label}", key, paper, within=1)
        for label, key, paper in (
            ("ERM", "erm", 13.47),
            ("SAM direction", "sam_direction", 11.30),
            ("SAM derivative", "sam_derivative", 7.45),
            ("SAM", "sam", 9.02),
        )
    ),
    *_table_2(),
    _attacked("at", "adversarial training"),
    _attacked("pairing", "adversarial training + pairing"),
    _attacked("sam", "adversarial training + SAM"),
    _difference(
        "robust_peers",
        "Sec. 5",
        "CIFAR-10, adversarial training: SAM's robust test error less AWP's, best "
        "epoch (points)",
        ("sam", "awp"),
        1,
    ),
    _difference(
        "large_batch",
        "App. C",
        f"{NOISY}: test error of batch 128, m = 128 less that of batch 256, m = 32, "
        "best epoch (points)",
        ("one_group", "groups"),
        1,
    ),
)


def of(experiment: str) -> list[Printed]:
    """The numbers that an experiment reproduces."""
    return [printed for printed in PRINTED if printed.experiment == experiment]


def judge(experiment: str, arrays: Arrays) -> Iterator[Claim]:
    """Whether the means over seeds are where the printed numbers are.

    Args:
      arrays: of the experiment at scale paper.
    """
    for p in of(experiment):
        rho = comparison.radii(arrays, p.keys)
        values = p.measure(arrays)
        yield Claim.mean(
            p.claim, p.source, p.paper, values, low=p.low, high=p.high, rho=rho
        )


def waiting(experiment: str) -> list[dict[str, Any]]:
    """The same before there are results at scale paper, as claims.json has claims."""
    command = registry.command(experiment, "paper")
    return [
        claims.plain(
            Claim(
                p.claim,
                p.source,
                p.paper,
                None,
                claims.range_of(p.low, p.high),
                NEEDS_GPU,
            ),
            command,
        )
        for p in of(experiment)
    ]
