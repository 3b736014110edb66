"""Group normalisation that XLA compiles well on CPU."""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen import dtypes
from jax import lax
from jaxtyping import Array, DTypeLike, Float

# BatchNorm keeps old * MOMENTUM + batch * (1 - MOMENTUM) as its running statistics.
MOMENTUM = 0.9


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018, arXiv:1803.08494): that of flax, folded.

        y = a x + b,  a = scale / sqrt(var + epsilon),  b = bias - a mean,

    with the mean and variance of an example over all positions and the channels of a
    group. Every sum is taken channel by channel over positions, and only its result,
    [batch, channels], is summed over groups: a reduction over positions and part of the
    channels at once, as flax has it, takes XLA's CPU backend several times the rest of
    the layer. The backward pass that autodiff makes of it is as short: one such
    reduction, and one pass over x.

    Attributes:
      num_groups: groups of contiguous channels; divides their number.
      epsilon: added to the variance.
      dtype: of the result; None follows input and parameters. Statistics are
        accumulated in float32 or wider.
    """

    num_groups: int
    epsilon: float
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *positions channels"]
    ) -> Float[Array, "batch *positions channels"]:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        dtype = dtypes.canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        wide = x.astype(jnp.promote_types(dtype, jnp.float32))
        positions = tuple(range(1, x.ndim - 1))

        def group_mean(x: Array) -> Array:
            means = jnp.mean(x, positions).reshape(len(x), self.num_groups, -1)
            return jnp.repeat(means.mean(-1), channels // self.num_groups, axis=-1)

        mean = group_mean(wide)
        var = jnp.maximum(group_mean(wide * wide) - mean * mean, 0)
        a = scale * lax.rsqrt(var + self.epsilon)
        b = bias - a * mean
        return (
            wide * jnp.expand_dims(a, positions) + jnp.expand_dims(b, positions)
        ).astype(dtype)
