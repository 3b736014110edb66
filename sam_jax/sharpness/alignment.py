"""How gradients with noisy labels align with those of the true and the wrong labels."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sam_jax.core import ascent, trees
from sam_jax.core.objective import Objective

Tree = Any


class Alignment(NamedTuple):
    """Cosines of grad L_all with reference gradients at w, f[2] each: at w and at the
    SAM point w + rho g / |g|, g = grad L_all(w).

    true: with grad L_true, the same examples with all labels right.
    noisy: with grad L_noisy, the examples whose labels are wrong.
    """

    true: Float[Array, " 2"]
    noisy: Float[Array, " 2"]


def alignment(
    objective: Objective,
    params: Tree,
    batch: dict[str, Array | np.ndarray],
    true_labels: Int[Array | np.ndarray, " b"],
    rho: trees.Scalar,
) -> Alignment:
    """The cosines of Fig. 3 (Sec. 4) on one batch, at w and at its ascent point.

    Everything is a pull-back of one forward pass at w and one at the ascent point: the
    gradients differ in the cotangents of the outputs alone. Losses are without penalty.
    The paper calls L_true the loss of "the same set of points as" the clean ones "but
    where all the labels are correct"; those of the clean ones are correct already, so
    it is taken to be that of the whole batch.

    Args:
      objective: its batch has "labels", the given ones.
      rho: radius of the ascent, > 0.

    Returns: cosines; 0 where a gradient is zero, such as L_noisy's without any.
    """
    labels = {"given": batch["labels"], "true": true_labels}
    wrong = jnp.asarray(labels["given"]) != jnp.asarray(labels["true"])

    def gradients(w: Tree, names: tuple[str, ...]) -> list[Tree]:
        outputs, pull, _ = trees.vjp(lambda v: objective.forward(v, batch), w)

        def cotangent(name: str) -> jax.Array:
            kind = "true" if name == "true" else "given"
            used = batch | {"labels": labels[kind]}
            weights = wrong if name == "noisy" else jnp.ones_like(wrong)
            return jax.grad(
                lambda z: (
                    jnp.sum(objective.losses(z, used) * weights)
                    / jnp.maximum(jnp.sum(weights), 1)
                )
            )(outputs)

        return [pull(cotangent(name)) for name in names]

    here, true, noisy = gradients(params, ("all", "true", "noisy"))
    delta = ascent.perturbation(ascent.normalized, here, params, rho)
    (there,) = gradients(trees.add(params, delta), ("all",))
    points = [trees.unit(g) for g in (here, there)]
    cosines = [
        jnp.stack([trees.dot(point, trees.unit(reference)) for point in points])
        for reference in (true, noisy)
    ]
    return Alignment(*cosines)
