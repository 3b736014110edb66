"""Adversarial training with the l2 pairing term (Eq. 21) against robust overfitting.

linf attacks; the robust error by ten steps of PGD over the epochs.
"""

from collections.abc import Iterator, Mapping

from experiments.harness import adversarial, comparison
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from sam_jax import plotting

SOURCE = "Figure 13b"
KEYS = ("at", "pairing")
SCALES = adversarial.scales(Settings())


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Both methods on every seed."""
    return comparison.plan(adversarial.methods(settings, KEYS), settings.seeds)


def run(
    settings: Settings, trained: Mapping[Key, TrainedRun]
) -> tuple[Arrays, list[Claim]]:
    """Robust errors over epochs."""
    arrays = adversarial.collect(settings, KEYS, trained)
    return arrays, list(_claims(arrays))


def _claims(arrays: Arrays) -> Iterator[Claim]:
    yield adversarial.overfits(arrays, "at", "Fig. 13")
    yield adversarial.mitigates(arrays, "pairing", "Fig. 13b")
    yield adversarial.below(arrays, "pairing", "last", "Fig. 13b", None)
    yield adversarial.below(arrays, "pairing", "best", "Fig. 13b", None)


def plot(arrays: Arrays) -> plotting.Figure:
    """Robust error over epochs, on test and training set."""
    return adversarial.draw(arrays, KEYS)
