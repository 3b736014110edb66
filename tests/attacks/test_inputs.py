"""Mistakes end in a ValueError that says what was received and what to do."""

import jax
import jax.numpy as jnp
import pytest

from sam_jax import attacks

KEY = jax.random.key(0)
X = jnp.full((4, 5, 5, 1), 0.5)
Y = jnp.array([0, 1, 2, 0])


def predict(x):
    flat = x.reshape(len(x), -1)
    return flat[:, :3] * jnp.array([1.0, 0.5, 0.2])


ALL = {
    "pgd": attacks.pgd,
    "fgsm": attacks.fgsm,
    "apgd": attacks.apgd,
    "fab": attacks.fab,
    "square": attacks.square,
    "auto_attack": lambda *args, **kw: attacks.auto_attack(*args, verbose=False, **kw),
}
GOOD = {"predict": predict, "x": X, "y": Y, "eps": 0.1, "key": KEY}


@pytest.mark.parametrize("attack", ALL)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": X * 255}, r"images from 127.5 to 127.5; attacks search \[0, 1\]"),
        ({"x": X - 0.6}, "from -0.1"),
        ({"x": X * jnp.nan}, "from nan to nan"),
        ({"x": jnp.zeros((4, 5, 5, 1), int)}, "images of dtype int.*images / 255"),
        ({"x": X[:0], "y": Y[:0]}, r"shape \(0, 5, 5, 1\).*at least one image"),
        ({"y": Y + 1}, r"labels from 1 to 3 for 3 logits; labels are in 0\.\.2"),
        ({"y": Y - 1}, "labels from -1"),
        ({"y": Y[:3]}, "4 images and 3 labels"),
        ({"y": jax.nn.one_hot(Y, 3)}, r"labels of shape \(4, 3\) and dtype float"),
        ({"eps": 0.0}, r"eps=0\.0; give a radius above 0"),
        ({"eps": -1}, "eps=-1"),
        ({"eps": float("nan")}, "eps=nan"),
        ({"norm": "l1"}, "Unknown norm 'l1'; known: linf, l2"),
        ({"predict": lambda x: predict(x)[:, 0]}, r"logits of shape \(4,\)"),
        ({"predict": lambda x: predict(x)[:, :1]}, r"shape \(4, 1\).*stack"),
        ({"predict": lambda x: predict(x)[:2]}, r"shape \(2, 3\)"),
        ({"predict": lambda x: (predict(x), {})}, "logits of tuple.*logits alone"),
        ({"predict": lambda x: predict(x) > 0}, "logits of dtype bool"),
    ],
)
def test_bad_input(attack, changed, message):
    given = GOOD | changed
    with pytest.raises(ValueError, match=message):
        ALL[attack](given.pop("predict"), given.pop("x"), given.pop("y"), **given)


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        ("pgd", {"steps": 0}, "steps=0; give an integer >= 1"),
        ("pgd", {"start": "far"}, "Unknown start 'far'; known: random, zero"),
        ("pgd", {"loss": "hinge"}, "Unknown attack loss 'hinge'; known: cross_entropy"),
        ("pgd", {"key": None}, r"key=None.*start='zero' needs none"),
        ("pgd", {"step_size": -1.0}, "step_size=-1.0"),
        ("apgd", {"targets": 0}, "targets=0"),
        ("apgd", {"eot": 0}, "eot=0"),
        ("apgd", {"key": None}, "key=None"),
        ("fab", {"restarts": 2, "key": None}, "restarts=1 needs none"),
        ("square", {"p_init": 0}, "p_init=0"),
        ("square", {"key": None}, "key=None"),
        ("square", {"norm": "l2", "x": X[:, :4]}, r"square in l2 takes.*at least 5"),
        ("square", {"x": X[:, :, :, 0]}, r"shape \(4, 5, 5\)"),
        ("auto_attack", {"attacks": ["pgd"]}, "Unknown attack 'pgd'; known: apgd_ce"),
        ("auto_attack", {"attacks": []}, r"attacks=\[\]; give a list"),
        ("auto_attack", {"attacks": "square"}, "attacks='square'; give a list"),
        ("auto_attack", {"version": "plus"}, "Unknown version 'plus'; known: standard"),
        ("auto_attack", {"batch_size": 0}, "batch_size=0"),
        ("auto_attack", {"key": None}, "key=None"),
        ("auto_attack", {"y": Y * 0 + 2}, "None of the 4 images is classified"),
        ("auto_attack", {"predict": lambda x: predict(x) / 0}, "not finite"),
    ],
)
def test_bad_options(attack, options, message):
    given = GOOD | options
    with pytest.raises(ValueError, match=message):
        ALL[attack](given.pop("predict"), given.pop("x"), given.pop("y"), **given)
