"""The linear solver of a step whose last states are integrals."""

import jax.numpy as jnp
import lineax
import numpy as np
import pytest

from sam_jax.flows import linear_solver


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_solves_what_a_dense_solver_does(sign):
    rng = np.random.default_rng(0)
    matrix = sign * np.eye(9)
    matrix[:, :5] += 0.3 * rng.standard_normal((9, 5))
    right = rng.standard_normal(9)
    operator = lineax.MatrixLinearOperator(jnp.asarray(matrix))
    solver = linear_solver.LeadingBlock(5)
    received = lineax.linear_solve(operator, jnp.asarray(right), solver).value
    np.testing.assert_allclose(received, np.linalg.solve(matrix, right), rtol=1e-12)
