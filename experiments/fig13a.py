"""Adversarial training without and with GCE against robust overfitting.

linf attacks; the robust error by ten steps of PGD over the epochs.
"""

from collections.abc import Iterator, Mapping

from experiments.harness import adversarial, comparison
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from sam_jax import plotting

SOURCE = "Figure 13a"
KEYS = ("at", "gce")
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
    yield adversarial.mitigates(arrays, "gce", "Fig. 13a")
    yield adversarial.below(arrays, "gce", "last", "Fig. 13a", None)
    # "it does not improve the performance of the best model" (App. D).
    errors = (comparison.chosen(arrays, key, "best") for key in ("at", "gce"))
    text = "GCE no better than cross-entropy: robust test error, best, of CE and GCE"
    yield comparison.lower(text, "Fig. 13a", None, *errors, margin=-0.01)


def plot(arrays: Arrays) -> plotting.Figure:
    """Robust error over epochs, on test and training set."""
    return adversarial.draw(arrays, KEYS)
