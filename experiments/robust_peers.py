"""What else is held against robust overfitting: AWP, and the average of the weights.

Adversarial training plain, with SAM, with adversarial weight perturbation (Wu et al.
2020), whose ball is relative to each layer's weights, and its moving average. AWP has
as many radii as SAM. The errors of the average are those of a run of its own.
"""

from collections.abc import Iterator

from experiments.harness import adversarial, pairs
from experiments.harness.adversarial import Settings
from experiments.harness.claims import Arrays, Claim

SOURCE = "Section 5, AWP and weight averaging"
SHARED = adversarial.SHARED
KEYS = ("at", "sam", "awp", "averaged")
ALIKE = 2.0  # points of robust error within which SAM and AWP count as alike
SCALES = adversarial.scales(Settings())


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Each against plain training, and SAM against AWP."""
    yield adversarial.overfits(arrays, "at", "Sec. 5")
    for key in KEYS[1:]:
        yield adversarial.mitigates(arrays, key, "Sec. 5")
        for at in ("best", "last"):
            yield adversarial.below(arrays, key, at, "Sec. 5", None)
    text, paper = "SAM's robust test error less AWP's", "similar"
    pair = ("sam", "awp")
    yield pairs.alike(text, "Sec. 5", paper, arrays, pair, within=ALIKE)


runs, run, plot = adversarial.experiment(KEYS)
