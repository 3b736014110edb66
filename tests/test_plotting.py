import io
import itertools
import types
import warnings

import matplotlib.legend
import numpy as np
import pytest
from PIL import Image

from sam_jax import plotting

EPOCHS = np.array([1, 2, 3])
RUN = {
    "epoch": EPOCHS,
    "train_loss": np.array([2.0, 0.1, 0.01]),
    "test_error": np.array([0.5, 0.25, 0.3]),
}


def test_curves_show_the_arrays_they_were_given():
    runs = {"ERM": {**RUN, "best_epoch": 2}, "SAM": {**RUN, "test_error": [0.4] * 3}}
    figure = plotting.training_curves(runs)
    loss, error = figure.axes
    assert loss.get_yscale() == "log"
    lines = {line.get_label(): line for line in loss.lines}
    assert set(lines) == {"ERM", "SAM"}
    np.testing.assert_array_equal(lines["ERM"].get_xydata()[:, 1], RUN["train_loss"])
    curves = [line for line in error.lines if line.get_label() in runs]
    np.testing.assert_array_equal(curves[0].get_ydata(), [50, 25, 30])
    np.testing.assert_array_equal(curves[1].get_ydata(), [40, 40, 40])
    marks = [
        tuple(line.get_xydata()[0])
        for line in error.lines
        if len(line.get_xdata()) == 1
    ]
    assert marks == [(2, 25)]


def test_units_are_on_the_axes_and_runs_told_apart():
    figure = plotting.training_curves({str(i): RUN for i in range(9)})
    loss, error = figure.axes
    assert loss.get_xlabel() == error.get_xlabel() == "epoch"
    assert error.get_ylabel() == "test error (%)"
    assert len({line.get_color() for line in loss.lines[:7]}) == 7


def test_save_writes_a_picture(tmp_path):
    plotting.save(plotting.training_curves({"ERM": RUN}), tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_a_palette_makes_a_picture_smaller_and_leaves_its_colours(tmp_path):
    figure = plotting.training_curves({"ERM": RUN})
    for name, colors in (("all", None), ("few", 64)):
        plotting.save(figure, tmp_path / f"{name}.png", colors=colors)
    full, few = (tmp_path / f"{name}.png" for name in ("all", "few"))
    assert few.stat().st_size < full.stat().st_size / 2
    first, second = (
        np.asarray(Image.open(path).convert("RGB"), float) for path in (full, few)
    )
    assert np.abs(first - second).max() < 32
    assert np.abs(first - second).mean() < 1


def test_a_busy_machine_draws_without_a_warning(monkeypatch):
    clock = types.SimpleNamespace(perf_counter=itertools.count(0, 2).__next__)
    monkeypatch.setattr(matplotlib.legend, "time", clock)
    figure = plotting.training_curves({"ERM": RUN})
    with pytest.warns(UserWarning, match="slow with large amounts"):
        figure.savefig(io.BytesIO(), format="png")
    with warnings.catch_warnings(action="error"):
        assert plotting.png(figure).startswith(b"\x89PNG")


def test_a_run_without_a_key_is_an_error():
    with pytest.raises(KeyError, match="test_error"):
        plotting.training_curves({"ERM": {"epoch": EPOCHS, "train_loss": EPOCHS}})


@pytest.mark.parametrize("geometric", [False, True])
def test_a_band_is_the_mean_between_percentiles(geometric):
    runs = np.geomspace(1.0, 1e4, 11)[:, None] * np.ones(3)
    _, (axes,) = plotting.panels()
    plotting.band(axes, EPOCHS, runs, geometric=geometric, label="ERM")
    (line,) = axes.lines
    expected = 100.0 if geometric else runs[:, 0].mean()
    np.testing.assert_allclose(line.get_ydata(), expected)
    vertices = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(vertices.min(), runs[1, 0])
    np.testing.assert_allclose(vertices.max(), runs[9, 0])


def test_the_first_direction_of_a_surface_goes_to_the_right():
    line = np.linspace(-1, 1, 5)
    surface = np.broadcast_to(2 + line[:, None], (5, 5))  # flat along the second
    ritz = np.ones((1, 2))
    figure = plotting.sharpness(
        {"ritz_values": ritz, "ritz_weights": ritz, "line": line, "surface": surface}
    )
    _, along, plane, _ = figure.axes
    first, second = (drawn.get_ydata() for drawn in along.lines)
    np.testing.assert_array_equal(first, 2 + line)
    np.testing.assert_array_equal(second, 2)
    assert plane.get_xlabel() == "first direction"
    bands = [path.vertices for path in plane.collections[0].get_paths()]
    spans = np.array([np.ptp(band, axis=0) for band in bands if len(band)])
    assert np.all(spans[:, 0] < 0.2)
    np.testing.assert_allclose(spans[:, 1], 2)


def test_panels_come_row_by_row_at_their_size():
    figure, axes = plotting.panels(2, 3, width=2.0, height=1.5)
    assert len(axes) == 6
    assert tuple(figure.get_size_inches()) == (6.0, 3.0)
    rows = [axis.get_subplotspec().rowspan.start for axis in axes]
    assert rows == [0, 0, 0, 1, 1, 1]
