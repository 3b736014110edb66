"""Adversarial training with the l2 pairing term (Eq. 21) against robust overfitting.

With the paper's lambda, 1, and a tenth of it, which is ours. linf attacks; the robust
error by ten steps of PGD over the epochs.
"""

from collections.abc import Iterator

from experiments.harness import adversarial
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim

SOURCE = "Figure 13b"
SHARED = adversarial.SHARED
KEYS = ("at", "pairing", "pairing_tenth")
SCALES = adversarial.scales(Settings())


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Robust overfitting, and what the method does to it."""
    yield adversarial.overfits(arrays, "at", "Fig. 13")
    for key, source in zip(
        KEYS[1:], ("Fig. 13b", "target beside Fig. 13b"), strict=True
    ):
        yield adversarial.mitigates(arrays, key, source)
        yield adversarial.below(arrays, key, "last", source, None)
        yield adversarial.below(arrays, key, "best", source, None)


runs, run, plot = adversarial.experiment(KEYS)
