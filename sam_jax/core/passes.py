"""Passes: an oracle evaluated at some parameters, with its gradient there.

An oracle is what a gradient is taken of: an `Objective`, a scalar `MeanLoss`, one of
the two over microbatches (`Accumulated`), or a bare grad_fn. `of` makes a pass of any.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core import ascent, groups, trees
from sam_jax.core.objective import MeanLoss, Objective

Tree = Any
GradFn = Callable[[Tree, Tree], Tree]


class Accumulated(NamedTuple):
    """An oracle whose passes go through a batch in microbatches, one after another.

    Its gradient, losses and outputs are those of the whole batch; memory holds the
    activations of one microbatch. Whoever perturbs sees one batch: the perturbation is
    that of all microbatches together.

    oracle: evaluated on every microbatch. number: of microbatches, a divisor of the
    batch.
    """

    oracle: Objective | MeanLoss
    number: groups.Count


Oracle = Objective | MeanLoss | Accumulated | GradFn


def of(oracle: Oracle, params: Tree, batch: Tree) -> Any:
    """The pass of an oracle: `gradient()`, `losses`, `outputs`, `aux`, `cotangent`."""
    if isinstance(oracle, Objective):
        return _ObjectivePass(oracle, params, batch)
    if isinstance(oracle, MeanLoss):
        return _ScalarPass(oracle, params, batch)
    if isinstance(oracle, Accumulated):
        return _AccumulatedPass(oracle, params, batch)
    return _OpaquePass(oracle, params, batch)


def traceable(oracle: Oracle) -> Callable[[Tree, Tree], Any]:
    """(params, batch) -> what an oracle computes of them, in one pass forward if it can
    be had alone.
    """
    if isinstance(oracle, Accumulated):
        return traceable(oracle.oracle)
    return oracle.forward if isinstance(oracle, Objective | MeanLoss) else oracle


def shows_outputs(oracle: Oracle) -> bool:
    """Whether an oracle keeps outputs and loss apart, as the swaps need it."""
    inner = oracle.oracle if isinstance(oracle, Accumulated) else oracle
    return isinstance(inner, Objective)


class _ObjectivePass:
    """The forward pass of an objective at some parameters, and its pull-back.

    outputs, aux, losses: see Gradient. cotangent: d mean(losses) / d outputs.
    pull: cotangent of the outputs -> tree like params.
    """

    def __init__(self, objective: Objective, params: Tree, batch: Tree):
        self.outputs, self.pull, self.aux = trees.vjp(
            lambda w: objective.forward(w, batch), params
        )
        self.penalty_gradient = objective.penalty_gradient(params)

        def mean_loss(outputs):
            losses = objective.losses(outputs, batch)
            return jnp.mean(losses), losses

        (_, self.losses), self.cotangent = jax.value_and_grad(mean_loss, has_aux=True)(
            self.outputs
        )

    def gradient(self, cotangent: Tree = None) -> Tree:
        """Pulls a cotangent back (this pass's own by default), plus the penalty's."""
        loss = self.pull(self.cotangent if cotangent is None else cotangent)
        penalty = self.penalty_gradient
        return loss if penalty is None else trees.add(loss, penalty)


class _OpaquePass:
    """The same for a bare grad_fn, which shows its gradient alone."""

    outputs = aux = losses = cotangent = None

    def __init__(self, grad_fn: GradFn, params: Tree, batch: Tree):
        self._grad_fn, self._params, self._batch = grad_fn, params, batch

    def gradient(self, cotangent: Tree = None) -> Tree:
        """What grad_fn returns, which is checked to be a tree like params."""
        assert cotangent is None
        gradient = self._grad_fn(self._params, self._batch)
        ascent.check_gradient(gradient, self._params)
        return gradient


class _ScalarPass:
    """The same for a scalar loss: its losses are the one mean that it returns, f[1]."""

    outputs = cotangent = None

    def __init__(self, loss: MeanLoss, params: Tree, batch: Tree):
        value, self._pull, self.aux = trees.vjp(
            lambda w: loss.forward(w, batch), params
        )
        self.losses = value[None]

    def gradient(self, cotangent: Tree = None) -> Tree:
        """The gradient of the mean."""
        assert cotangent is None
        return self._pull(jnp.ones_like(self.losses[0]))


class _AccumulatedPass:
    """The same over microbatches: means of gradients and aux, all losses and outputs.

    cotangent: of all microbatches, each with respect to its own mean loss.
    """

    def __init__(self, accumulated: Accumulated, params: Tree, batch: Tree):
        self._oracle, self._params, self._batch = accumulated.oracle, params, batch
        self._pieces = groups.Groups(None, int(accumulated.number), None, False)

        def one(piece: Tree) -> tuple[Tree, Tree]:
            seen = of(self._oracle, params, piece)
            kept = (seen.losses, seen.outputs, seen.cotangent)
            return (seen.gradient(), seen.aux), kept

        averaged, kept = groups.average(one, batch, self._pieces, chunk=1)
        self._gradient, self.aux = averaged
        self.losses, self.outputs, self.cotangent = kept

    def gradient(self, cotangent: Tree = None) -> Tree:
        """The mean of the microbatches' gradients, or of what they pull back."""
        if cotangent is None:
            return self._gradient

        def one(piece: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
            batch, own = piece
            return of(self._oracle, self._params, batch).gradient(own), None

        both = (self._batch, cotangent)
        return groups.average(one, both, self._pieces, chunk=1)[0]
