"""Schedules against their formulas, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sam_jax import schedules

TOTAL = 40


def values(schedule, steps=TOTAL):
    return np.array([schedule(t) for t in range(steps)])


def test_piecewise_constant_drops_tenfold_at_half_and_three_quarters():
    received = values(schedules.piecewise_constant(0.2, TOTAL))
    expected = np.repeat([0.2, 0.02, 0.002], [20, 10, 10])
    np.testing.assert_allclose(received, expected, rtol=1e-12)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 100, 391])
def test_a_drop_comes_at_the_first_step_at_or_after_its_fraction(total):
    percent = (7, 50, 75)
    schedule = schedules.piecewise_constant(
        1.0, total, boundaries=tuple(b / 100 for b in percent)
    )
    passed = [sum(100 * t >= b * total for b in percent) for t in range(total)]
    received = values(schedule, total)
    np.testing.assert_allclose(received, 0.1 ** np.array(passed), rtol=1e-12)


def test_piecewise_constant_options():
    schedule = schedules.piecewise_constant(8.0, 4, boundaries=(0.5, 0.5), factor=0.5)
    np.testing.assert_allclose(values(schedule, 4), [8, 8, 2, 2], rtol=1e-12)
    no_drop = schedules.piecewise_constant(8.0, 4, boundaries=())
    np.testing.assert_array_equal(values(no_drop, 4), 8.0)


def test_cosine_is_half_a_period():
    received = values(schedules.cosine(0.3, TOTAL))
    expected = 0.15 * (1 + np.cos(np.pi * np.arange(TOTAL) / TOTAL))
    np.testing.assert_allclose(received, expected, rtol=1e-12)


def test_cosine_stays_at_zero_after_the_run():
    schedule = schedules.cosine(0.3, TOTAL)
    np.testing.assert_allclose([schedule(TOTAL), schedule(3 * TOTAL)], 0, atol=1e-16)


def test_constant_is_constant():
    np.testing.assert_array_equal(values(schedules.constant(0.3)), 0.3)


def test_warm_up_rises_linearly_and_moves_no_boundary():
    rise = 0.2 * np.arange(4) / 4
    for name in schedules.SCHEDULES:
        warm = schedules.create(name, peak=0.2, total_steps=TOTAL, warmup_steps=4)
        np.testing.assert_allclose(values(warm)[:4], rise, rtol=1e-12, atol=1e-16)
    piecewise = schedules.piecewise_constant(0.2, TOTAL, warmup_steps=4)
    expected = np.append(rise, np.repeat([0.2, 0.02, 0.002], [16, 10, 10]))
    np.testing.assert_allclose(values(piecewise), expected, rtol=1e-12)
    constant = schedules.constant(0.2, warmup_steps=4)
    np.testing.assert_allclose(values(constant)[4:], 0.2, rtol=1e-12)


def test_cosine_with_warm_up_is_that_of_optax():
    received = values(schedules.cosine(0.3, TOTAL, warmup_steps=7))
    expected = optax.schedules.warmup_cosine_decay_schedule(0.0, 0.3, 7, TOTAL)
    np.testing.assert_allclose(received, values(expected), rtol=1e-12)


def test_a_warm_up_may_end_at_the_first_boundary_but_not_later():
    warm = schedules.piecewise_constant(1.0, 4, warmup_steps=2)
    np.testing.assert_allclose(values(warm, 4), [0, 0.5, 0.1, 0.01], rtol=1e-12)
    with pytest.raises(ValueError, match=r"warmup_steps=3, beyond the first .* step 2"):
        schedules.piecewise_constant(1.0, 4, warmup_steps=3)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_schedules_can_be_traced(name):
    schedule = schedules.create(name, peak=0.1, total_steps=TOTAL, warmup_steps=3)
    received = jax.jit(jax.vmap(schedule))(jnp.arange(TOTAL))
    np.testing.assert_allclose(received, values(schedule), rtol=1e-6)


def test_create_tells_what_is_known():
    with pytest.raises(ValueError, match="Unknown schedule 'step'; known: constant, "):
        schedules.create("step", peak=0.1, total_steps=TOTAL)
    with pytest.raises(ValueError, match="no option 'alpha'; its options: warmup"):
        schedules.create("cosine", peak=0.1, total_steps=TOTAL, alpha=0.1)


@pytest.mark.parametrize("peak", [-0.1, -1, np.nan, np.inf])
def test_a_bad_peak_is_refused(peak):
    with pytest.raises(ValueError, match=r"Received peak=.*\[0, inf\]"):
        schedules.create("constant", peak=peak, total_steps=TOTAL)


@pytest.mark.parametrize("total", [0, -1])
def test_a_bad_number_of_steps_is_refused(total):
    with pytest.raises(ValueError, match="Received total_steps="):
        schedules.create("cosine", peak=0.1, total_steps=total)


def test_a_bad_warm_up_is_refused():
    with pytest.raises(ValueError, match="warmup_steps=40 of total_steps=40"):
        schedules.cosine(0.1, TOTAL, warmup_steps=TOTAL)
    with pytest.raises(ValueError, match="Received warmup_steps=-1"):
        schedules.constant(0.1, warmup_steps=-1)


@pytest.mark.parametrize("option", [{"boundaries": (50,)}, {"factor": -0.1}])
def test_fractions_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=r"give a finite number in \[0, 1\]"):
        schedules.piecewise_constant(0.1, TOTAL, **option)
