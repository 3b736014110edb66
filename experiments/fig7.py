"""Robust overfitting of adversarial training, with ERM and with SAM.

linf attacks; the robust error by ten steps of PGD over a long training, and that of
ordinary training beside it.
"""

from collections.abc import Iterator

from experiments.harness import adversarial
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim

SOURCE = "Figure 7"
SHARED = adversarial.SHARED
KEYS = ("at", "sam", "clean")
SCALES = adversarial.scales(Settings(recipe="long"))


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """SAM beside adversarial training, and what attacks do at all."""
    yield adversarial.below(arrays, "sam", "last", "Fig. 7", None)
    yield adversarial.below(arrays, "sam", "best", "Fig. 7", None)
    for key in ("at", "sam"):
        yield adversarial.overfits(arrays, key, "Fig. 7")
    yield from adversarial.far_below_clean(arrays)


runs, run, plot = adversarial.experiment(KEYS)
