"""Sites: the places where a weight enters a network linearly, and their algebra.

At a site one group of examples has inputs x and outputs y, and the weight V (a
parameter, perhaps reshaped or cast) acts as a matrix,

    y = unrows(left(x) M),   M = matrix(V),   left(x) [G, T, K],  M [G, K, N],

where T counts positions (m for a dense layer on vectors, m * height * width for a
convolution), K the inputs and N the outputs of one position, and G independent blocks
(1 but for grouped convolutions and batched products). `rows` is the inverse of
`unrows`, which only moves entries. If d is the gradient of the group's loss with
respect to y, then

    X = left(x) [G, T, K],  D = rows(d) [G, T, N],  and the gradient of M is X^T D.

Two ways to move the weight of every group by its own c X^T D:

- gram. With A = gram(x', x) = X' X^T [G, T', T], which needs no K x N matrix,
      x' (V + c X^T D) = x' V + c unrows(A D),   |X^T D|^2 = <X X^T, D D^T>,
  in about T T' (K + N) multiplications.
- explicit. M + c X^T D is formed, one matrix a group, and applied to x': T K N.

Grams are accumulated and kept in float32 or wider, without TF32. A weight that is used
at several sites, in loops, or as its transpose: `uses` and `parts`.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from sam_jax.core import trees
from sam_jax.ops import compat, layouts
from sam_jax.ops.compat import JaxprEqn


@dataclasses.dataclass(frozen=True, eq=False)
class Site(abc.ABC):
    """An equation that is linear in a weight; the subclasses say how.

    eqn: the equation. weight: position of V among its inputs, x is the other one.
    blocks, positions, inputs, outputs: G, T, K, N of the module's docstring.
    """

    eqn: JaxprEqn
    weight: int
    blocks: int
    positions: int
    inputs: int
    outputs: int

    @classmethod
    @abc.abstractmethod
    def of(cls, eqn: JaxprEqn, weight: int) -> "Site | None":
        """The site of an equation whose input number `weight` is the weight; None for
        forms that the class has no algebra for.
        """

    @property
    def x(self) -> Any:
        """Shape and dtype of x."""
        return self.eqn.invars[1 - self.weight].aval

    @property
    def v(self) -> Any:
        """Shape and dtype of V."""
        return self.eqn.invars[self.weight].aval

    @property
    def y(self) -> Any:
        """Shape and dtype of y."""
        return self.eqn.outvars[0].aval

    @property
    @abc.abstractmethod
    def layout(self) -> Any:
        """Two uses of one V with equal layouts have the same `matrix`."""

    @property
    def roles(self) -> tuple[tuple[int, ...], ...] | None:
        """The axes of V that are blocks, inputs and outputs of M, in order; None where
        M takes V apart in another way.
        """
        return None

    @property
    def gram_cost(self) -> int:
        """Multiplications in `gram(x', x)`."""
        return self.blocks * self.positions**2 * self.inputs

    def evaluate(self, x: Shaped[Array, "..."], v: Array) -> Array:
        """The equation as the network has it: y from x and V."""
        inputs = (v, x) if self.weight == 0 else (x, v)
        return compat.evaluate(self.eqn, inputs)[0]

    def linear(self, x: Shaped[Array, "..."], y: Array) -> Array:
        """y less what does not come from V, from x and y."""
        return y

    @abc.abstractmethod
    def matrix(self, v: Array) -> Float[Array, "G K N"]:
        """M, the weight as a matrix."""

    @abc.abstractmethod
    def apply(self, x: Shaped[Array, "..."], matrix: Float[Array, "G K N"]) -> Array:
        """y from x and M."""

    @abc.abstractmethod
    def left(self, x: Shaped[Array, "..."]) -> Shaped[Array, "G T ..."]:
        """X, the rows that M multiplies."""

    @abc.abstractmethod
    def rows(self, y: Array) -> Float[Array, "G T N"]:
        """y with one row a position."""

    @abc.abstractmethod
    def unrows(self, rows: Float[Array, "G T N"]) -> Array:
        """The inverse of `rows`."""

    def gram(
        self, x2: Shaped[Array, "..."], x: Shaped[Array, "..."]
    ) -> Float[Array, "G T2 T"]:
        """X' X^T from the inputs themselves."""
        return inner_product(self.left(x2), self.left(x), self.y.dtype)


def exact_product(
    a: Float[Array, "G I J"], b: Float[Array, "G J L"]
) -> Float[Array, "G I L"]:
    """a b for every block, accumulated and returned in float32 or wider."""
    return layouts.product(
        trees.widen(a),
        trees.widen(b),
        (((2,), (1,)), ((0,), (0,))),
        precision=lax.Precision.HIGHEST,
    )


def inner_product(
    left2: Shaped[Array, "G T2 ..."], left: Shaped[Array, "G T ..."], dtype: Any = None
) -> Float[Array, "G T2 T"]:
    """X' X^T for every block, in float32 or wider (and `dtype`, where both are rows).

    Either may hold one-hot rows by the index of their entry, [G, T], -1 for no entry.
    """
    rows2, rows = left2.ndim == 2, left.ndim == 2
    if rows2 and rows:
        same = (left2[:, :, None] == left[:, None, :]) & (left >= 0)[:, None, :]
        return same.astype(jnp.promote_types(dtype, jnp.float32))
    if rows:
        return _columns(left2, left)
    if rows2:
        return jnp.swapaxes(_columns(left, left2), 1, 2)
    if left2.shape[1] == left.shape[1] == 1:  # products of 1 x 1 matrices are slow
        products = trees.widen(left2) * trees.widen(left)
        return jnp.sum(products, axis=2, keepdims=True)
    return exact_product(left2, jnp.swapaxes(left, 1, 2))


def _columns(
    matrix: Float[Array, "G I K"], index: Int[Array, "G T"]
) -> Float[Array, "G I T"]:
    """The columns of these numbers; zeros for -1."""
    picked = jnp.take_along_axis(matrix, jnp.maximum(index, 0)[:, None, :], axis=2)
    return jnp.where((index >= 0)[:, None, :], trees.widen(picked), 0)


def times_left(
    a: Float[Array, "G I T"], left: Shaped[Array, "G T ..."], inputs: int
) -> Float[Array, "G I K"]:
    """A X for every block, in float32 or wider.

    Args:
      left: X, or the indices of its one-hot rows. inputs: K.
    """
    if left.ndim == 3:
        return exact_product(a, left)
    index = jnp.where(left < 0, inputs, left)  # beyond the last, which is dropped

    def one_block(a, index):
        zeros = jnp.zeros((inputs, a.shape[0]), a.dtype)
        return zeros.at[index].add(a.T, mode="drop").T

    return jax.vmap(one_block)(trees.widen(a), index)


class Dot(Site):
    """dot_general with the weight on one side: dense layers and projections."""

    @classmethod
    def of(cls, eqn: JaxprEqn, weight: int) -> "Dot | None":
        if not are_real((*eqn.invars, *eqn.outvars)):
            return None
        x, v = eqn.invars[1 - weight].aval.shape, eqn.invars[weight].aval.shape
        _, _, x_free = _axes(eqn, 1 - weight)
        contracted, blocks, v_free = _axes(eqn, weight)
        return cls(
            eqn,
            weight,
            blocks=_size(v, blocks),
            positions=_size(x, x_free),
            inputs=_size(v, contracted),
            outputs=_size(v, v_free),
        )

    @property
    def layout(self) -> Any:
        return "dot", _axes(self.eqn, self.weight)

    @property
    def roles(self) -> tuple[tuple[int, ...], ...]:
        contracted, blocks, free = _axes(self.eqn, self.weight)
        return blocks, contracted, free

    def matrix(self, v: Array) -> Float[Array, "G K N"]:
        contracted, blocks, free = _axes(self.eqn, self.weight)
        v = v.transpose(*blocks, *contracted, *free)
        return v.reshape(self.blocks, self.inputs, self.outputs)

    def apply(self, x: Array, matrix: Float[Array, "G K N"]) -> Array:
        product = layouts.product(
            self.left(x),
            matrix,
            (((2,), (1,)), ((0,), (0,))),
            precision=self.eqn.params["precision"],
            preferred_element_type=self.y.dtype,
        )
        return self.unrows(product)

    def left(self, x: Array) -> Float[Array, "G T K"]:
        contracted, blocks, free = _axes(self.eqn, 1 - self.weight)
        x = x.transpose(*blocks, *free, *contracted)
        return x.reshape(self.blocks, self.positions, self.inputs)

    def rows(self, y: Array) -> Float[Array, "G T N"]:
        if self.weight == 1:
            return y.reshape(self.blocks, self.positions, self.outputs)
        # the weight came first, and so do its free axes
        return jnp.swapaxes(y.reshape(self.blocks, self.outputs, self.positions), 1, 2)

    def unrows(self, rows: Float[Array, "G T N"]) -> Array:
        rows = rows if self.weight == 1 else jnp.swapaxes(rows, 1, 2)
        return rows.reshape(self.y.shape)


def _axes(eqn: JaxprEqn, side: int) -> tuple[tuple[int, ...], ...]:
    """Contracted, block and free axes of one side of a dot_general."""
    contracted, blocks = (both[side] for both in eqn.params["dimension_numbers"])
    rank = eqn.invars[side].aval.ndim
    free = (axis for axis in range(rank) if axis not in (*contracted, *blocks))
    return tuple(contracted), tuple(blocks), tuple(free)


def _size(shape: Sequence[int], axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)


class Take(Site):
    """Embedding lookup y = V[index], V [K, N]: X has one-hot rows, G = 1.

    X' X^T compares indices; X itself, [T, K], is never formed. An index out of bounds
    is clipped; in JAX's fill mode it selects no row, and adds nothing to any product.
    """

    @classmethod
    def of(cls, eqn: JaxprEqn, weight: int) -> "Take | None":
        """The site of a gather of whole rows; None for any other gather."""
        if weight != 0 or not are_real(eqn.outvars):
            return None
        numbers, v, y = (
            eqn.params["dimension_numbers"],
            eqn.invars[0].aval,
            eqn.outvars[0].aval,
        )
        whole_rows = (
            v.ndim == 2
            and numbers.start_index_map == (0,)
            and numbers.collapsed_slice_dims == (0,)
            and numbers.offset_dims == (y.ndim - 1,)
            and not numbers.operand_batching_dims
            and eqn.params["slice_sizes"] == (1, v.shape[1])
        )
        if not whole_rows:
            return None
        positions = math.prod(y.shape[:-1])
        return cls(eqn, 0, 1, positions, inputs=v.shape[0], outputs=v.shape[1])

    @property
    def layout(self) -> Any:
        return "take"

    @property
    def roles(self) -> tuple[tuple[int, ...], ...]:
        return (), (0,), (1,)

    @property
    def gram_cost(self) -> int:
        return self.positions**2

    def matrix(self, v: Array) -> Float[Array, "1 K N"]:
        return v[None]

    def apply(self, x: Array, matrix: Float[Array, "1 K N"]) -> Array:
        return self.evaluate(x, matrix[0])

    def linear(self, x: Int[Array, "*batch 1"], y: Array) -> Array:
        """y where a row is read, without what fills the others."""
        read = self.left(x).reshape(*y.shape[:-1], 1) >= 0
        return jnp.where(read, y, jnp.zeros((), y.dtype))

    def left(self, x: Int[Array, "*batch 1"]) -> Int[Array, "1 T"]:
        """The row that each position reads, -1 for none."""
        index = x.reshape(1, self.positions)
        index = index.astype(jnp.promote_types(index.dtype, jnp.int32))
        inside = jnp.clip(index, 0, self.inputs - 1)
        if self.eqn.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP:
            return jnp.where(index == inside, index, -1)
        return inside

    def rows(self, y: Array) -> Float[Array, "1 T N"]:
        return y.reshape(1, self.positions, self.outputs)

    def unrows(self, rows: Float[Array, "1 T N"]) -> Array:
        return rows.reshape(self.y.shape)


def are_real(variables: Sequence[Any]) -> bool:
    """Whether all inputs or outputs of an equation are real floating arrays."""
    return all(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in variables)
