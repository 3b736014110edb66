"""The README's code runs as pasted, and what it links to is there."""

import pathlib
import re

import numpy as np

import sam_jax

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_the_examples_run_one_after_the_other():
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks) >= 2
    first, *others = blocks
    exec(first, names)
    # One SAM step from zero on sum_i (w_i - i)^2 / 3: -0.1 * 2/3 (w + rho u - y).
    y = np.array([1.0, 2.0, 3.0])
    expected = -0.1 * 2 / 3 * (-0.1 * y / np.linalg.norm(y) - y)
    np.testing.assert_allclose(names["params"]["w"], expected, rtol=1e-6)
    for block in others:
        exec(block, names)


def test_the_table_names_every_transform():
    named = set(re.findall(r"`(\w+)\(", TEXT.split("## Variants")[1].split("##")[0]))
    assert named >= {*sam_jax.transforms.VARIANTS, "only", "periodic", "active_between"}


def test_every_file_it_names_exists():
    links = re.findall(r"\]\(((?!http)[^)]+)\)", TEXT)
    recipes = re.findall(r"`(configs/\w+\.py)`", TEXT)
    assert links
    assert recipes
    for path in (*links, *recipes):
        assert (ROOT / path).exists(), path
