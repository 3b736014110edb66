"""Adversarial training without and with GCE against robust overfitting.

linf attacks; the robust error by ten steps of PGD over the epochs.
"""

from collections.abc import Iterator

from experiments.harness import adversarial, pairs
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim

SOURCE = "Figure 13a"
SHARED = adversarial.SHARED
KEYS = ("at", "gce")
SCALES = adversarial.scales(Settings())


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Robust overfitting, and what the method does to it."""
    yield adversarial.overfits(arrays, "at", "Fig. 13")
    yield adversarial.mitigates(arrays, "gce", "Fig. 13a")
    yield adversarial.below(arrays, "gce", "last", "Fig. 13a", None)
    # "it does not improve the performance of the best model" (App. D).
    text = "GCE no better than cross-entropy: robust test error, best, of CE and GCE"
    claim = pairs.lower(text, "Fig. 13a", None, arrays, "at", "gce", margin=-0.01)
    yield adversarial.if_fitted(arrays, "gce", claim)


runs, run, plot = adversarial.experiment(KEYS)
