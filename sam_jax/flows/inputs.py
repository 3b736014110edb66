"""Checks of regression problems, alone or in batches, before anything is compiled."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sam_jax import checks

POSITIVE = ("alpha", "step_size", "stop_loss")
INTERPOLATION = 1e-10  # of |y|: above rounding, far below any misfit of data


class Problems(NamedTuple):
    """Regression problems flattened into one batch, and the shape it had before.

    scalars: the numbers that came with them, [problems] each.
    """

    x: Float[Array, "problems n d"]
    y: Float[Array, "problems n"]
    scalars: dict[str, Float[Array, " problems"]]
    shape: tuple[int, ...]

    def describe(self, i: int) -> str:
        """Which problem this is: its place in the batch, and its numbers."""
        place = [int(j) for j in np.unravel_index(i, self.shape)] if self.shape else ""
        numbers = (f"{k}={float(v[i]):.4g}" for k, v in self.scalars.items())
        return f"Problem {place} with {', '.join(numbers)}".replace("  ", " ")


Start = tuple[ArrayLike, ArrayLike]


def one_start(alpha: ArrayLike | None, start: Start | None) -> None:
    """Raises ValueError unless exactly one of the two says where to start."""
    if (alpha is None) == (start is None):
        given = "both" if start is not None else "neither"
        raise ValueError(
            f"Received {given} of alpha and start; give alpha for the paper's start, "
            "or start=(w_+, w_-), of the product start=(u, v)."
        )


def features(
    given: Problems, name: str, values: ArrayLike, *, nonzero: bool = False
) -> Float[Array, "problems d"]:
    """Values of every feature, [..., d], one row a problem.

    Raises: ValueError for shapes that do not fit, and for numbers that are not finite
      or, if so asked, zero.
    """
    values, wanted = jnp.asarray(values, float), (*given.shape, given.x.shape[-1])
    try:
        rows = jnp.broadcast_to(values, wanted)
    except ValueError:
        raise ValueError(
            f"Received {name} of shape {values.shape} for problems of shape {wanted}; "
            "give a number a feature, [d] or [..., d], or axes that broadcast."
        ) from None
    if known(values):
        wrong = ~np.isfinite(values) | (nonzero & (np.asarray(values) == 0))
        if np.any(wrong):
            raise ValueError(
                f"Received {name} with {np.asarray(values)[wrong][0]}; give finite "
                f"numbers{' other than 0, where a weight stays for ever' * nonzero}."
            )
    return rows.reshape(-1, wanted[-1])


def known(value: Array) -> bool:
    """Whether a value can be looked at: it cannot under jit and vmap."""
    return not isinstance(value, jax.core.Tracer)


def problems(
    x: ArrayLike,
    y: ArrayLike,
    *,
    interpolated: bool = True,
    **scalars: ArrayLike | None,
) -> Problems:
    """Broadcasts x [..., n, d], y [..., n] and scalars [...] over their batch axes.

    Scalars that are None are left out; those named in POSITIVE must be > 0, others >=
    0. Values are checked where they are known, that is outside of jit and vmap; shapes
    always.

    Args:
      interpolated: require some beta with X beta = y.

    Raises: ValueError in float32 mode, for shapes that do not fit, for values out of
      range, and for data that no beta interpolates.
    """
    checks.float64("Implicit bias")
    x, y = jnp.asarray(x, float), jnp.asarray(y, float)
    numbers = {
        name: jnp.asarray(value, float)
        for name, value in scalars.items()
        if value is not None
    }
    shape = _batch_shape(x, y, numbers)
    if all(map(known, (x, y, *numbers.values()))):
        _refuse_values(np.asarray(x), np.asarray(y), numbers)
        if interpolated:
            _refuse_misfit(np.asarray(x), np.asarray(y))
    n, d = x.shape[-2:]
    flat = {k: jnp.broadcast_to(v, shape).reshape(-1) for k, v in numbers.items()}
    return Problems(
        jnp.broadcast_to(x, (*shape, n, d)).reshape(-1, n, d),
        jnp.broadcast_to(y, (*shape, n)).reshape(-1, n),
        flat,
        shape,
    )


def _batch_shape(x: Array, y: Array, scalars: dict[str, Array]) -> tuple[int, ...]:
    if x.ndim < 2 or y.ndim < 1 or 0 in x.shape or y.shape[-1] != x.shape[-2]:
        raise ValueError(
            f"Received x of shape {x.shape} and y of shape {y.shape}; give x [..., n, "
            "d] and y [..., n]: n examples of d features, and n targets."
        )
    shapes = {"x": x.shape[:-2], "y": y.shape[:-1]}
    shapes |= {name: value.shape for name, value in scalars.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(
            f"Received batch axes {shapes}, which do not broadcast; write a grid as "
            "x[:, None], y[:, None] and alpha[None, :]."
        ) from None


def _refuse_values(x: np.ndarray, y: np.ndarray, scalars: dict[str, Array]) -> None:
    for name, value in (("x", x), ("y", y)):
        if not np.all(np.isfinite(value)):
            raise ValueError(f"Received {name} with entries that are not finite.")
    for name, scalar in scalars.items():
        numbers = np.asarray(scalar)
        above = numbers > 0 if name in POSITIVE else numbers >= 0
        wrong = numbers[~(above & np.isfinite(numbers))]
        if wrong.size:
            bound = "> 0" if name in POSITIVE else ">= 0"
            raise ValueError(
                f"Received {name}={wrong.flat[0]}; give finite numbers {bound}."
            )


def _refuse_misfit(x: np.ndarray, y: np.ndarray) -> None:
    misfit = np.linalg.norm(y - _projection(x, y), axis=-1)
    far = misfit > INTERPOLATION * np.linalg.norm(y, axis=-1)
    if np.any(far):
        raise ValueError(
            "Received data that no beta interpolates: |X beta - y| >= "
            f"{misfit.max():.3g} in {far.sum()} of {far.size} problems. Implicit bias "
            "is about data with X beta = y: take fewer examples than features, or "
            "remove repeated inputs with different targets."
        )


def _projection(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y projected on the range of X."""
    return (x @ (np.linalg.pinv(x) @ y[..., None]))[..., 0]
