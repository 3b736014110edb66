"""Networks that are not of this library: made, checked and initialised as they are."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import errors
from jaxtyping import DTypeLike

CONTRACT = (
    "A network of your own is a flax linen module, or a class or function that makes "
    "one of num_classes= and model.options; it is called with (images [B, H, W, C], "
    "train) -> logits [B, num_classes], of text with (tokens [B, length], train) -> "
    "logits [B, length, num_classes]."
)


def create(source: Any, what: str, num_classes: int, **options: Any) -> nn.Module:
    """The module that a source is or makes, with these options.

    Args:
      source: a module, or a callable that makes one.
      what: its name, for errors.

    Raises: ValueError of one line, with the contract, for anything else.
    """
    if isinstance(source, nn.Module):
        unknown = options.keys() - set(allowed_options(source))
        if unknown:
            raise ValueError(
                f"The network {what} is a module, made already, without the field "
                f"{sorted(unknown)[0]!r}. {CONTRACT}"
            )
        return source.clone(**options)
    if not callable(source):
        raise ValueError(f"The network {what} is {source!r}. {CONTRACT}")
    try:
        module = source(num_classes=num_classes, **options)
    except TypeError as error:
        raise ValueError(
            f"The network {what} cannot be made of num_classes={num_classes} and the "
            f"options {options}: {error}. {CONTRACT}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"The network {what} made {module!r}. {CONTRACT}")
    return module


def allowed_options(source: Any) -> list[str]:
    """The names that a source takes beside num_classes, as far as it says so."""
    if isinstance(source, nn.Module):
        names = [f.name for f in dataclasses.fields(source)]
    elif callable(source):
        names = list(inspect.signature(source).parameters)
    else:
        names = []
    return [n for n in names if n not in ("num_classes", "parent", "name")]


@dataclasses.dataclass(frozen=True)
class Traits:
    """What tracing a network shows.

    statistics: whether it has BatchNorm. draws: whether it draws random numbers in
    training, as dropout does.
    """

    statistics: bool
    draws: bool


def check(
    module: nn.Module, what: str, inputs: Any, outputs: tuple[int, ...]
) -> Traits:
    """Traces a network in both modes.

    Args:
      inputs: shape and dtype of a batch. outputs: the shape its logits must have.

    Raises: ValueError of one line, with the contract, unless it is called as that says.
    """
    key = jax.random.key(0)
    try:
        hash(module)
        made = jax.eval_shape(functools.partial(module.init, train=False), key, inputs)
        logits = jax.eval_shape(
            functools.partial(module.apply, train=False), made, inputs
        )
        draws = _draws(module, made, inputs)
    except Exception as error:  # the user's own code and flax raise all kinds
        raise ValueError(
            f"The network {what} cannot be called on {_words(inputs)}: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]} {CONTRACT}"
        ) from error
    others = set(made) - {"params", "batch_stats"}
    if others:
        raise ValueError(
            f"The network {what} has variables in {', '.join(sorted(others))}; a run "
            "keeps params and batch_stats alone. Make them parameters, or leave them "
            "out."
        )
    if getattr(logits, "shape", None) != outputs:
        raise ValueError(
            f"The network {what} returned {_words(logits)} for {_words(inputs)}, not "
            f"logits of shape {outputs}. {CONTRACT}"
        )
    return Traits("batch_stats" in made, draws)


def _draws(module: nn.Module, variables: Mapping[str, Any], inputs: Any) -> bool:
    """Whether training asks for a random key named dropout."""

    def call(variables: Any, inputs: Any, **rngs: Any) -> Any:
        return module.apply(
            variables, inputs, train=True, mutable=["batch_stats"], **rngs
        )

    try:
        jax.eval_shape(call, variables, inputs)
    except errors.InvalidRngError:
        jax.eval_shape(
            lambda v, x: call(v, x, rngs={"dropout": jax.random.key(0)}),
            variables,
            inputs,
        )
        return True
    return False


def initialize(
    module: nn.Module,
    key: jax.Array,
    image_shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
    input_dtype: DTypeLike = jnp.float32,
) -> dict[str, Any]:
    """Variables by the module's own initialisers, floating ones in `dtype`."""
    example = jnp.zeros((1, *image_shape), input_dtype)
    variables = module.init(key, example, train=False)

    def cast(path: Any, leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        wide = jnp.promote_types(dtype, jnp.float32)
        return leaf.astype(wide if path[0].key == "batch_stats" else dtype)

    return jax.tree_util.tree_map_with_path(cast, dict(variables))


def _words(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is None:
        return f"a {type(value).__name__}"
    return f"an array of shape {shape} and type {value.dtype}"
