"""Every notebook runs at a small size, and its .ipynb is its .py."""

import pathlib
import re

import jupytext
import nbclient
import pytest

from sam_jax.extras import EXTRAS

FOLDER = pathlib.Path(__file__).parents[2] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
SMALL = {
    "01_sam_in_five_lines": "steps = 3",
    "02_implicit_bias": "seeds, iterations = 1, 100",
    "03_noisy_labels": "epochs, iterations = 2, 20",
    "04_per_example_sam": "batches, width, repeats = (4,), 16, 1",
    "05_robustness": "epochs, count = 1, 16",
    "06_language_model": "gradients, width, examples = 20, 16, 64",
    "07_equal_time": """epochs, seeds = 2, (0, 1)
kinds, radii = ("sam", "msam"), (0.1, 0.3)""",
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_there_are_notebooks_and_a_small_size_for_each():
    assert {source.stem for source in SOURCES} == set(SMALL)


@pytest.mark.program
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_runs_at_a_small_size(source):
    notebook = jupytext.read(source)
    (settings,) = (
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())
    )
    settings.source += "\n" + SMALL[source.stem]
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    assert outputs
    assert all(o["output_type"] != "error" for o in outputs)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_for_colab_is_the_source(source):
    """`make notebooks` writes it, with outputs."""
    written = jupytext.read(source.with_suffix(".ipynb"))
    cells = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    assert [(cell.cell_type, cell.source) for cell in written.cells] == cells
    assert f"blob/main/notebooks/{source.stem}.ipynb" in cells[0][1]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_colab_installs_the_extras_that_a_notebook_needs(source):
    """All draw or use flax; the flows need an ODE solver, too."""
    text = source.read_text()
    (installed,) = re.findall(r"\b(?:sam_jax|clone)\[([\w,]+)\]", text)
    needed = {"train", *re.findall(r"import .*\b(flows)\b", text)}
    assert needed <= EXTRAS.keys()
    assert set(installed.split(",")) == needed
    assert ("clone" in text) == ("from experiments" in text)  # not in the wheel
