"""What every SAM transform shares: its state, its arguments, its errors."""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import GradFn, Gradient, sharpness_aware_gradient
from sam_jax.core.objective import Objective

Tree = Any
# A default count: optax.inject_hyperparams turns Python numbers, defaults too, into
# traced arrays, and leaves numpy integers alone.
ONE = np.int64(1)
Rho = trees.Scalar | Callable[[jax.Array], trees.Scalar]


class SamState(NamedTuple):
    """count: steps taken, i32[]; what a rho schedule is evaluated at.
    ascent_norm: l2 norm of the last perturbation (mean over groups), f32[].
    """

    count: jax.Array
    ascent_norm: jax.Array


class Context(NamedTuple):
    """What a family gets to compute its gradient from, in one update.

    rho: this step's radius. gradient: the gradient that came down the chain.
    params, oracle, batch: where to evaluate what. ascent_batch: as given, or None.
    mask: bools like params, the leaves to perturb; None for all.
    count: steps taken before this one.
    """

    rho: trees.Scalar
    gradient: Tree
    params: Tree
    oracle: Objective | GradFn
    batch: Tree
    ascent_batch: Tree
    mask: Tree
    count: jax.Array

    def evaluate(self, **options: Any) -> Gradient:
        """`core.gradient.sharpness_aware_gradient` here, with a family's options."""
        return sharpness_aware_gradient(
            self.oracle,
            self.params,
            self.batch,
            rho=self.rho,
            mask=self.mask,
            **options,
        )


def rule(normalize: bool) -> ascent.Rule:
    """The plain perturbation rules by their flag."""
    return ascent.normalized if normalize else ascent.unnormalized


def sharpness_aware(
    name: str, rho: Rho, compute: Callable[[Context], Gradient]
) -> optax.GradientTransformationExtraArgs:
    """A transformation that replaces the gradient by `compute(context).gradient`.

    Args:
      name: the public name, for error messages.
      rho: see `check_rho`. A constant 0 hands the incoming gradient on, bit for bit.
      compute: the family's gradient.
    """
    check_rho(name, rho)
    off = isinstance(rho, numbers.Real) and rho == 0

    def init(params: Tree) -> SamState:
        del params
        return SamState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

    def update(
        updates: Tree,
        state: SamState,
        params: Tree = None,
        *,
        grad_fn: GradFn | None = None,
        objective: Objective | None = None,
        batch: Tree = None,
        ascent_batch: Tree = None,
        ascent_mask: Tree = None,
        full_params: Tree = None,
        **unused: Any,
    ) -> tuple[Tree, SamState]:
        del unused  # other links of the chain read these
        oracle = grad_fn if objective is None else objective
        _require(name, params=params, batch=batch, **{"grad_fn or objective": oracle})
        assert oracle is not None
        count = optax.safe_increment(state.count)
        if off:
            return updates, SamState(count, jnp.zeros((), jnp.float32))
        whole, gradient, mask = _unmask(params, updates, ascent_mask, full_params)
        radius = rho(state.count) if callable(rho) else rho
        result = compute(
            Context(
                radius,
                gradient,
                whole,
                oracle,
                batch,
                ascent_batch,
                mask,
                state.count,
            )
        )
        norm = result.ascent_norm.astype(jnp.float32)
        return _like(result.gradient, updates), SamState(count, norm)

    return optax.GradientTransformationExtraArgs(init, update)


def check_rho(name: str, rho: Any) -> None:
    """rho must be a real number >= 0, a scalar array, or a schedule of the step."""
    if callable(rho) or isinstance(rho, jax.core.Tracer):
        return
    is_number = isinstance(rho, numbers.Real | np.ndarray | jax.Array)
    if is_number and np.shape(rho) == () and 0 <= float(rho) < math.inf:
        return
    raise ValueError(
        f"{name} received rho={rho!r}; the ascent radius must be a finite number >= 0 "
        "or a schedule (step -> radius). For the base optimiser alone use rho=0."
    )


def check_count(
    name: str, argument: str, value: Any, *, optional: bool = False
) -> None:
    """A number of things is a Python int >= 1, since it decides what is compiled."""
    if optional and value is None:
        return
    if (
        isinstance(value, int | np.integer)
        and not isinstance(value, bool)
        and value > 0
    ):
        return
    raise ValueError(
        f"{name} received {argument}={value!r}; it must be a Python integer >= 1"
        + (" or None" if optional else "")
        + f". Inside optax.inject_hyperparams, list {argument!r} in static_args."
    )


def check_number(name: str, argument: str, value: Any) -> None:
    """A hyper-parameter that is a finite real number >= 0, or traced."""
    if isinstance(value, jax.core.Tracer):
        return
    if not (np.ndim(value) == 0 and 0 <= float(value) < math.inf):
        raise ValueError(
            f"{name} received {argument}={value!r}; it must be a finite number >= 0."
        )


def _require(name: str, **needed: Any) -> None:
    missing = [key for key, value in needed.items() if value is None]
    if missing:
        raise ValueError(
            f"{name} received no {', '.join(missing)}; it evaluates the gradient at a "
            "second point, so call update(grads, state, params, grad_fn=grad_fn, "
            "batch=batch), with grad_fn(params, batch) -> grads, or objective= in "
            "place of grad_fn. flax's TrainState.apply_gradients drops these: call "
            "tx.update and optax.apply_updates yourself; nnx.Optimizer.update hands "
            "them on."
        )


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _unmask(
    params: Tree, updates: Tree, mask: Tree, full_params: Tree
) -> tuple[Tree, Tree, Tree]:
    """The whole parameters, gradient and mask, inside `masked` or `multi_transform`.

    There a link sees MaskedNode in place of the leaves that are not its own, while
    grad_fn needs all of them; only the link's own leaves are perturbed.
    """
    if not any(map(_is_masked, jax.tree.leaves(params, is_leaf=_is_masked))):
        return params, updates, mask
    if full_params is None:
        raise ValueError(
            "A SAM transform inside optax.masked or multi_transform sees only a part "
            "of the parameters, and cannot evaluate the gradient at another point. "
            "Pass full_params=params to update as well, or put the transform in front "
            "of it: chain(sam_jax.only(mask, sam_jax.sam(rho)), multi_transform(...))."
        )

    def fill(hidden, own):
        return jax.tree.map(
            lambda p, u, w: hidden(w) if _is_masked(p) else own(u, w),
            params,
            updates,
            full_params,
            is_leaf=_is_masked,
        )

    gradient = fill(trees.zeros_like, lambda u, w: u)
    owned = fill(
        lambda w: jax.tree.map(lambda _: False, w),
        lambda u, w: True,
    )
    if mask is not None:
        owned = jax.tree.map(lambda a, b: a and b, owned, mask)
    return full_params, gradient, owned


def _like(gradient: Tree, updates: Tree) -> Tree:
    """The gradient with the dtypes, masked nodes and integer leaves of updates."""

    def one(update, new):
        if _is_masked(update) or not jnp.issubdtype(update.dtype, jnp.floating):
            return update
        return new.astype(update.dtype)

    return jax.tree.map(one, updates, gradient, is_leaf=_is_masked)
