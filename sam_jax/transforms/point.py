"""Where a variant takes its gradient: the one argument that all variants share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core import ascent, devices, groups, implicit, trees
from sam_jax.core.gradient import Gradient, loss_gradient, sharpness_aware_gradient
from sam_jax.core.objective import Objective
from sam_jax.core.passes import Oracle

Tree = Any


class Point(NamedTuple):
    """Where, on what, and how far a sharpness-aware gradient looks.

    An optax transformation makes one in `update`, the training step in every step.

    oracle: an Objective, or another that `core.passes` knows, such as a grad_fn.
    params, batch: w, and the examples of the step.
    rho: this step's ascent radius, f[].
    gradient: the gradient at w on this batch where it is known already, as it comes
      down an optax chain; None where it is not.
    ascent_batch: examples for the ascent alone; None for the batch itself.
    mask: bools like params, the leaves that are perturbed; None for all.
    key: of this step, for random perturbations; None if there is none.
    axis_name: the mapped axis of devices that share a global batch, or None.
    state: of the variant before this step, the same on all devices; None for none.
    past_outputs: for `saf`: the outputs [B, ...] of earlier epochs; None for none.
    """

    oracle: Oracle
    params: Tree
    batch: Tree
    rho: trees.Scalar
    gradient: Tree = None
    ascent_batch: Tree = None
    mask: Tree = None
    key: jax.Array | None = None
    axis_name: str | None = None
    state: Tree = None
    past_outputs: Tree = None

    def here(self) -> Gradient:
        """The gradient at w: `self.gradient` where that is known, else by a pass."""
        if self.gradient is None:
            return self._pass(self.params)
        known = devices.mean_of_own(self.gradient, self.axis_name)
        return Gradient(known, known, None, None, None, jnp.zeros((), jnp.float32))

    def there(self, delta: Tree) -> Gradient:
        """The gradient at w + delta, by a pass; `Gradient.clean` is None."""
        result = self._pass(trees.add(self.params, delta))
        return result._replace(clean=None, ascent_norm=trees.norm(delta))

    def masked(self, direction: Tree) -> Tree:
        """The direction where the mask allows a perturbation, zero elsewhere."""
        if self.mask is None:
            return direction
        keep = ascent.unnormalized
        return ascent.perturbation(keep, direction, self.params, 1, self.mask)

    def perturbation(self, direction: Tree, rule: ascent.Rule) -> Tree:
        """The perturbation of a rule along a direction, where the mask allows one."""
        return ascent.perturbation(rule, direction, self.params, self.rho, self.mask)

    def climb(
        self, here: Gradient, direction: Tree, rule: ascent.Rule = ascent.normalized
    ) -> Gradient:
        """The gradient at the ascent point of a direction that may be another one than
        the gradient; losses, outputs and aux are those of the pass at w.
        """
        there = self.there(self.perturbation(direction, rule))
        return here._replace(
            gradient=there.gradient, clean=here.gradient, ascent_norm=there.ascent_norm
        )

    def require_objective(self, name: str) -> Objective:
        """The oracle as an Objective.

        Raises: ValueError for a bare grad_fn, a scalar loss, and microbatches.
        """
        if isinstance(self.oracle, Objective):
            return self.oracle
        raise ValueError(
            f"{name} received a bare grad_fn, a scalar loss or microbatches, which "
            "hide outputs and losses; pass objective=sam_jax.Objective("
            "predict, loss), whole."
        )

    def _pass(self, params: Tree) -> Gradient:
        return loss_gradient(self.oracle, params, self.batch, axis_name=self.axis_name)

    def evaluate_implicitly(
        self, *, m: groups.Count, chunk: groups.Count | None, **options: Any
    ) -> Gradient:
        """The same for groups of m, of an Objective, without copies of the weights.

        Args:
          m, chunk, options: as in `core.implicit.gradient`.
        """
        assert isinstance(self.oracle, Objective)
        return implicit.gradient(
            self.oracle,
            self.params,
            self.batch,
            rho=self.rho,
            m=m,
            chunk=chunk,
            mask=self.mask,
            axis_name=self.axis_name,
            **options,
        )

    def evaluate(
        self, *, m: groups.Count | None = None, reuse: bool = False, **options: Any
    ) -> Gradient:
        """`core.gradient.sharpness_aware_gradient` here, with a variant's options.

        Args:
          m: see there.
          reuse: take `self.gradient`, where it is known, for the gradient at w. It
            belongs to a single perturbation, so groups of m leave it alone.
        """
        return sharpness_aware_gradient(
            self.oracle,
            self.params,
            self.batch,
            rho=self.rho,
            m=m,
            mask=self.mask,
            clean=self.gradient if reuse and m is None else None,
            axis_name=self.axis_name,
            **options,
        )
