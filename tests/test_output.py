import json
import pathlib

import numpy as np
import pytest

from sam_jax import output


def test_json_and_arrays_come_back(tmp_path):
    value = {"a": [1, 2.5, "x"], "b": {"c": None}}
    output.write_json(tmp_path / "v.json", value)
    assert json.loads((tmp_path / "v.json").read_text()) == value
    arrays = {"x": np.arange(3.0), "flags": np.array([True, False])}
    output.write_arrays(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz") as loaded:
        assert set(loaded) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path, bad):
    with pytest.raises(ValueError, match=r"runs\[1\]\.loss = "):
        output.write_json(tmp_path / "v.json", {"runs": [{}, {"loss": float(bad)}]})
    with pytest.raises(ValueError, match="'x' with 1 of 2 entries not finite"):
        output.write_arrays(tmp_path / "a.npz", {"x": np.array([1.0, bad])})
    assert list(tmp_path.iterdir()) == []


def test_pickled_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'x' of dtype object"):
        output.write_arrays(tmp_path / "a.npz", {"x": np.array([{}, {}])})


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "v.json"
    output.write_json(path, 1)

    def half(file):
        file.write(b"2")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        output.write_atomic(path, half)
    assert json.loads(path.read_text()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_at_the_place_before_all_is_written(tmp_path):
    path = pathlib.Path(tmp_path / "v")

    def write(file):
        file.write(b"1")
        file.flush()
        assert not path.exists()

    output.write_atomic(path, write)
    assert path.read_bytes() == b"1"


def test_the_first_column_is_to_the_left_and_the_others_to_the_right():
    received = output.table(["run", "error"], [["ERM", "48.1 %"], ["SAM", "7 %"]])
    expected = """\
run   error
---  ------
ERM  48.1 %
SAM     7 %"""
    assert received == expected


def test_percent():
    assert output.percent(0.0376) == "3.8 %"
    assert output.percent(None) == "-"
