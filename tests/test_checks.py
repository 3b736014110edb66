"""Checks shared by the factories: what passes, and what the errors tell."""

import numpy as np
import pytest

from sam_jax import checks


def test_choose_lists_the_known_names():
    assert checks.choose("pet", "cat", {"dog": 1, "cat": 2}) == 2
    with pytest.raises(ValueError, match=r"Unknown pet 'cow'; known: dog, cat\."):
        checks.choose("pet", "cow", {"dog": 1, "cat": 2})


def test_options_lists_the_allowed_ones():
    checks.options("dog", {"size": 1}, ["size", "color"])
    with pytest.raises(ValueError, match=r"dog has no option 'wings'; .*: size, color"):
        checks.options("dog", {"wings": 2, "size": 1}, ["size", "color"])
    with pytest.raises(ValueError, match="its options: none"):
        checks.options("dog", ["wings"], [])


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_integers_of_every_width_pass(value):
    assert checks.integer("n", value, 3) == 3


@pytest.mark.parametrize("value", [2, 3.0, "3", None, True, np.nan])
def test_other_integers_are_refused(value):
    with pytest.raises(ValueError, match=r"Received n=.*; give an integer >= 3"):
        checks.integer("n", value, 3)


@pytest.mark.parametrize("value", [0, 0.5, np.float32(1.0)])
def test_numbers_in_the_interval_pass(value):
    assert checks.number("x", value, 0, 1) == value


@pytest.mark.parametrize("value", [-1e-9, 1.1, np.nan, np.inf, "0.5", None, 1j])
def test_other_numbers_are_refused(value):
    with pytest.raises(ValueError, match=r"Received x=.*finite number in \[0, 1\]"):
        checks.number("x", value, 0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_without_bounds_a_number_is_finite(value):
    assert checks.number("x", -1e300) == -1e300
    with pytest.raises(ValueError, match="finite"):
        checks.number("x", value)
