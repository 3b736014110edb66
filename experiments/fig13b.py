"""Adversarial training with the l2 pairing term (Eq. 21) against robust overfitting.

linf attacks; the robust error by ten steps of PGD over the epochs.
"""

from collections.abc import Iterator

from experiments.harness import adversarial
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim

SOURCE = "Figure 13b"
KEYS = ("at", "pairing")
SCALES = adversarial.scales(Settings())


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Robust overfitting, and what the method does to it."""
    yield adversarial.overfits(arrays, "at", "Fig. 13")
    yield adversarial.mitigates(arrays, "pairing", "Fig. 13b")
    yield adversarial.below(arrays, "pairing", "last", "Fig. 13b", None)
    yield adversarial.below(arrays, "pairing", "best", "Fig. 13b", None)


runs, run, plot = adversarial.experiment(KEYS)
