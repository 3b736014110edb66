import gc
import json
import pathlib
import resource
import shutil
import threading
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sam_jax.training import flat_state
from sam_jax.training.checkpoint import Checkpoints
from sam_jax.training.errors import CheckpointError


def arrays(seed, size=2000):
    random = np.random.default_rng(seed)
    return {"params.w": random.normal(size=size), "step": np.int32(seed)}


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype


def test_what_is_restored_is_what_was_saved(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, arrays(3), {"epoch": 3, "seconds": 1.5})
    with Checkpoints(tmp_path / "c") as checkpoints:
        saved = checkpoints.restore()
    assert saved.number == 3
    assert saved.record == {"epoch": 3, "seconds": 1.5}
    equal(saved.state, arrays(3))


def test_what_changes_while_it_is_written_is_saved_as_it_was(tmp_path, monkeypatch):
    record, written = {"epoch": 0, "measured": [1.0]}, threading.Event()
    dumps = json.dumps

    def slow(*given, **options):
        written.wait(timeout=10)
        return dumps(*given, **options)

    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(3, arrays(3), {"epoch": 0})
        checkpoints.wait()
        monkeypatch.setattr(json, "dumps", slow)
        checkpoints.save(4, arrays(4), record)
        record["measured"].append(2.0)
        written.set()
    monkeypatch.undo()
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore().record["measured"] == [1.0]


def test_no_directory_is_no_checkpoint_and_makes_none(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore() is None
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("restarts", [(), (2,), (1, 3, 4)])
def test_the_newest_and_the_best_are_kept_whatever_the_restarts(tmp_path, restarts):
    best = {1: 1, 2: 2, 3: 2, 4: 2, 5: 2}
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    for epoch in best:
        checkpoints.save(epoch, arrays(epoch), {"epoch": epoch}, best[epoch])
        if epoch in restarts:
            with checkpoints:
                pass
            checkpoints = Checkpoints(tmp_path / "c", keep=2)
    with checkpoints:
        pass
    kept = {int(p.name) for p in (tmp_path / "c").iterdir()}
    assert kept == {2, 4, 5}


def empty(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def remove(folder):
    shutil.rmtree(folder / "state")


def flip_stored_bytes(folder):
    """Damages the array's own bytes, where no format notices."""
    largest = max((folder / "state").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(b ^ 1 for b in content[middle : middle + 64])
    largest.write_bytes(content)


@pytest.mark.parametrize("damage", [empty, remove, flip_stored_bytes])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, damage):
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        for epoch in (1, 2):
            checkpoints.save(epoch, arrays(epoch), {"epoch": epoch})
    damage(tmp_path / "c" / "2")
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        saved = checkpoints.restore()
        assert saved.number == 1
        equal(saved.state, arrays(1))
        assert "checkpoint of epoch 2" in capsys.readouterr().err
        checkpoints.save(2, arrays(7), {"epoch": 2})  # the run comes by again
        equal(checkpoints.restore().state, arrays(7))


def test_another_runs_directory_is_left_as_it_is(tmp_path, capsys):
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        for epoch in (1, 2):
            checkpoints.save(epoch, arrays(epoch), {"epoch": epoch})
    empty(tmp_path / "c" / "2")
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        assert checkpoints.restore().number == 1
    assert "checkpoint of epoch 2" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_all_damaged_is_an_error(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, arrays(1), {"epoch": 1})
    empty(tmp_path / "c" / "1")
    with (
        Checkpoints(tmp_path / "c") as checkpoints,
        pytest.raises(CheckpointError, match=r"All checkpoints in .* are damaged"),
    ):
        checkpoints.restore()


# A failed write leaves orbax with a coroutine whose event loop is closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_an_error_and_earlier_checkpoints_stay(tmp_path):
    size = 200_000  # random numbers do not compress: 1.6 MB
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(1, arrays(1, size), {"epoch": 1})
        checkpoints.wait()
        try:  # no file may grow beyond half of that: what a full disk does to a write
            resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, hard))
            checkpoints.save(2, arrays(2, size), {"epoch": 2})
            with pytest.raises(CheckpointError, match="epoch 2 could not be written"):
                checkpoints.wait()
            gc.collect()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        saved = checkpoints.restore()
        assert saved.number == 1
        equal(saved.state, arrays(1, size))
        checkpoints.save(2, arrays(2, size), {"epoch": 2})
        equal(checkpoints.restore().state, arrays(2, size))


def test_flatten_and_back_is_the_same_tree():
    tree = {
        "a": (jnp.ones((2, 3), jnp.bfloat16), None, ()),
        "b": jnp.zeros((), jnp.int32),
    }
    flat = flat_state.flatten(tree)
    assert set(flat) == {"a.0", "b"}
    again = flat_state.unflatten(tree, flat)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    equal(flat_state.flatten(again), flat)


def test_a_checkpoint_of_another_model_is_refused_by_name():
    flat = flat_state.flatten({"w": np.ones(3)})
    with pytest.raises(CheckpointError, match="differ in v, w"):
        flat_state.unflatten({"v": np.ones(3)}, flat)
    with pytest.raises(CheckpointError, match=r"holds w as float64\(3,\)"):
        flat_state.unflatten({"w": np.ones(4)}, flat)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {**a, "step": np.int32(4)},
        lambda a: {**a, "step": np.int64(3)},
        lambda a: {**a, "params.w": a["params.w"].reshape(2, -1)},
        lambda a: {("v" if n == "params.w" else n): x for n, x in a.items()},
    ],
)
@pytest.mark.parametrize("proof", [flat_state.checksum, flat_state.digest])
def test_the_checksum_sees_values_dtypes_shapes_and_names(proof, change):
    assert proof(arrays(3)) == proof(dict(arrays(3)))
    assert proof(change(arrays(3))) != proof(arrays(3))


KINDS = ["float64", "float32", "bfloat16", "float16", "int32", "uint8", "bool"]


def test_a_digest_is_the_same_on_the_host_and_on_a_device():
    values = np.arange(30).reshape(2, 3, 5) % 7
    host = {kind: values.astype(jnp.dtype(kind)) for kind in KINDS}
    host |= {"scalar": np.float32(0.5), "nothing": np.zeros((0, 2))}
    device = {name: jnp.asarray(array) for name, array in host.items()}
    assert flat_state.digest(host) == flat_state.digest(device)


def test_a_digest_is_the_sum_of_weighted_words():
    words = np.array([7, 2**31, 5], np.uint32)
    weights = [(i * 2654435761 % 2**32) | 1 for i in range(3)]
    total = sum(w * int(x) for w, x in zip(weights, words, strict=True)) % 2**32
    text = f"wuint32(3,){total}"
    assert flat_state.digest({"w": words}) == zlib.crc32(text.encode())


def test_a_digest_sees_any_change_of_a_word_and_entries_that_change_places():
    array = np.random.default_rng(0).normal(size=8).astype(np.float32)
    digests = {flat_state.digest({"w": array})}
    for bit in range(32):
        other = array.copy()
        other.view(np.uint32)[3] ^= np.uint32(1 << bit)
        digests.add(flat_state.digest({"w": other}))
    digests.add(flat_state.digest({"w": np.roll(array, 1)}))
    assert len(digests) == 34


def test_the_directory_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoints(pathlib.Path("c")) as checkpoints:
        checkpoints.save(1, arrays(1), {"epoch": 1})
    assert (tmp_path / "c" / "1").is_dir()


def test_a_copy_under_another_number_is_not_believed(tmp_path, capsys):
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        for epoch in (2, 3):
            checkpoints.save(epoch, arrays(epoch), {"epoch": epoch})
    shutil.copytree(tmp_path / "c" / "3", tmp_path / "c" / "4")
    with Checkpoints(tmp_path / "c", keep=3) as checkpoints:
        saved = checkpoints.restore()
    assert saved.number == 3
    assert "it is that of epoch 3" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    with Checkpoints(tmp_path / "c", run="theirs") as checkpoints:
        checkpoints.save(1, arrays(1), {"epoch": 1})
    with Checkpoints(tmp_path / "c", run="ours") as checkpoints:
        with pytest.raises(CheckpointError, match="a run with another configuration"):
            checkpoints.restore()
        with pytest.raises(CheckpointError, match="a run with another configuration"):
            checkpoints.read(1)
    for run in (None, "theirs"):
        with Checkpoints(tmp_path / "c", run=run, read_only=True) as checkpoints:
            equal(checkpoints.restore().state, arrays(1))
