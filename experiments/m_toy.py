"""Generalisation against m on a diagonal linear network, from SumMax to MaxSum.

Each group of m examples shares a perturbation. The flow ends at the minimiser of the
potential whose scale alpha_effective shrinks less the larger m is: the smaller m, the
sparser the predictor. From groups of ten on the test loss is worse than ERM's, though
all entries of alpha_effective are below alpha: most of all on the support, where it
ought to be large. One scale of their geometric mean is better than ERM's. (Not a figure
of the paper, which has m = 1 and m = n.)
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from experiments.harness.claims import Arrays, Claim
from sam_jax import flows, plotting
from sam_jax.toys import sparse_regression

SOURCE = "Section 3.1, m between 1 and n"
X64 = True
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)


@dataclasses.dataclass(frozen=True)
class Settings:
    """rhos: ascent steps. n: examples; m goes through its divisors."""

    seeds: int = 20
    n: int = 20
    alpha: float = 0.1
    rhos: tuple[float, ...] = (0.05, 0.1, 0.2)


SCALES = {
    "smoke": Settings(seeds=2, n=3, rhos=(0.1,)),
    "cpu": Settings(),
    "paper": Settings(seeds=100),
}


def run(settings: Settings) -> Arrays:
    """Test losses of the flows' ends, [rhos, seeds, m], and of ERM, [seeds]; of where
    MaxSum would end if all entries of alpha_effective were their geometric mean.
    """
    s = settings
    data = sparse_regression.sample(range(s.seeds), n=s.n)
    rhos = np.asarray(s.rhos)
    sizes = np.asarray([m for m in range(1, s.n + 1) if s.n % m == 0])

    def solve(kind: str, **options) -> flows.Solution:
        return flows.solve(data.x, data.y, alpha=s.alpha, kind=kind, **options)

    def test_loss(found: flows.Solution | flows.Minimum) -> np.ndarray:
        return np.asarray(sparse_regression.test_loss(found.beta, data.beta, 1 / 4))

    ends = [solve("sum_max", m=int(m), rho=rhos[:, None]) for m in sizes]
    even = np.exp(np.log(ends[-1].alpha_effective).mean(-1, keepdims=True))
    return {
        "m": sizes,
        "rhos": rhos,
        "erm": test_loss(solve("erm")),
        "test": np.stack([test_loss(end) for end in ends], -1),
        "even": test_loss(flows.minimize_potential(data.x, data.y, even)),
    }


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """The test loss over m."""
    for rho, test, even in zip(
        *(arrays[name] for name in ("rhos", "test", "even")), strict=True
    ):
        text = f"rho = {rho:g}: test loss of m = 1 below that of m = n"
        yield Claim.share(text, "Sec. 3.1", test[:, 0] < test[:, -1])
        text = f"rho = {rho:g}: geometric mean of the test loss rises with m"
        mean = np.log(test).mean(0)
        rising = bool(np.all(np.diff(mean) > 0))
        yield Claim.decided(
            text, "target", 1.0, float(rising), "at every step of m", rising
        )
        text = f"rho = {rho:g}: test loss of m = n (MaxSum) below that of ERM"
        yield Claim.share(text, "Sec. 1", test[:, -1] < arrays["erm"])
        text = f"rho = {rho:g}: test loss below that of ERM with one scale, the "
        text += "geometric mean of MaxSum's alpha_effective"
        yield Claim.share(text, "control (why MaxSum is not)", even < arrays["erm"])


def plot(arrays: Arrays) -> plotting.Figure:
    """Test loss over that of ERM on the same problem, over m, one line a rho."""
    figure, (axes,) = plotting.panels(width=4.6, height=3.4)
    for i, (rho, test) in enumerate(zip(arrays["rhos"], arrays["test"], strict=True)):
        line = {"label": rf"$\rho$ = {rho:g}", "color": plotting.COLORS[i]}
        ratio = test / arrays["erm"][:, None]
        plotting.band(axes, arrays["m"], ratio, geometric=True, **line)
    axes.axhline(1.0, color="gray", linestyle=":", label="ERM")
    axes.set(xscale="log", yscale="log", xlabel="m", ylabel="test loss / that of ERM")
    axes.minorticks_off()
    axes.set_xticks(arrays["m"], [str(m) for m in arrays["m"]])
    axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.legend(frameon=False)
    return figure
