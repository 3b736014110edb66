import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.core import groups

BATCH = {"x": jnp.arange(24.0).reshape(12, 2)}


@pytest.mark.parametrize(
    ("m", "expected"), [(None, (12, 1)), (12, (12, 1)), (4, (4, 3)), (1, (1, 12))]
)
def test_groups_of_a_batch(m, expected):
    formed = groups.form(BATCH, m)
    assert (formed.size, formed.number) == expected


@pytest.mark.parametrize("m", [0, -1, 5, 24])
def test_groups_that_do_not_fit_list_those_that_do(m):
    with pytest.raises(ValueError, match=rf"m={m} .*\[1, 2, 3, 4, 6, 12\]"):
        groups.form(BATCH, m)


def statistics(group):
    """To average: the group's maximum and its size. To keep: every example's sum."""
    x = group["x"]
    return (x.max(), jnp.array(len(x))), x.sum(1)


@pytest.mark.parametrize("chunk", [None, 1, 2, 6])
def test_average_is_a_python_loop_over_groups(chunk):
    x = np.asarray(BATCH["x"]).reshape(6, 2, 2)
    formed = groups.form(BATCH, 2)
    (maximum, size), kept = groups.average(statistics, BATCH, formed, chunk)
    np.testing.assert_allclose(maximum, np.mean([g.max() for g in x]))
    assert size == 2
    assert size.dtype == jnp.array(2).dtype
    np.testing.assert_allclose(kept, np.concatenate([g.sum(1) for g in x]))


@pytest.mark.parametrize("chunk", [0, 4, 7])
def test_a_chunk_must_divide_the_groups(chunk):
    with pytest.raises(ValueError, match=f"chunk={chunk} for 6 groups"):
        groups.average(statistics, BATCH, groups.form(BATCH, 2), chunk)


def convolve(group):
    x = group["x"][:, None, :, None]  # [m, 1, 2, 1]
    kernel = jnp.array([1.0, -2.0]).reshape(1, 2, 1, 1)
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y.sum(), y[:, 0, 0, 0]


def test_convolutions_are_never_scanned_on_cpu():
    """XLA's CPU backend runs them 35-40 times slower inside a loop."""
    formed = groups.form(BATCH, 2)

    def chunked(function):
        return lambda b: groups.average(function, b, formed, 2)

    assert "scan" not in str(jax.make_jaxpr(chunked(convolve))(BATCH))
    assert "scan" in str(jax.make_jaxpr(chunked(statistics))(BATCH))
    total, kept = chunked(convolve)(BATCH)
    x = np.asarray(BATCH["x"])
    np.testing.assert_allclose(kept, x @ [1.0, -2.0])
    np.testing.assert_allclose(total, (x @ [1.0, -2.0]).sum() / 6)


def test_half_precision_sums_of_chunks_do_not_stall():
    """Adding 1 to 256 in bfloat16 changes nothing; 512 ones still average to 1."""
    batch = jnp.ones((512, 1), jnp.bfloat16)
    mean, _ = groups.average(lambda g: (g[0, 0], ()), batch, groups.form(batch, 1), 1)
    assert mean.dtype == jnp.bfloat16
    assert mean == 1
