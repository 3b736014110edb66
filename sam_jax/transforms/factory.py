"""From a variant's gradient to its optax transformation: state, arguments, errors."""

import inspect
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sam_jax.core import ascent, devices, trees
from sam_jax.core.gradient import Gradient
from sam_jax.core.objective import Objective
from sam_jax.core.passes import GradFn
from sam_jax.transforms import checks, placement
from sam_jax.transforms.point import Point

Tree = Any
Rho = trees.Scalar | Callable[[jax.Array], trees.Scalar]
InitState = Callable[..., Any]
Factory = Callable[..., optax.GradientTransformationExtraArgs]
WHOLE_BATCH = (
    " Its perturbation is one for the whole batch: leave m out, or use sam or sum_max."
)


class DefaultCount(np.int64):
    """A count that is the default of an option.

    optax.inject_hyperparams turns Python numbers, defaults too, into traced arrays, and
    leaves numpy integers alone. `help` shows it as a plain number.
    """

    def __repr__(self) -> str:
        return str(int(self))


ONE = DefaultCount(1)


class SamState(NamedTuple):
    """count: steps taken, i32[]; what a rho schedule is evaluated at.
    ascent_norm: l2 norm of the last perturbation (mean over groups), f32[].
    variant: state of a variant that has one, such as an average; None otherwise.
    """

    count: jax.Array
    ascent_norm: jax.Array
    variant: Tree = None


def transformation(
    name: str,
    gradient: Callable[..., Gradient],
    rho: Rho,
    axis_name: str | None,
    *,
    seed: trees.Scalar | None = None,
    init_state: InitState | None = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """A transformation that replaces the gradient by `gradient(point, **options)`.

    Args:
      name: the public name, for error messages.
      gradient: the variant's, see `variants`.
      rho: see `check_rho`. A constant 0 hands the incoming gradient on, bit for bit,
        or its mean over devices.
      seed: of the point's key at step t, fold_in(key(seed), t); None for no key.
      init_state: (params, **options) -> the variant's state; None for none.
      options: of the variant; each is checked by its name.
    """
    checks.check_rho(name, rho)
    checks.check_options(name, options)
    off = isinstance(rho, numbers.Real) and rho == 0

    def init(params: Tree) -> SamState:
        state = None if init_state is None else init_state(params, **options)
        return SamState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32), state)

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
        past_outputs: Tree = None,
        **unused: Any,
    ) -> tuple[Tree, SamState]:
        del unused  # other links of the chain read these
        oracle = grad_fn if objective is None else objective
        _require(name, params=params, batch=batch, **{"grad_fn or objective": oracle})
        assert oracle is not None
        count = optax.safe_increment(state.count)
        if off:
            updates = devices.mean_of_own(updates, axis_name)
            zero = jnp.zeros((), jnp.float32)
            return updates, SamState(count, zero, state.variant)
        if state.variant is not None and _is_part(params):
            raise ValueError(
                f"{name} has a state of all parameters, and sees only a part of them "
                "inside optax.masked or multi_transform; put it in front: chain("
                f"sam_jax.only(mask, sam_jax.{name}(rho)), multi_transform(...))."
            )
        placement.check(name)
        whole, known, mask = _unmask(params, updates, ascent_mask, full_params)
        ascent.check_gradient(known, whole)
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
            state=state.variant,
            past_outputs=past_outputs,
        )
        result = gradient(point, **options)
        norm = result.ascent_norm.astype(jnp.float32)
        new_state = SamState(count, norm, result.state)
        return _like(result.gradient, updates), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def make_factory(
    name: str,
    gradient: Callable[..., Gradient],
    init_state: InitState | None = None,
    *,
    draws: bool = False,
) -> Factory:
    """The optax factory (rho, *, the gradient's options, axis_name) of a variant.

    Its signature and docstring are made of the gradient's.

    Args:
      name, gradient, init_state: as in `transformation`.
      draws: whether the gradient reads `Point.key`; the factory then takes a seed.
    """
    keyword = inspect.Parameter.KEYWORD_ONLY
    _, *options = inspect.signature(gradient).parameters.values()
    others = [inspect.Parameter("axis_name", keyword, default=None)]
    if draws:
        others.insert(0, inspect.Parameter("seed", keyword, default=0))
    first = inspect.Parameter("rho", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([first, *options, *others])

    def factory(*args: Any, **given: Any) -> optax.GradientTransformationExtraArgs:
        unknown = sorted(given.keys() - signature.parameters.keys())
        if unknown:
            raise ValueError(
                f"{name} received {unknown[0]}={given[unknown[0]]!r}, which is no "
                f"option of it; it takes {', '.join(signature.parameters)}."
                + (WHOLE_BATCH if unknown[0] in ("m", "chunk") else "")
            )
        bound = signature.bind(*args, **given)
        bound.apply_defaults()
        return transformation(name, gradient, init_state=init_state, **bound.arguments)

    factory.__name__ = factory.__qualname__ = name
    factory.__module__, factory.__doc__ = gradient.__module__, gradient.__doc__
    factory.__dict__["__signature__"] = signature
    return factory


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


def _is_part(params: Tree) -> bool:
    """Whether leaves are hidden, as inside `masked` or `multi_transform`."""
    return any(map(_is_masked, jax.tree.leaves(params, is_leaf=_is_masked)))


def _unmask(
    params: Tree, updates: Tree, mask: Tree, full_params: Tree
) -> tuple[Tree, Tree, Tree]:
    """The whole parameters, gradient and mask, inside `masked` or `multi_transform`.

    There a link sees MaskedNode in place of the leaves that are not its own, while
    grad_fn needs all of them; only the link's own leaves are perturbed.
    """
    if not _is_part(params):
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
