import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.data import augment
from sam_jax.data.augment import draw


def images(n, size=8, channels=3, dtype=np.uint8, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(1, 256, (n, size, size, channels)).astype(dtype)


def place(image, row, column, flip, padding):
    """The augmentation of one image in NumPy."""
    height, width, channels = image.shape
    padded = np.zeros((height + 2 * padding, width + 2 * padding, channels))
    padded[padding : padding + height, padding : padding + width] = image
    cut = padded[row : row + height, column : column + width]
    return cut[:, ::-1] if flip else cut


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_each_image_is_placed_as_in_numpy(padding, mirror, dtype):
    keys = jax.random.split(jax.random.key(0), 16)
    given = images(16, dtype=dtype)
    received = augment(keys, given, crop_padding=padding, mirror=mirror)
    assert received.dtype == dtype
    corners, flips = jax.vmap(lambda key: draw(key, padding))(keys)
    assert np.asarray(flips).any()
    assert not np.asarray(flips).all()
    for one, image, (row, column), flip in zip(
        np.asarray(received), given, corners, flips, strict=True
    ):
        expected = place(image, row, column, flip and mirror, padding)
        np.testing.assert_array_equal(one, expected)


def test_all_placements_are_equally_likely():
    """The placement is read off the result: exactly one of the 2 * 5^2 fits."""
    n, padding = 1500, 2
    given = images(n, size=6, channels=1)
    step = jax.jit(lambda k, x: augment(k, x, crop_padding=padding, mirror=True))
    received = np.asarray(step(jax.random.key(1), given))
    choices = list(itertools.product(range(5), range(5), (False, True)))
    found = np.zeros(len(choices))
    for one, image in zip(received, given, strict=True):
        fits = [(place(image, *choice, padding) == one).all() for choice in choices]
        assert sum(fits) == 1
        found[np.argmax(fits)] += 1
    expected = n / len(choices)
    chi_squared = ((found - expected) ** 2 / expected).sum()
    assert chi_squared < 85.4  # the 99.9% quantile with 49 degrees of freedom


def test_an_image_depends_on_its_own_key_alone():
    keys = jax.random.split(jax.random.key(2), 8)
    given = images(8)
    whole = augment(keys, given, crop_padding=4, mirror=True)
    halves = [
        augment(keys[part], given[part], crop_padding=4, mirror=True)
        for part in (slice(0, 4), slice(4, 8))
    ]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_one_key_is_split_over_the_images():
    key = jax.random.key(3)
    one = augment(key, images(4), crop_padding=4, mirror=True)
    many = augment(jax.random.split(key, 4), images(4), crop_padding=4, mirror=True)
    np.testing.assert_array_equal(one, many)


def test_keys_of_the_old_style_give_the_same_images():
    new = augment(jax.random.key(3), images(4), crop_padding=4, mirror=True)
    old = augment(jax.random.PRNGKey(3), images(4), crop_padding=4, mirror=True)
    np.testing.assert_array_equal(new, old)


def test_nothing_to_do_leaves_the_images_alone():
    given = jnp.asarray(images(4))
    same = augment(jax.random.key(0), given, crop_padding=0, mirror=False)
    np.testing.assert_array_equal(same, given)


def test_keys_and_images_must_agree_in_number():
    with pytest.raises(ValueError, match="3 keys for 4 images"):
        augment(
            jax.random.split(jax.random.key(0), 3),
            images(4),
            crop_padding=4,
            mirror=True,
        )


@pytest.mark.parametrize("padding", [-1, True])
def test_a_bad_padding_is_refused(padding):
    with pytest.raises(ValueError, match=r"crop_padding=.*give an integer >= 0"):
        augment(jax.random.key(0), images(2), crop_padding=padding, mirror=True)
