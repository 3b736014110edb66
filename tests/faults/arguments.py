"""NaN, infinity and negative numbers where a public function takes a number."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import sam_jax
from sam_jax import attacks, flows, schedules, sharpness
from sam_jax.transforms import VARIANTS
from tests.faults.outcome import Outcome

BAD = (math.nan, math.inf, -math.inf, -1.0)
X, Y = np.eye(3), np.array([1.0, 0.0, 2.0])
IMAGES, LABELS = jnp.full((2, 2, 2, 1), 0.5), jnp.array([0, 1])
PARAMS = {"w": jnp.ones(3)}
OBJECTIVE = sam_jax.Objective(
    lambda params, batch: batch["x"] @ params["w"],
    lambda outputs, batch: (outputs - batch["y"]) ** 2,
)
BATCH = {"x": X, "y": Y}


def logits(images: jax.Array) -> jax.Array:
    """Of two classes."""
    flat = images.reshape(len(images), -1)
    return jnp.stack([flat.sum(1), -flat.sum(1)], 1)


def calls() -> dict[str, Callable[[float], object]]:
    """Public functions, as functions of one of their numbers."""
    factories = {
        f"{name}(rho)": variant.transformation for name, variant in VARIANTS.items()
    }
    attack = functools.partial(attacks.pgd, logits, IMAGES, LABELS)
    solve = functools.partial(flows.solve, X, Y)
    near = functools.partial(sharpness.worst_case, OBJECTIVE, PARAMS, BATCH)
    return factories | {
        "asam(eta)": lambda v: sam_jax.asam(0.1, eta=v),
        "gsam(alpha)": lambda v: sam_jax.gsam(0.1, alpha=v),
        "sam(ascent_step_size)": lambda v: sam_jax.sam(
            0.1, ascent_steps=2, ascent_step_size=v
        ),
        "implicit_gradient(rho)": lambda v: sam_jax.implicit_gradient(
            OBJECTIVE, PARAMS, BATCH, rho=v
        ),
        "flows.solve(alpha)": lambda v: solve(alpha=v, rho=0.1, kind="sum_max"),
        "flows.solve(rho)": lambda v: solve(alpha=0.1, rho=v, kind="sum_max"),
        "flows.solve(times)": lambda v: solve(
            alpha=0.1, rho=0.1, kind="erm", times=[0.0, v]
        ),
        "attacks.pgd(eps)": lambda v: attack(eps=v, steps=2),
        "schedules.create(peak)": lambda v: schedules.create(
            "cosine", peak=v, total_steps=10
        ),
        "sharpness.worst_case(rho)": lambda v: near(rho=v),
    }


def every(seed: int, tries: int) -> Outcome:
    """Each call with each bad number; all are, whatever the seed."""
    lost, count = [], 0
    for name, call in calls().items():
        for value in BAD:
            count += 1
            try:
                call(value)
                lost.append(f"{name} takes {value}")
            except ValueError as error:
                if len(str(error).splitlines()) > 1:
                    lost.append(f"{name} says of {value}: {error}")
            except Exception as error:
                lost.append(f"{name} of {value} is a {type(error).__name__}: {error}")
    return Outcome("a number that is none", count, lost)
