"""Initial parameters from one random draw.

A network of sixty layers asks for sixty draws of different shapes, each with its own
compilation: ten seconds for a ResNet-18. One flat draw, cut into layers, takes one.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import DTypeLike

from sam_jax import checks

Variables = dict[str, Any]
conv_kernel = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
dense_kernel = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
# Positions, class tokens and registers (Dosovitskiy et al. 2021; Radford et al. 2019).
TOKEN_DEVIATION = 0.02
token_embedding = nn.initializers.normal(TOKEN_DEVIATION)


class Rule(NamedTuple):
    """value + deviation * N(0, 1)."""

    value: float
    deviation: float


class Layer(NamedTuple):
    """What the rules ask of a layer.

    name: of its class. kind: "conv", "dense", "embedding", or "other".
    inputs: how many leading axes of a dense kernel are inputs; the others are outputs.
    """

    name: str
    kind: str
    inputs: int = 1

    @classmethod
    def of(cls, module: nn.Module) -> "Layer":
        """The layer that a module is, asked while it is being called."""
        name = type(module).__name__
        if isinstance(module, nn.Conv):
            return cls(name, "conv")
        if isinstance(module, nn.Embed):
            return cls(name, "embedding")
        if isinstance(module, nn.Dense):
            return cls(name, "dense")
        if isinstance(module, nn.DenseGeneral) and not module.batch_dims:
            several = isinstance(module.axis, tuple | list)
            return cls(name, "dense", len(module.axis) if several else 1)
        return cls(name, "other")


def initial_rule(name: str, shape: tuple[int, ...], layer: Layer) -> Rule:
    """How a parameter starts, by its name in flax, its shape, and the layer it is of.

    - convolution kernel [..., in, out]: N(0, 2 / (positions * out)), which keeps the
      variance of the gradient through a ReLU layer (He et al. 2015, Eq. 14: fan-out);
    - dense kernel [in..., out...]: N(0, 1 / in), which keeps the second moment of the
      inputs (LeCun et al. 1998, Sec. 4.6). Attention's have several axes of each;
    - embedding [entries, features]: N(0, 1 / features), flax's own;
    - positions, class_token and registers of a transformer: N(0, .02^2);
    - norm scale 1; biases 0; running mean 0 and variance 1.

    Raises: ValueError for a kernel of a layer of another kind.
    """
    constants = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}
    if name in ("positions", "class_token", "registers"):
        return Rule(0.0, TOKEN_DEVIATION)
    if (name, layer.kind) == ("embedding", "embedding"):
        return Rule(0.0, math.sqrt(1 / shape[1]))
    if name != "kernel":
        return Rule(checks.choose("parameter name", name, constants), 0.0)
    if layer.kind == "conv":
        return Rule(0.0, math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1])))
    if layer.kind != "dense":
        raise ValueError(
            f"Received a kernel of shape {shape} of a layer {layer.name}, "
            "for whose kernel there is no rule; there is one for flax's Dense, "
            "DenseGeneral (attention) and Conv. Use those, or initialise by "
            "module.init."
        )
    return Rule(0.0, math.sqrt(1 / math.prod(shape[: layer.inputs])))


def initialize(
    module: nn.Module,
    key: jax.Array,
    image_shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
    input_dtype: DTypeLike = jnp.float32,
) -> Variables:
    """Variables {"params": ..., "batch_stats": ...} of a model, by `initial_rule`.

    Same distributions as `module.init`, a tenth of its time, and the same numbers for
    every number of devices. Can be traced: `jax.vmap` over keys gives an ensemble.

    Args:
      module: called with (images, train), its leaves named as `initial_rule` knows.
      key: the only source of randomness.
      image_shape: of one example, without the batch axis: (height, width, channels);
        (length,) for tokens.
      dtype: of the parameters; running statistics are float32 or wider.
      input_dtype: of the images as the module gets them; an integer type for tokens.

    Returns: the collections of the module; "batch_stats" only where it has BatchNorm.
    Raises: ValueError for an axis below 1 and for a leaf without a rule.
    """
    for size in image_shape:
        checks.integer("image_shape", size, 1)
    example = jax.ShapeDtypeStruct((1, *image_shape), input_dtype)
    variables, places = _trace(module, example)
    leaves, structure = jax.tree_util.tree_flatten_with_path(variables)
    wide = jnp.promote_types(dtype, jnp.float32)
    plan = tuple(
        (
            _rule_of(path, places),
            leaf.shape,
            jnp.dtype(wide if path[0].key == "batch_stats" else dtype),
        )
        for path, leaf in leaves
    )
    return jax.tree.unflatten(structure, _draw(key, plan))


class Place(NamedTuple):
    """A layer, and the shapes of its parameters as it sees them.

    Inside `nn.scan` they lack the axis over layers that the variables have.
    """

    layer: Layer
    shapes: dict[str, tuple[int, ...]]


def _trace(
    module: nn.Module, example: jax.ShapeDtypeStruct
) -> tuple[Any, dict[tuple[str, ...], Place]]:
    """The shapes of a module's variables, and its layers by path."""
    places: dict[tuple[str, ...], Place] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        if context.method_name == "__call__":
            here = context.module
            own = [leaf for part in here.variables.values() for leaf in part.items()]
            shapes = {name: x.shape for name, x in own if hasattr(x, "shape")}
            places[here.path] = Place(Layer.of(here), shapes)
        return result

    init = functools.partial(module.init, train=False)
    with nn.intercept_methods(note):
        return jax.eval_shape(init, jax.random.key(0), example), places


def _rule_of(path: Any, places: dict[tuple[str, ...], Place]) -> Rule:
    _, *parents, name = (part.key for part in path)
    layer, shapes = places[tuple(parents)]
    try:
        return initial_rule(name, shapes[name], layer)
    except ValueError as error:
        raise ValueError(f"{'/'.join([*parents, name])}: {error}") from None


@functools.partial(jax.jit, static_argnames="plan")
def _draw(key: jax.Array, plan: tuple) -> list[jax.Array]:
    """The leaves of a plan of (rule, shape, dtype), cut from one normal draw."""
    widest = functools.reduce(jnp.promote_types, [d for *_, d in plan], jnp.float32)
    sizes = [math.prod(shape) if rule.deviation else 0 for rule, shape, _ in plan]
    noise = jax.random.normal(key, (sum(sizes),), widest)
    leaves, start = [], 0
    for (rule, shape, dtype), size in zip(plan, sizes, strict=True):
        if size:
            drawn = noise[start : start + size].reshape(shape)
            leaves.append((rule.value + rule.deviation * drawn).astype(dtype))
        else:
            leaves.append(jnp.full(shape, rule.value, dtype))
        start += size
    return leaves
