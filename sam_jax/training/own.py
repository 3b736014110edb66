"""Networks and data of one's own in a run: what is recorded of them, and checked."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sam_jax.models import own
from sam_jax.training import consistency
from sam_jax.training.configuration import Config, ConfigError
from sam_jax.training.examples import Examples
from sam_jax.training.feeds import Streamed

# What a run's config.json says of what was given from Python.
GIVEN_MODULE, GIVEN_DATA = "given:module", "given:dataset"
FROM_PYTHON = (
    "was given from Python; read it with sam_jax.analysis.restore.read(workdir, "
    "module=..., dataset=...)."
)


def check_network(
    config: Config,
    module: nn.Module,
    examples: Examples | Streamed,
    classes: int,
    devices: int,
) -> bool:
    """Checks a network of one's own; returns whether it has dropout.

    Raises: ConfigError of one line for a network that is not called as ours are, and
      for BatchNorm whose statistics would not be those of a group.
    """
    name = config.model.name
    if ":" not in name:
        return False
    shape, dtype = examples.image_shape, examples.input_dtype
    length = shape if jnp.issubdtype(dtype, jnp.integer) else ()  # of text
    inputs = jax.ShapeDtypeStruct((2, *shape), dtype)
    try:
        found = own.check(module, name, inputs, (2, *length, classes))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not found.statistics:
        return found.draws
    if consistency.group_size(config) == 1:
        raise ConfigError(
            f"Received model.name={name!r}, which has BatchNorm, with groups of one "
            "example, for which batch statistics are not defined; normalise otherwise, "
            "or set a larger sam.m."
        )
    if devices > 1 and not hasattr(module, "axis_name"):
        raise ConfigError(
            f"Received model.name={name!r}, which has BatchNorm, for {devices} "
            "devices; give it the fields axis_name and axis_index_groups, and hand "
            "them to its BatchNorm, so that statistics are those of a group; or set "
            "devices=1."
        )
    return found.draws
