"""Robust overfitting of a linear model, and label-preserving adversarial training.

Two Gaussians without label noise, attacks of length 0.9 < |mu| = 1. The usual attack
may cross the true boundary, and then trains on a wrong label; an attack orthogonal to
mu cannot. The robust error is exact, against the whole l2 ball in both cases.

Examples nearer than the attack to the true boundary are the noisy ones of adversarial
training. As with noisy labels, what is fitted of them is fitted late: half of it after
the robust test error is least, when all the others are fitted (early learning, Sec. 5).
"""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from experiments.harness.claims import Arrays, Claim
from sam_jax import plotting
from sam_jax.toys import descent, gaussians, linear

SOURCE = "Figure 8"
X64 = True
METHODS = ("standard adversarial training", "label-preserving adversarial training")
GROUPS = ("whose attacks keep the label", "whose attacks can change it")


@dataclasses.dataclass(frozen=True)
class Settings:
    """epsilon: radius of the attack, in units of |mu| = 1."""

    seeds: int = 10
    n: int = 50
    d: int = 100
    sigma: float = 0.1
    epsilon: float = 0.9
    step_size: float = 2.0
    steps: int = 1000


SCALES = {
    "smoke": Settings(seeds=2, steps=30),
    "cpu": Settings(seeds=100),
    "paper": Settings(),
}


def run(settings: Settings) -> Arrays:
    """After every iteration, of both trainings, f[2, seeds, iterations]: the robust
    error, and the share of attacks whose true label, by the side of mu, is not that of
    the example. fitted: of GROUPS, the share right under attack in standard training,
    f[seeds, iterations, 2].
    """
    s = settings

    def one_seed(key):
        problem_key, start_key = jax.random.split(key)
        problem = gaussians.sample(problem_key, n=s.n, d=s.d, sigma=s.sigma)
        far = linear.margins(problem.mu, problem.examples) > s.epsilon
        groups = jnp.stack([far, ~far])

        def observe(w, preserved):
            attacks = linear.attacked(
                w, problem.examples, s.epsilon, preserved=preserved
            )
            error = gaussians.exact_error(
                w, problem.mu, sigma=s.sigma, epsilon=s.epsilon
            )
            right = groups & (linear.margins(w, attacks) > 0)
            fitted = right.sum(1) / jnp.maximum(groups.sum(1), 1)
            return error, jnp.mean(linear.margins(problem.mu, attacks) < 0), fitted

        def train(preserved):
            objective = linear.adversarial_objective(s.epsilon, preserved=preserved)
            return descent.descend(
                descent.full_batch(objective, problem.examples, rho=0.0),
                gaussians.start(start_key, s.d),
                step_size=s.step_size,
                times=jnp.arange(s.steps + 1),
                observe=lambda w: observe(w, preserved),
            )

        return train(None), train(problem.mu)

    keys = jax.random.split(jax.random.key(0), s.seeds)
    runs = jax.device_get(jax.jit(jax.vmap(one_seed))(keys))
    errors, changed, fitted = (np.stack(found) for found in zip(*runs, strict=True))
    arrays = {"error": errors, "changed": changed, "fitted": fitted[0]}
    return {**arrays, "least": np.asarray(ndtr((s.epsilon - 1) / s.sigma))}


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Robust overfitting of the standard attack, and none of the preserving one."""
    standard, preserving = arrays["error"]
    best, last = standard.min(1), standard[:, -1]
    text = "standard: mean of the best robust errors"
    yield Claim.agrees(text, "reference run", 0.1816, best, within=0.01)
    text = "standard: mean of the last robust errors"
    yield Claim.agrees(text, "reference run", 0.2135, last, within=0.01)
    text = "standard: iteration of the least mean robust error"
    yield Claim.close(text, "reference run", 7, int(standard.mean(0).argmin()), 3)
    text = "standard: the robust error rises by a point or more after its best"
    yield Claim.share(text, "Fig. 8", last > best + 0.01)
    text = "label-preserving: last robust error less the best (points), below one"
    rise = 100 * (preserving[:, -1] - preserving.min(1))
    yield Claim.mean(text, "Fig. 8", "no overfitting", rise, high=1)
    text = "label-preserving: greatest of the last robust errors, Phi(-1)"
    yield Claim.close(
        text, "closed form", float(arrays["least"]), preserving[:, -1].max(), 1e-4
    )
    yield from _label_claims(arrays)
    yield from _early_learning(arrays)


def _label_claims(arrays: Arrays) -> Iterator[Claim]:
    """The implicit label noise of Sec. 5: attacks that change the true label."""
    standard, preserving = 100 * arrays["changed"]
    text = "standard: training attacks that change the true label, last iteration (%)"
    yield Claim.mean(text, "control of Sec. 5", "some", standard[:, -1], low=0)
    text = "label-preserving: greatest share of such attacks, all iterations (%)"
    yield Claim.close(text, "control of Sec. 5", 0.0, preserving.max(), 0.0)


def _early_learning(arrays: Arrays) -> Iterator[Claim]:
    """What standard training fits after its robust test error is least."""
    best = int(arrays["error"][0].mean(0).argmin())
    early, last = 100 * arrays["fitted"][:, best], 100 * arrays["fitted"][:, -1]
    keep, change = (last - early).T
    text = f"standard: examples {GROUPS[1]}, fitted after the least robust error "
    text += f"(iteration {best}), less those {GROUPS[0]} (points)"
    words = " and ".join(
        f"{a:.1f} to {b:.1f}" for a, b in zip(early.mean(0), last.mean(0), strict=True)
    )
    words = f"{(change - keep).mean():.1f} (keep, change: {words} %)"
    yield Claim.mean(
        text, "Sec. 5", "early learning", change - keep, low=0, measured=words
    )


def plot(arrays: Arrays) -> plotting.Figure:
    """Robust test error over iterations, as in the paper, and the least possible; the
    share of attacks that change the label; what is fitted by standard training.
    """
    figure, (axes, share, fitted) = plotting.panels(1, 3, width=4.4, height=3.4)
    for panel, name in ((axes, "error"), (share, "changed")):
        lines = zip(METHODS, arrays[name], plotting.COLORS[1::-1], strict=False)
        for label, runs, color in lines:
            x = np.arange(runs.shape[1])
            plotting.band(panel, x, 100 * runs, label=label, color=color)
    share.set(xlabel="iteration", ylabel="attacks that change the label (%)")
    share.margins(x=0)
    for i, label in enumerate(GROUPS):
        runs = 100 * arrays["fitted"][..., i]
        x = np.arange(runs.shape[1])
        color = plotting.COLORS[2 + i]
        plotting.band(fitted, x, runs, label=label, color=color)
    fitted.set(xlabel="iteration", ylabel="fitted under attack (%)")
    fitted.margins(x=0)
    title = "standard training, examples"
    fitted.legend(
        frameon=False, title=title, loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    label = r"least possible, $\Phi((\epsilon - 1) / \sigma)$"
    axes.axhline(100 * arrays["least"], color="gray", linestyle=":", label=label)
    axes.set(xlabel="iteration", ylabel="adversarial test error (%)", ylim=(14, 40))
    axes.margins(x=0)
    axes.legend(frameon=False)
    return figure
