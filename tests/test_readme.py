"""The README's code runs as pasted, what it links to is there, and its table of results
is that of the files.
"""

import pathlib
import re

import numpy as np
import pytest

import sam_jax
from experiments.harness import report

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_the_examples_run_one_after_the_other():
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks) == 3
    first, second, third = blocks
    exec(first, names)
    # One SAM step from zero on sum_i (w_i - i)^2 / 3: -0.1 * 2/3 (w + rho u - y).
    y = np.array([1.0, 2.0, 3.0])
    expected = -0.1 * 2 / 3 * (-0.1 * y / np.linalg.norm(y) - y)
    np.testing.assert_allclose(names["params"]["w"], expected, rtol=1e-6)
    exec(second, names)
    residual = expected - y
    ascended = residual + 0.1 * residual / np.linalg.norm(residual)
    np.testing.assert_allclose(names["grads"]["w"], 2 / 3 * ascended, rtol=1e-6)
    exec(third, names)
    length = np.linalg.norm(residual)
    np.testing.assert_allclose((1 + names["rho"] / length) ** 2, 1.05, rtol=1e-3)


def test_the_variants_it_names_and_counts_are_there():
    table = TEXT.split("## Which variant")[1].split("##")[0]
    named = set(re.findall(r"`(\w+)\(", table))
    assert named <= {*sam_jax.__all__}
    assert {"sam", "sum_max", "only", "periodic"} <= named
    assert f"| Variants | {len(sam_jax.transforms.VARIANTS)} |" in TEXT


def test_every_file_it_names_exists():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT)
    assert links
    for path in links:
        assert (ROOT / path).exists(), path


def test_it_is_read_in_two_screens():
    prose = re.sub(r"<!-- results -->.*<!-- end of results -->", "", TEXT, flags=re.S)
    assert len(prose.split()) < 1000
    assert "±" not in prose
    assert "+-" not in TEXT


@pytest.mark.program
def test_its_results_are_those_of_the_files():
    """`make report` draws them anew, and those of two pages of docs/."""
    for page in ("README.md", "docs/paper.md", "docs/variants.md"):
        page = ROOT / page
        assert report.redrawn(page, ROOT / "results") == page.read_text()
    table = TEXT.split("<!-- results -->")[1].split("<!-- end")[0]
    assert len(table.strip().splitlines()) <= 14  # twelve lines below the header
