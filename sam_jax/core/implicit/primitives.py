"""The primitives of JAX that the implicit path understands, in one table.

A row of `UNDERSTOOD` gives the name of a primitive and says what it is:

- a `Call` runs a jaxpr of its own. Every walk (see `interpreter`) goes on inside.
- a `View` moves or casts the entries of an array. The plan follows a parameter through
  it, and so does the penalty where the entries keep their order.
- a `Site` is linear in a weight, and its class has the algebra.

A further primitive is one more row here and, unless one of the classes describes it, a
class. What has no row, or what the class of a row refuses, is one opaque equation: it
is evaluated as it stands, and the parameters that it reads are materialised, which is
always exact. The arithmetic of penalties is a table of its own, `penalty.RULES`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from sam_jax.core.implicit.conv_site import Conv
from sam_jax.core.implicit.sites import Dot, Site, Take, are_real
from sam_jax.ops import compat, convolution
from sam_jax.ops.compat import ClosedJaxpr, Jaxpr, JaxprEqn


class Opened(NamedTuple):
    """A call that is walked through.

    jaxpr, consts: what it runs. surround: makes of a function that runs it on arrays
    the function to call in its place.
    """

    jaxpr: Jaxpr
    consts: Sequence[Any]
    surround: Callable[[Callable], Callable]


@dataclasses.dataclass(frozen=True)
class Call:
    """Runs a jaxpr, which is walked as if its equations stood in the call's place."""

    def open(self, eqn: JaxprEqn) -> Opened | None:
        """What the call runs; None if it is not held in a form that is known."""
        parameters = compat.parameters(eqn)
        inner = parameters.get("jaxpr", parameters.get("call_jaxpr"))
        consts: Sequence[Any] = ()
        if isinstance(inner, ClosedJaxpr):
            inner, consts = inner.jaxpr, inner.consts
        if not (isinstance(inner, Jaxpr) and _fits(inner, consts, eqn)):
            return None
        return Opened(inner, consts, self.surround(parameters))

    def surround(self, parameters: Mapping[str, Any]) -> Callable[[Callable], Callable]:
        return lambda run: run


class Checkpoint(Call):
    """`jax.checkpoint`: its inside is walked within a checkpoint of its own, so that
    what the author wanted recomputed still is.
    """

    def surround(self, parameters: Mapping[str, Any]) -> Callable[[Callable], Callable]:
        kept = ("prevent_cse", "policy")
        options = {key: parameters[key] for key in kept if key in parameters}
        return lambda run: jax.checkpoint(run, **options)


@dataclasses.dataclass(frozen=True)
class View:
    """Moves or casts the entries of its input, each to a place of its own."""

    def keeps_order(self, eqn: JaxprEqn) -> bool:
        """Whether the entries, counted row by row, keep their order."""
        return True


class Transpose(View):
    """Moves every entry; in order only where the permutation is the identity."""

    def keeps_order(self, eqn: JaxprEqn) -> bool:
        permutation = tuple(eqn.params["permutation"])
        return permutation == tuple(range(len(permutation)))


UNDERSTOOD: Mapping[str, Call | View | type[Site]] = {
    "jit": Call(),
    "closed_call": Call(),
    "eval_jaxpr": Call(),  # in place of closed_call from jax 0.11 on
    "remat2": Checkpoint(),
    "RematTraced": Checkpoint(),  # in place of remat2 under the flag jax_remat3
    "reshape": View(),
    "squeeze": View(),
    "convert_element_type": View(),
    "copy": View(),
    "sharding_constraint": View(),
    "reshard": View(),
    "transpose": Transpose(),
    "dot_general": Dot,
    **dict.fromkeys(convolution.NAMES, Conv),
    "gather": Take,
}


def opened(eqn: JaxprEqn) -> Opened | None:
    """The inside of an equation that is a call, else None."""
    row = UNDERSTOOD.get(compat.name(eqn))
    return row.open(eqn) if isinstance(row, Call) else None


def view(eqn: JaxprEqn) -> View | None:
    """The row of an equation that is a view, else None. A cast to integers is none."""
    row = UNDERSTOOD.get(compat.name(eqn))
    return row if isinstance(row, View) and are_real(eqn.outvars) else None


def site(eqn: JaxprEqn, weight: int) -> Site | None:
    """The site of an equation whose input number `weight` is a weight, else None."""
    row = UNDERSTOOD.get(compat.name(eqn))
    return row.of(eqn, weight) if isinstance(row, type) else None


def _fits(jaxpr: Jaxpr, consts: Sequence[Any], eqn: JaxprEqn) -> bool:
    """Whether a jaxpr takes and returns just what its equation does."""
    return (
        len(jaxpr.constvars) == len(consts)
        and len(jaxpr.invars) == len(eqn.invars)
        and len(jaxpr.outvars) == len(eqn.outvars)
    )
