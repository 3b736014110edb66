"""Robust overfitting of adversarial training, with ERM and with SAM.

linf attacks; the robust error by ten steps of PGD over a long training, and that of
ordinary training beside it.
"""

from collections.abc import Iterator, Mapping

from experiments.harness import adversarial, comparison
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun
from sam_jax import plotting

SOURCE = "Figure 7"
KEYS = ("at", "sam", "clean")
SCALES = adversarial.scales(Settings(recipe="long"))


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Adversarial training with ERM and with SAM, and ordinary training."""
    return comparison.plan(adversarial.methods(settings, KEYS), settings.seeds)


def run(
    settings: Settings, trained: Mapping[Key, TrainedRun]
) -> tuple[Arrays, list[Claim]]:
    """Robust errors over epochs."""
    arrays = adversarial.collect(settings, KEYS, trained)
    return arrays, list(_claims(arrays))


def _claims(arrays: Arrays) -> Iterator[Claim]:
    yield adversarial.below(arrays, "sam", "last", "Fig. 7", None)
    yield adversarial.below(arrays, "sam", "best", "Fig. 7", None)
    for key in ("at", "sam"):
        yield adversarial.overfits(arrays, key, "Fig. 7")
    yield from adversarial.far_below_clean(arrays)


def plot(arrays: Arrays) -> plotting.Figure:
    """Robust error over epochs, on test and training set."""
    return adversarial.draw(arrays, KEYS)
