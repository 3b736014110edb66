"""From a variant's gradient to its optax transformation: state, arguments, errors."""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_jax.core import ascent, trees
from sam_jax.core.gradient import GradFn, Gradient
from sam_jax.core.objective import Objective
from sam_jax.transforms.point import Point

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


def transformation(
    name: str,
    gradient: Callable[..., Gradient],
    rho: Rho,
    axis_name: str | None,
    *,
    seed: trees.Scalar | None = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """A transformation that replaces the gradient by `gradient(point, **options)`.

    Args:
      name: the public name, for error messages.
      gradient: the variant's, see `variants`.
      rho: see `check_rho`. A constant 0 hands the incoming gradient on, bit for bit.
      seed: of the point's key at step t, fold_in(key(seed), t); None for no key.
      options: of the variant; each is checked by its name.
    """
    check_rho(name, rho)
    for option, value in options.items():
        CHECKS.get(option, _accept)(name, option, value)
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
        ascent_key: jax.Array | None = None,
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
        whole, known, mask = _unmask(params, updates, ascent_mask, full_params)
        if ascent_key is None and seed is not None:
            ascent_key = jax.random.fold_in(jax.random.key(seed), state.count)
        radius = rho(state.count) if callable(rho) else rho
        ascent.check_radius(name, radius)
        point = Point(
            oracle,
            whole,
            batch,
            rho=radius,
            gradient=known,
            ascent_batch=ascent_batch,
            mask=mask,
            key=ascent_key,
            axis_name=axis_name,
        )
        result = gradient(point, **options)
        norm = result.ascent_norm.astype(jnp.float32)
        return _like(result.gradient, updates), SamState(count, norm)

    return optax.GradientTransformationExtraArgs(init, update)


def check_rho(name: str, rho: Any) -> None:
    """rho must be a real number >= 0, a scalar array, or a schedule of the step."""
    if not callable(rho):
        ascent.check_radius(name, rho)


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


def check_optional_count(name: str, argument: str, value: Any) -> None:
    """A count, or None."""
    check_count(name, argument, value, optional=True)


def check_step_size(name: str, argument: str, value: Any) -> None:
    """The length of an ascent step, or None for rho."""
    if value is not None:
        check_number(name, argument, value)


def _accept(name: str, argument: str, value: Any) -> None:
    del name, argument, value


# How the options of all variants are checked, by name.
CHECKS: dict[str, Callable[[str, str, Any], None]] = {
    "m": check_optional_count,
    "chunk": check_optional_count,
    "ascent_steps": check_count,
    "ascent_step_size": check_step_size,
    "eta": check_number,
    "alpha": check_number,
}


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
