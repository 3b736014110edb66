"""`value_and_grad`: SAM for a trainer that knows no more than `jax.value_and_grad`."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax import checks
from sam_jax.core import ascent, devices, groups, trees
from sam_jax.core.gradient import Gradient, check_swap, loss_gradient
from sam_jax.core.objective import MeanLoss, Objective, batch_size
from sam_jax.core.passes import Accumulated, Oracle
from sam_jax.transforms.checks import check_count, check_options
from sam_jax.transforms.point import Point
from sam_jax.transforms.variants import VARIANTS

Tree = Any
NAME = "value_and_grad"


def value_and_grad(
    loss_fn: Callable[..., Any] | Objective,
    *,
    rho: trees.Scalar,
    m: groups.Count | None = None,
    swap: str | None = None,
    accumulate: groups.Count | None = None,
    has_aux: bool = False,
    kind: str | None = None,
    mask: Tree = None,
    axis_name: str | None = None,
    **options: Any,
) -> Callable[..., tuple[Any, Tree]]:
    """The loss at w, and SAM's gradient in place of the plain one.

    Stands where `jax.value_and_grad(loss_fn, has_aux=has_aux)` stood, in front of any
    optimiser and in any trainer: nothing else needs to know of SAM.

        (loss, aux), grads = sam_jax.value_and_grad(loss_fn, rho=0.05, has_aux=True)(
            params, batch, rngs=key
        )

    Args:
      loss_fn: (params, batch, ...) -> mean loss over the batch, f[]; with `has_aux`
        (loss, aux). Or an `Objective`, which brings its own `has_aux`, makes groups
        cheap, and is needed for a swap; its value has the penalty in it.
      rho: ascent radius, >= 0; may be traced, such as schedule(step). 0 is the plain
        gradient.
      m: who shares a perturbation: None for the whole batch, otherwise every m
        consecutive examples have their own (m-SAM; m = 1 is Eq. 2).
      swap: "direction" or "derivative", the ablations of Table 1.
      accumulate: number of microbatches that the batch is taken in, one after another,
        so that memory holds the activations of one. No result changes by it: with
        m = None the ascent is accumulated first, then the descent, and all microbatches
        share a perturbation; with m = B / accumulate each has its own.
      kind: variant by its name in the table of variants, one without a state; "sam" by
        default, "sum_max" with an m. Its options follow: normalize=False, eta=0.1, ...
      mask: bools like params, the leaves that are perturbed; None for all.
      axis_name: mapped axis of devices that share a global batch, as in `sam`; rngs are
        then this device's own, and microbatches parts of its batch.

    Returns: f(params, batch, *args, rngs=None, ascent_batch=None, ascent_key=None,
      **kwargs) -> (value, gradient), or ((value, aux), gradient); value and aux at w,
      gradient a tree like params. `args` and `kwargs` go to loss_fn (of an Objective,
      to predict) as they are in every pass. So do `rngs`, a random key or a dictionary
      of keys, with one batch: both passes draw the same. Groups and microbatches get
      keys of their own, the same in both passes: those that `jax.random.split(key, B)`
      has for their first example. aux is the mean over groups or microbatches.
      `ascent_batch` is max_sum's, `ascent_key` that of variants that draw at random.

    Raises: ValueError for options that the variant does not have, groups or
      microbatches that do not fill the batch, and a loss that is no scalar.
    """
    kind = _kind(kind, m, swap)
    variant = VARIANTS[kind]
    m = variant.options.get("m") if m is None else m
    chosen = options if m is None else {**options, "m": m}
    checks.options(f"{NAME}, kind={kind!r},", chosen, list(variant.options))
    check_options(NAME, chosen)
    check_count(NAME, "accumulate", accumulate, optional=True)
    ascent.check_radius(NAME, rho)
    if isinstance(loss_fn, Objective):
        has_aux = loss_fn.has_aux
    plain = m is None and isinstance(rho, int | float) and rho == 0

    def evaluate(
        params: Tree,
        batch: Tree,
        *args: Any,
        rngs: Tree = None,
        ascent_batch: Tree = None,
        ascent_key: jax.Array | None = None,
        **kwargs: Any,
    ) -> tuple[Any, Tree]:
        if variant.draws and ascent_key is None:
            raise ValueError(
                f"{NAME} received no ascent_key for kind={kind!r}; call the function "
                "that it returned with ascent_key=key, a new one in every step."
            )
        _refuse_state(kind, params, chosen)
        several = m is not None or accumulate is not None
        call = _Call(args, kwargs, rngs, several)
        given = call.with_keys(batch)
        oracle, extra = _in_microbatches(
            call.oracle(loss_fn, has_aux), given, m, accumulate, axis_name
        )
        point = Point(
            oracle,
            params,
            given,
            rho,
            ascent_batch=call.with_keys(ascent_batch),
            mask=mask,
            key=ascent_key,
            axis_name=axis_name,
        )
        if plain:
            result = loss_gradient(oracle, params, given, axis_name=axis_name)
        else:
            result = variant.gradient(point, **chosen, **extra)
        value = _value(result, loss_fn, params, axis_name)
        kept = (value, result.aux) if has_aux else value
        return kept, jax.tree.map(
            lambda w, g: jnp.asarray(g, jnp.result_type(w)), params, result.gradient
        )

    return evaluate


class _Call(NamedTuple):
    """How a loss is called beyond (params, batch), the same in every pass.

    args, kwargs: handed on. rngs: a key or a tree of keys, or None.
    several: whether there are several groups or microbatches, with keys of their own.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rngs: Tree
    several: bool

    def with_keys(self, batch: Tree) -> Tree:
        """The batch, with a key for every example where groups need their own."""
        if batch is None or self.rngs is None or not self.several:
            return batch
        size = batch_size(batch)

        def split(key: jax.Array) -> jax.Array:
            typed = key if _is_typed(key) else jax.random.wrap_key_data(key)
            return jax.random.split(typed, size)

        return batch, jax.tree.map(split, self.rngs)

    def oracle(self, loss_fn: Callable | Objective, has_aux: bool) -> Oracle:
        """The loss as a function of what `with_keys` makes."""
        if isinstance(loss_fn, Objective):
            predict, loss = loss_fn.predict, loss_fn.loss
            return dataclasses.replace(
                loss_fn,
                predict=lambda params, given: self.apply(predict, params, given),
                loss=lambda outputs, given: loss(outputs, self._open(given)[0]),
            )
        return MeanLoss(
            lambda params, given: self.apply(loss_fn, params, given), has_aux
        )

    def apply(self, function: Callable, params: Tree, given: Tree) -> Any:
        """function(params, batch, ...) on a batch as `with_keys` makes it."""
        batch, rngs = self._open(given)
        keys = {} if rngs is None else {"rngs": rngs}
        return function(params, batch, *self.args, **keys, **self.kwargs)

    def _open(self, given: Tree) -> tuple[Tree, Tree]:
        if self.rngs is None or not self.several:
            return given, self.rngs
        batch, keys = given

        def first(key: jax.Array, of_examples: jax.Array) -> jax.Array:
            own = of_examples[0]
            return own if _is_typed(key) else jax.random.key_data(own)

        return batch, jax.tree.map(first, self.rngs, keys)


def _is_typed(key: jax.Array) -> bool:
    """Whether a key is one of `jax.random.key`, and no bare uint32[2]."""
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _kind(kind: str | None, m: groups.Count | None, swap: str | None) -> str:
    """The variant's name from what says it."""
    if swap is not None:
        check_swap(swap)
        if kind is not None:
            raise ValueError(
                f"{NAME} received kind={kind!r} with swap={swap!r}; a swap is a kind "
                "of its own: leave one of them out."
            )
        return f"sam_{swap}"
    if kind is None:
        return "sam" if m is None else "sum_max"
    checks.choose("kind", kind, VARIANTS)
    return kind


def _refuse_state(kind: str, params: Tree, options: dict[str, Any]) -> None:
    """Raises ValueError for a variant that keeps something from step to step."""
    init_state = VARIANTS[kind].init_state
    if init_state is None or init_state(params, **options) is None:
        return
    raise ValueError(
        f"{NAME} received kind={kind!r}, options {sorted(options)}, which keeps a "
        "state from step to step, and has no place for one; use optax.chain("
        f"sam_jax.{kind}("
        "rho, ...), optimizer)."
    )


def _in_microbatches(
    oracle: Oracle,
    batch: Tree,
    m: groups.Count | None,
    accumulate: groups.Count | None,
    axis_name: str | None,
) -> tuple[Oracle, dict[str, Any]]:
    """The oracle and the options that take a batch in so many parts."""
    if accumulate is None:
        return oracle, {}
    if m is None:
        what, number = "examples", batch_size(batch)
    else:
        what, number = f"groups of m={m}", groups.form(batch, m, axis_name).number
    if number % accumulate:
        fitting = [k for k in range(1, number + 1) if number % k == 0]
        raise ValueError(
            f"{NAME} received accumulate={accumulate} for {number} {what} on a device; "
            f"it must divide them: {fitting}."
        )
    if m is None:
        assert isinstance(oracle, Objective | MeanLoss)
        return Accumulated(oracle, accumulate), {}
    return oracle, {"chunk": number // accumulate}


def _value(
    result: Gradient, loss_fn: Callable | Objective, params: Tree, axis_name: str | None
) -> jax.Array:
    """The mean loss at w over all devices, plus the penalty."""
    assert result.losses is not None
    value = jnp.mean(result.losses)
    if isinstance(loss_fn, Objective) and loss_fn.penalty is not None:
        value = value + loss_fn.penalty(params)
    return value if axis_name is None else devices.mean(value, axis_name)
