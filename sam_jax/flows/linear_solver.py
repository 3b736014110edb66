"""Implicit steps of an ODE of which most states are integrals of the others.

With states (w, q), dw/dt = f(w) and dq/dt = g(w), the matrix of an implicit step is

    [ A  0 ]
    [ B  c ]    with c times the identity,

so that only A is factorised, and only as many tangents as w has states are pushed
through f and g. For the flows here that is 60 of 141, and a step ten times faster.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
import lineax


class LeadingBlock(lineax.AbstractLinearSolver):
    """Solves such systems on flat vectors, whose first `size` entries are w."""

    size: int = eqx.field(static=True)

    def init(self, operator: lineax.AbstractLinearOperator, options: dict) -> Any:
        states = operator.in_size()
        wanted = jnp.asarray([*range(self.size), states - 1])
        basis = jnp.zeros((len(wanted), states)).at[jnp.arange(len(wanted)), wanted]
        columns = jax.vmap(operator.mv)(basis.set(1))
        a, b = columns[:-1, : self.size].T, columns[:-1, self.size :].T
        return linalg.lu_factor(a), b, columns[-1, -1]

    def compute(self, state: Any, vector: jax.Array, options: dict) -> Any:
        factors, b, c = state
        w = linalg.lu_solve(factors, vector[: self.size])
        q = (vector[self.size :] - b @ w) / c
        return jnp.concatenate([w, q]), lineax.RESULTS.successful, {}

    def transpose(self, state: Any, options: dict) -> Any:
        raise NotImplementedError("Root finders solve with the matrix itself.")

    def conj(self, state: Any, options: dict) -> Any:
        return state, options  # real

    def assume_full_rank(self) -> bool:
        return True
