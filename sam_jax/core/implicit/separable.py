"""Whether an objective sees its examples one by one, told from shapes.

The objective is traced, but not run, on a batch whose size is a prime number. An array
that has an entry, or a row of entries, for every example has the prime exactly once as
a factor of its size. A mean over the examples has lost it, and an array of all pairs of
examples has it twice: those have mixed examples.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sam_jax.core.implicit import interpreter
from sam_jax.core.objective import Objective
from sam_jax.ops.compat import JaxprEqn

Tree = Any
# Two, for networks that happen to have a layer of a size like that.
PRIMES = (101, 127)


class Seen(NamedTuple):
    """A value computed from the batch. mixing: what mixed its examples, if anything."""

    mixing: str | None


def refuse_mixing(objective: Objective, params: Tree, example: Tree) -> None:
    """Raises ValueError if the loss of an example is seen to depend on other examples.

    Seen are sums, means and products over examples, as of BatchNorm in train mode and
    in-batch negatives; not seen are sorting, shifting and what happens within loops,
    custom derivatives and networks that take one batch size alone.

    Args:
      params: arrays or their shapes. example: a batch of one, or its shapes.
    """
    first, second = PRIMES
    if _mixing(objective, params, example, first) is None:
        return
    what = _mixing(objective, params, example, second)
    if what is None:
        return
    raise ValueError(
        f"Received an objective that mixes the examples of a batch: {what}, where B is "
        "the batch. With m = 1 every example has a perturbation of its own and is seen "
        "alone. Normalise by running statistics or GroupNorm, leave out in-batch "
        "negatives, or choose m > 1: examples may mix within their group."
    )


def _mixing(objective: Objective, params: Tree, example: Tree, prime: int) -> Any:
    """What mixes examples in a batch of this size, or None."""

    def losses(params: Tree, batch: Tree) -> jax.Array:
        outputs, _ = objective.forward(params, batch)
        return objective.losses(outputs, batch)

    def repeat(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, (prime, *x.shape[1:]))

    batch = jax.eval_shape(lambda batch: jax.tree.map(repeat, batch), example)
    try:
        jaxpr = jax.make_jaxpr(losses)(params, batch)
    except Exception:
        # Traced before on one example, so that the batch size alone is refused; and
        # by the user's code, where asserts, flax and chex raise what they like.
        return None

    def visit(key: Any, eqn: JaxprEqn, inputs: Sequence[Any]) -> tuple[list[Any], dict]:
        seen = [x for x in inputs if isinstance(x, Seen)]
        if not seen:
            return [None] * len(eqn.outvars), {}
        earlier = next((x.mixing for x in seen if x.mixing), None)
        mixed = [earlier or _mixed(eqn, out.aval, prime) for out in eqn.outvars]
        return [Seen(mixing) for mixing in mixed], {}

    count = len(jax.tree.leaves(params))
    # The random keys of a batch hold nothing of its examples.
    inputs = [None] * count + [
        None if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else Seen(None)
        for leaf in jax.tree.leaves(batch)
    ]
    consts = [None] * len(jaxpr.consts)
    (found,), _ = interpreter.walk_abstract(jaxpr.jaxpr, consts, inputs, visit)
    return found.mixing if isinstance(found, Seen) else None


def _mixed(eqn: JaxprEqn, out: Any, prime: int) -> str | None:
    size = math.prod(out.shape)
    if size % prime == 0 and size // prime % prime:
        return None
    shapes = [_shape(aval, prime) for aval in (*(v.aval for v in eqn.invars), out)]
    return f"{eqn.primitive.name} of {', '.join(shapes[:-1])} into {shapes[-1]}"


def _shape(aval: Any, prime: int) -> str:
    """(101, 5) -> "(B, 5)"."""
    sizes = ["B" if size == prime else str(size) for size in aval.shape]
    return f"({', '.join(sizes)})"
