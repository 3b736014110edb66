"""Whether groups would draw the same random numbers, told from the traced loss.

With a perturbation for every group, a loss is mapped over groups. What it draws from a
random key of the batch is each group's own. From a key that it has closed over, all
groups draw the same: the same dropout mask, in every group.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any

import jax

from sam_jax.ops import compat
from sam_jax.ops.compat import Jaxpr, JaxprEqn, Literal

Tree = Any
DRAWS = {"random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform"}


class Origin(enum.IntEnum):
    """What a value is made of: literals alone, such as `jax.random.key(0)` within the
    loss; also of parameters or of what was closed over; also of the group's batch.
    """

    FIXED = 0
    SHARED = 1
    OWN = 2


def refuse_shared(
    function: Callable[[Tree, Tree], Any], params: Tree, group: Tree
) -> None:
    """Raises ValueError if function(params, group) draws what all groups would draw.

    Numbers drawn from a key made of literals are no mistake: they are constants.
    """
    refuse_shared_draws(
        jax.make_jaxpr(function)(params, group), len(jax.tree.leaves(params))
    )


def refuse_shared_draws(traced: compat.ClosedJaxpr, parameters: int) -> None:
    """The same for a function that is traced already.

    Args:
      parameters: how many of its inputs are parameters; the others are the batch.
    """
    jaxpr = traced.jaxpr
    batch = len(jaxpr.invars) - parameters
    inputs = [Origin.SHARED] * parameters + [Origin.OWN] * batch
    if _draws_shared(jaxpr, inputs):
        raise ValueError(
            "Received a loss that draws random numbers from a key that it has closed "
            "over: every group would draw the same, such as one dropout mask for all. "
            "Put a key for every example into the batch, batch['key'] = jax.random."
            "split(key, B), and draw from batch['key'][0]; or hand the key to the "
            "function of sam_jax.value_and_grad as rngs=key. Numbers that are to be "
            "the same are drawn outside of the loss."
        )


def _draws_shared(jaxpr: Jaxpr, inputs: Sequence[Origin]) -> bool:
    """Whether an equation in here or further in draws from a shared key."""
    known = dict.fromkeys(jaxpr.constvars, Origin.SHARED)
    known.update(zip(jaxpr.invars, inputs, strict=True))
    for eqn in jaxpr.eqns:
        read = [
            Origin.FIXED if isinstance(v, Literal) else known[v] for v in eqn.invars
        ]
        most = max(read, default=Origin.FIXED)
        if compat.name(eqn) in DRAWS and most == Origin.SHARED:
            return True
        for inner in _inner(eqn):
            if _draws_shared(inner, _handed_in(inner, read)):
                return True
        known.update(dict.fromkeys(eqn.outvars, most))
    return False


def _inner(eqn: JaxprEqn) -> list[Jaxpr]:
    """The jaxprs of calls, loops and branches."""
    return list(compat.jaxprs_in_params(compat.parameters(eqn)))


def _handed_in(inner: Jaxpr, read: list[Origin]) -> list[Origin]:
    """The origins of an inner jaxpr's inputs; where it is unknown which is which, the
    furthest of all, so that nothing is refused by mistake.
    """
    for given in (read, read[1:]):  # a branch is not handed its predicate
        if len(given) == len(inner.invars):
            return given
    return [max(read, default=Origin.FIXED)] * len(inner.invars)
