"""Adversarial training without and with GCE against robust overfitting.

linf attacks; the robust error by ten steps of PGD over the epochs.
"""

from collections.abc import Iterator

from experiments.harness import adversarial, comparison
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim

SOURCE = "Figure 13a"
KEYS = ("at", "gce")
SCALES = adversarial.scales(Settings())


def _claims(arrays: Arrays) -> Iterator[Claim]:
    yield adversarial.overfits(arrays, "at", "Fig. 13")
    yield adversarial.mitigates(arrays, "gce", "Fig. 13a")
    yield adversarial.below(arrays, "gce", "last", "Fig. 13a", None)
    # "it does not improve the performance of the best model" (App. D).
    errors = (comparison.chosen(arrays, key, "best") for key in ("at", "gce"))
    text = "GCE no better than cross-entropy: robust test error, best, of CE and GCE"
    yield comparison.lower(text, "Fig. 13a", None, *errors, margin=-0.01)


runs, run, plot = adversarial.experiment(KEYS, _claims)
