"""What the experiments on App. B share: trajectories of SAM beside their bounds.

Bounds as printed and as corrected, from one start and with one noise.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness.claims import Arrays
from sam_jax.theory import constants, corrected, printed
from sam_jax.theory.constants import Constants
from sam_jax.toys import functions, trajectories

SHIFTS = np.array([[1.0, -2.0], [-1.0, 2.0]])  # what two examples add to the gradient
VARIANCE = 5.0
START = np.array([2.0, -1.5])
FULL, ONE, OWN = "full batch", "one batch for both", "MaxSum"  # of ascent and descent


def follow(
    function: functions.Function,
    start: np.ndarray,
    chosen: Sequence[Constants],
    steps: int,
) -> trajectories.Trajectory:
    """Deterministic SAM with several step sizes, which become the leading axis."""

    def one(gamma, rho):
        times = jnp.arange(steps + 1)
        return trajectories.deterministic(
            function, start, gamma=gamma, rho=rho, times=times
        )

    gammas, rhos = (
        jnp.array([c.gamma for c in chosen]),
        jnp.array([c.rho for c in chosen]),
    )
    return jax.device_get(jax.jit(jax.vmap(one))(gammas, rhos))


def counterexamples(steps: int) -> Arrays:
    """Where the printed distance of Prop. 11 and the second part of Lemma 8 fail."""
    f, w = functions.one_sided(7.0, 0.01, 0.9, 1000.0), np.array([1.0, -1.4])
    a, t = 100.0, np.arange(1, steps + 1)
    c = Constants(f.beta, 1.8 / (1 + a) / f.beta, a / f.beta, f.strong)
    distance2 = np.sum(follow(f, w, [c], steps).w[0] ** 2, axis=1)
    # One step on w^2 / 2 with gamma beta = 1/2, where rho beta <= 2 is corrected.
    ascents = np.linspace(0.0, 6.0, 61)
    one = [Constants(1.0, 0.5, rho) for rho in ascents]
    after = follow(functions.quadratic([1.0]), np.ones(1), one, 1).loss[:, 1]
    return {
        "distance2": distance2[1:],
        "distance2_printed": printed.proposition_11_distance(c, distance2[0], t),
        "distance2_bound": corrected.proposition_11_distance(c, distance2[0], t),
        "ascents": ascents,
        "loss_after": after,
        "loss_printed": np.array([printed.lemma_8_convex(c, 0.5, 1.0) for c in one]),
    }


def steep(horizons: Sequence[int]) -> Arrays:
    """Where the printed first constant of Prop. 2 fails: 5 w^2, without noise."""
    c, times = Constants(10.0), np.array(horizons)
    chosen = [Constants(10.0, *constants.slow_steps(10.0, h)) for h in horizons]
    seen = follow(functions.quadratic([10.0]), np.ones(1), chosen, max(horizons))
    squares = zip(seen.gradient2, horizons, strict=True)
    return {
        "horizons": times,
        "prop_2_steep": np.array([square[:h].mean() for square, h in squares]),
        "prop_2_steep_printed": printed.proposition_2_gradient(c, 5.0, times),
        "prop_2_steep_bound": corrected.proposition_2_gradient(c, 5.0, times),
    }


# Batches of ascent and descent, and the greatest gamma beta and rho beta.
FIXED = {"prop_15": (OWN, (1 / 2, 1 / 2)), "prop_18": (ONE, (1, 1 / 4))}


def fixed_steps(name: str, seeds: int, horizon: int) -> Arrays:
    """Prop. 15 or 18 on x^2 + 3 sin^2 x at half of the greatest steps.

    A seed's mean |grad L(w_t)|^2 over t < T, and its bound by that seed's own decrease,
    corrected and printed, [seeds, horizons]; all are linear in what is random.
    """
    f, (batches, caps) = functions.sine_squared(), FIXED[name]
    gamma, rho = (cap / 2 / f.beta for cap in caps)
    c = Constants(f.beta, gamma, rho, variance=VARIANCE)

    def one(key):
        return trajectories.stochastic(
            f,
            START,
            SHIFTS,
            key,
            gamma=gamma,
            rho=rho,
            times=np.arange(horizon + 1),
            own_ascent_batch=batches == OWN,
        )

    keys = jax.random.split(jax.random.key(0), seeds)
    seen = jax.device_get(jax.jit(jax.vmap(one))(keys))
    steps = np.unique(np.geomspace(1, horizon, 40).astype(int))
    drop = seen.loss[:, :1] - seen.loss[:, steps]
    proposition = name.replace("prop", "proposition")
    return {
        f"{name}_steps": steps,
        name: np.cumsum(seen.gradient2[:, :-1], 1)[:, steps - 1] / steps,
        f"{name}_bound": getattr(corrected, proposition)(c, drop, steps),
        f"{name}_printed": getattr(printed, proposition)(c, drop, steps),
    }


def printed_constant(steps: int) -> Arrays:
    """L(w_t) under (A3) on a quadratic of curvatures 1 and 100, from (1, 0).

    The printed constant fails there with steps of at most 1 / (16 beta), for which the
    corrected one is proved, and not with those of Prop. 18, 1 / (2 beta).
    """
    beta, mu = 100.0, 1.0

    def losses(cap: float) -> np.ndarray:
        def sizes(t):
            return constants.decreasing_steps(t, beta, mu, cap=cap)

        seen = trajectories.deterministic(
            functions.quadratic([mu, beta]),
            np.array([1.0, 0.0]),
            gamma=lambda t: sizes(t).gamma,
            rho=lambda t: sizes(t).rho,
            times=np.arange(steps + 1),
        )
        return np.asarray(seen.loss)

    loss = losses(1 / 16)
    c, t = Constants(beta, mu=mu), np.arange(1, steps + 1)
    return {
        "flat": loss[1:],
        "flat_wide": losses(1 / 2)[1:],
        "flat_bound": corrected.proposition_2_loss(c, loss[0], t),
        "flat_printed": printed.proposition_2_loss(c, loss[0], t),
    }
