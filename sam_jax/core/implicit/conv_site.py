"""Convolutions as sites; `sites` has the notation X, D, M.

In channels-last form x is [B, *S, C] and y [B, *S_out, C_out], with S the spatial
shape. Block g of the channels at output position p is

    y[p] = sum over taps o of  x_pad[p * stride + o * dilation] V[o],   V[o] [C / G, N].

Two rearrangements keep this cheap, without convolutions whose kernel differs from group
to group (XLA makes grouped convolutions of those, which are slow):

- gram. The patches X [T, taps * C] are not needed for X' X^T. The inner products of
  single pixels P[q', q] = <x'[q'], x[q]> are enough, summed along diagonals:
      (X' X^T)[p', p] = sum over o of P_pad[p' stride + o gap, p stride + o gap].
- explicit. One spatial axis of stride 1 is left out of the patches; its taps r become
  outputs, which are shifted and summed afterwards:
      Z = left(x) M,  M [(other taps, C), (r, N)],   y[p] = sum over r of Z[p + r, r].
  A kernel of 3 x 3 then makes arrays 3 times as large instead of 9.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from sam_jax.core.implicit.sites import Site, are_real, exact_product
from sam_jax.ops import convolution
from sam_jax.ops.compat import JaxprEqn


class Axis(NamedTuple):
    """Geometry of one spatial axis.

    size, out: of the input and the output. taps, stride, gap: size, stride and dilation
    of the kernel. low, high: padding. spread: dilation of the input.
    """

    size: int
    out: int
    taps: int
    stride: int
    gap: int
    low: int
    high: int
    spread: int

    @property
    def padding(self) -> tuple[int, int, int]:
        return self.low, self.high, self.spread - 1

    @property
    def padded(self) -> int:
        return self.low + (self.size - 1) * self.spread + 1 + self.high

    @property
    def windows(self) -> list[slice]:
        """The padded positions that each live tap reads, one for every output."""
        reach = (self.out - 1) * self.stride + 1
        starts = (tap * self.gap for tap in self.live)
        return [slice(start, start + reach, self.stride) for start in starts]

    @property
    def live(self) -> list[int]:
        """The taps that meet more than padding; the others read zeros alone."""
        real = range(
            self.low, self.low + (self.size - 1) * self.spread + 1, self.spread
        )
        return [
            tap
            for tap in range(self.taps)
            if any(p * self.stride + tap * self.gap in real for p in range(self.out))
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Conv(Site):
    """conv_general_dilated: strides, paddings, dilations, feature groups, any rank.

    axes: the spatial axes. channels: inputs of a block, C / G.
    summed: the axis whose taps become outputs in explicit mode, or None.
    """

    axes: tuple[Axis, ...]
    channels: int
    summed: int | None

    @classmethod
    def of(cls, eqn: JaxprEqn, weight: int) -> "Conv | None":
        """The site of a convolution; None for forms that no layer has."""
        if weight != 1 or not are_real((*eqn.invars, *eqn.outvars)):
            return None
        params = eqn.params
        numbers, blocks = params["dimension_numbers"], params["feature_group_count"]
        axes = _spatial_axes(eqn)
        taps = math.prod(len(a.live) for a in axes)
        if params["batch_group_count"] != 1 or taps == 0:
            return None
        v, y = eqn.invars[1].aval.shape, eqn.outvars[0].aval.shape
        channels, outputs = v[numbers.rhs_spec[1]], v[numbers.rhs_spec[0]]
        return cls(
            eqn,
            1,
            blocks=blocks,
            positions=math.prod(y) // outputs,
            inputs=taps * channels,
            outputs=outputs // blocks,
            axes=axes,
            channels=channels,
            summed=_summed_axis(axes, channels, outputs // blocks),
        )

    @property
    def layout(self) -> Any:
        live = tuple(tuple(a.live) for a in self.axes)
        return "conv", self._numbers.rhs_spec, self.blocks, live, self.summed

    @property
    def _numbers(self) -> Any:
        return self.eqn.params["dimension_numbers"]

    def evaluate(self, x: Array, v: Array) -> Array:
        # XLA lets kernel and image change places where the kernel is the larger one,
        # and its CPU convolution then takes 5 to 10 times as long as a matrix product.
        taps = math.prod(a.taps for a in self.axes)
        if taps > math.prod(a.size for a in self.axes) and not self._is_ours:
            return self.apply(x, self.matrix(v))
        return super().evaluate(x, v)

    @property
    def _is_ours(self) -> bool:
        return self.eqn.primitive.name == convolution.NAME

    def matrix(self, v: Array) -> Float[Array, "G K N"]:
        outputs, channels, *taps = self._numbers.rhs_spec
        v = v.transpose(*taps, channels, outputs)
        for i, axis in enumerate(self.axes):
            if len(axis.live) < axis.taps:
                v = jnp.take(v, jnp.asarray(axis.live), axis=i)
        v = v.reshape(*v.shape[:-1], self.blocks, self.outputs)
        if self.summed is not None:
            v = jnp.moveaxis(v, self.summed, -2)
        v = jnp.moveaxis(v, len(self.axes) + (self.summed is None), 0)
        return v.reshape(self.blocks, -1, self._summed_taps * self.outputs)

    @property
    def _summed_taps(self) -> int:
        return 1 if self.summed is None else len(self.axes[self.summed].live)

    def apply(self, x: Array, matrix: Float[Array, "G K N"]) -> Array:
        patches, shape = self._patches(x, skip=self.summed)
        z = lax.dot_general(
            patches,
            matrix,
            (((2,), (1,)), ((0,), (0,))),
            precision=self.eqn.params["precision"],
            preferred_element_type=self.y.dtype,
        )
        if self.summed is not None:
            z = self._sum_taps(z.reshape(self.blocks, *shape, -1))
        return self.unrows(z.reshape(self.blocks, self.positions, self.outputs))

    def _sum_taps(self, z: Float[Array, "G B ..."]) -> Float[Array, "G B ..."]:
        """Adds up the taps of the summed axis, each shifted to its output."""
        assert self.summed is not None
        lead = (slice(None),) * (2 + self.summed)
        windows = self.axes[self.summed].windows
        # XLA is quick at the transpose of a split, which is a concatenation
        taps = lax.split(z, [self.outputs] * self._summed_taps, axis=z.ndim - 1)
        shifted = [tap[(*lead, w)] for tap, w in zip(taps, windows, strict=True)]
        return functools.reduce(jnp.add, shifted)

    def left(self, x: Array) -> Float[Array, "G T K"]:
        return self._patches(x)[0]

    @property
    def _pixel_cost(self) -> int:
        """Multiplications in P."""
        pixels = math.prod(self.x.shape) // (self.channels * self.blocks)
        return self.blocks * pixels**2 * self.channels

    @property
    def gram_cost(self) -> int:
        return min(self._pixel_cost, super().gram_cost)

    def gram(self, x2: Array, x: Array) -> Float[Array, "G T2 T"]:
        if self._pixel_cost > super().gram_cost:
            return super().gram(x2, x)
        batch, *space, _ = self._pixels(x).shape
        left, right = (
            jnp.moveaxis(self._pixels(a).reshape(-1, self.blocks, self.channels), 1, 0)
            for a in (x2, x)
        )
        products = exact_product(left, jnp.swapaxes(right, 1, 2))
        products = products.reshape(self.blocks, batch, *space, batch, *space)
        half = ((0, 0, 0), *(a.padding for a in self.axes))
        zero = jnp.zeros((), products.dtype)
        padded = lax.pad(products, zero, ((0, 0, 0), *half, *half))
        windows = itertools.product(*(a.windows for a in self.axes))
        diagonals = [padded[(..., *w, slice(None), *w)] for w in windows]
        summed = functools.reduce(jnp.add, diagonals)
        return summed.reshape(self.blocks, self.positions, self.positions)

    def rows(self, y: Array) -> Float[Array, "G T N"]:
        y = y.transpose(_last(self._numbers.out_spec))
        return jnp.moveaxis(y.reshape(self.positions, self.blocks, self.outputs), 1, 0)

    def unrows(self, rows: Float[Array, "G T N"]) -> Array:
        order = _last(self._numbers.out_spec)
        y = jnp.moveaxis(rows, 0, 1).reshape([self.y.shape[i] for i in order])
        return y.transpose(np.argsort(order))

    def _pixels(self, x: Array) -> Float[Array, "B *S C"]:
        return x.transpose(_last(self._numbers.lhs_spec))

    def _patches(
        self, x: Array, skip: int | None = None
    ) -> tuple[Float[Array, "G rows K"], tuple[int, ...]]:
        """Every output's live taps side by side, all positions along the axis `skip`.

        Returns: the patches, and the shape [B, *S] that their rows have.
        """
        x = self._pixels(x)
        config = ((0, 0, 0), *(a.padding for a in self.axes), (0, 0, 0))
        x = lax.pad(x, jnp.zeros((), x.dtype), config)
        windows = itertools.product(
            *(
                [slice(None)] if i == skip else a.windows
                for i, a in enumerate(self.axes)
            )
        )
        taps = [x[(slice(None), *window)] for window in windows]
        x = jnp.concatenate(taps, axis=-1)  # stacking takes XLA three times as long
        shape = x.shape[:-1]
        x = x.reshape(-1, len(taps), self.blocks, self.channels)
        x = jnp.moveaxis(x, 2, 0)
        return x.reshape(self.blocks, math.prod(shape), -1), shape


def _spatial_axes(eqn: JaxprEqn) -> tuple[Axis, ...]:
    """The geometry of a convolution."""
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    x, v, y = (a.aval.shape for a in (*eqn.invars, *eqn.outvars))
    return tuple(
        Axis(x[i], y[j], v[k], stride, gap, low, high, spread)
        for i, j, k, stride, gap, (low, high), spread in zip(
            numbers.lhs_spec[2:],
            numbers.out_spec[2:],
            numbers.rhs_spec[2:],
            params["window_strides"],
            params["rhs_dilation"],
            params["padding"],
            params["lhs_dilation"],
            strict=True,
        )
    )


def _summed_axis(axes: Sequence[Axis], channels: int, outputs: int) -> int | None:
    """The axis whose taps had better become outputs: the one that makes the arrays of
    `Conv.apply` smallest; None if that is not below the size of whole patches.
    """
    taps = math.prod(len(a.live) for a in axes)
    sizes: dict[int | None, float] = {None: taps * channels}
    for i, a in enumerate(axes):
        live = len(a.live)
        if a.stride == 1 and live > 1:
            grown = a.padded / a.out
            sizes[i] = grown * (taps // live * channels + live * outputs)
    return min(sizes, key=sizes.__getitem__)


def _last(spec: Sequence[int]) -> tuple[int, ...]:
    """Order of axes that puts a convolution's channels (second in spec) last."""
    first, channels, *space = spec
    return (first, *space, channels)
