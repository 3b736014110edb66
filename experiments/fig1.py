"""The implicit bias of SumMax on a diagonal linear network: test loss over iterations.

Gradient descent with no perturbation (ERM), one of all examples (MaxSum) and one an
example (SumMax) on beta = w_+^2 - w_-^2 (Sec. 3.1): MaxSum ends where ERM ends, SumMax
closer to the sparse predictor, at the price of a slower decay of the training loss.
Data and step sizes are those of Fig. 9.
"""

import dataclasses
from collections.abc import Iterator

from experiments import fig9
from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting

SOURCE = "Figure 1"
X64 = True
METHODS = fig9.METHODS[:3]
ZERO = 1e-6  # part of the first loss that counts as none
SCALES = {
    scale: dataclasses.replace(settings, parametrization="squares")
    for scale, settings in fig9.SCALES.items()
}


def run(settings: fig9.Settings) -> Arrays:
    """Test and training losses of the three methods, [methods, seeds, times]."""
    return fig9.trajectories(settings, METHODS)


def judge(settings: fig9.Settings, arrays: Arrays) -> Iterator[Claim]:
    """The last losses of the three methods."""
    yield from fig9.against_reference(settings, arrays, METHODS)
    erm, max_sum, sum_max = arrays["test"][:, :, -1]
    text = "last test loss: SumMax below"
    yield Claim.share(f"{text} ERM", "Fig. 1", sum_max < erm)
    yield Claim.share(f"{text} MaxSum", "Fig. 1", sum_max < max_sum)
    yield fig9.same_as_erm(erm, max_sum, "Fig. 1")
    last = arrays["train"][:, :, -1]
    text = "last training loss: SumMax above ERM"
    yield Claim.share(text, "Fig. 1", last[2] > last[0])
    left = last / arrays["train"][:, :, 0]
    text = f"last training loss of all three at most {ZERO:g} of the first"
    yield Claim.every(text, "Sec. 3.1, Fig. 1", (left <= ZERO).all(0))


def plot(arrays: Arrays) -> plotting.Figure:
    """Test loss on the left, training loss on the right, over iterations."""
    return fig9.draw(arrays, METHODS)
