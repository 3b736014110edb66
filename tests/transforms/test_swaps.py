"""Table 1's factors for groups of m, with and without a copy of w for each."""

import jax
import numpy as np
import pytest

import sam_jax
from sam_jax.core.implicit import gradients
from tests.transforms.problems import apply, assert_same


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("factory", [sam_jax.sam_direction, sam_jax.sam_derivative])
def test_groups_need_no_copies_of_the_weights(factory, m, monkeypatch):
    with_copies = apply(factory(0.3, m=m, implicit=False))
    called = []
    average = gradients.groups.average_sums
    monkeypatch.setattr(
        gradients.groups, "average_sums", lambda *a: (called.append(1), average(*a))[1]
    )
    received = apply(factory(0.3, m=m))
    assert called
    assert_same(received, with_copies)
    other = apply(factory(0.3))
    assert not np.allclose(
        jax.tree.leaves(received)[0], jax.tree.leaves(other)[0], rtol=1e-3
    )
