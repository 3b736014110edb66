"""Records read as a run goes on: the same run as in memory, whatever reads them."""

import functools
from typing import NamedTuple

import numpy as np
import pytest

from sam_jax import data
from sam_jax.analysis import networks, restore, robustness
from sam_jax.data import records
from sam_jax.training import checkpoint, configuration, loop, problem, streaming
from sam_jax.training.feeds import Streamed, feed
from tests.data import records as written
from tests.training import device_processes, stream_runs
from tests.training.problems import RUN, tiny


@pytest.fixture(scope="module")
def digits():
    return stream_runs.digits()


@pytest.fixture
def on_disk(digits, monkeypatch):
    """Both feeds get the same images and the same mean."""
    train, test = stream_runs.some("train"), stream_runs.some("test")
    same = data.Dataset(
        *train, *test, stream_runs.NAMES, digits.mean, digits.std, 1 / 255
    )
    monkeypatch.setattr(streaming.records, "load", lambda name, size: digits)
    monkeypatch.setattr(problem.data, "load", lambda name, **options: same)


def final(workdir):
    with checkpoint.Checkpoints(workdir / "checkpoints", read_only=True) as saved:
        return saved.restore().state


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.program
def test_a_streamed_run_is_the_run_in_memory(on_disk, tmp_path):
    """Noise, augmentation, an ascent batch of its own, and an average: bit for bit.

    Figures are sums over batches, which differ: in memory noisy examples are a part.
    """
    changes = {**RUN, "sam__kind": "max_sum", "epochs": 2, "eval__batch_size": 1000}
    found = {
        name: loop.run(tiny(data__feed=name, **changes), tmp_path / name, silent=True)
        for name in ("memory", "stream")
    }
    assert_same(final(tmp_path / "memory"), final(tmp_path / "stream"))
    for name, value in found["stream"].items():
        if name not in ("seconds", "device"):
            np.testing.assert_allclose(value, found["memory"][name], rtol=1e-6)
    assert_measured_alike(tmp_path / "memory", tmp_path / "stream")


def assert_measured_alike(memory, stream):
    """What is measured of a streamed run is what its records give in memory."""
    runs = [restore.read(workdir) for workdir in (memory, stream)]
    one, other = (networks.training_batch(run, 100) for run in runs)
    assert_same(one, other)
    (*one, _), (*other, _) = (robustness.held_out(run, 30) for run in runs)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    one, other = (
        networks.alignment_over_training(run.workdir, rho=0.1, batches=2)
        for run in runs
    )
    np.testing.assert_allclose(one.true, other.true, rtol=1e-5)
    np.testing.assert_allclose(one.noisy, other.noisy, rtol=1e-5)


@pytest.mark.program
def test_a_run_goes_on_in_the_middle_of_an_epoch(on_disk, tmp_path, monkeypatch):
    """The position is the step of the checkpoint: what was read ahead is read again."""
    changes = {**RUN, "data__feed": "stream", "epochs": 2, "batch_size": 64}
    loop.run(tiny(**changes), tmp_path / "whole", silent=True)
    asked = iter(range(1000))

    def read(requests, shared):
        return loop.SAVE + 1 if next(asked) == 9 else loop.NOTHING

    with monkeypatch.context() as patch:
        patch.setattr(loop.Requests, "read", read)
        patch.setattr(loop.Requests, "hand_on", lambda *_: False)
        with pytest.raises(loop.Interrupted, match=r"after step 1\d of 14"):
            loop.run(tiny(**changes), tmp_path / "run", silent=True)
    loop.run(tiny(**changes), tmp_path / "run", silent=True)
    assert_same(final(tmp_path / "whole"), final(tmp_path / "run"))


class Seen(NamedTuple):
    """Numbers of the examples of each batch that a process has read, and the labels
    that it was given of them.
    """

    numbers: list[np.ndarray]
    given: list[np.ndarray]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The same run of a process with two devices, and of two with one: what each has
    read, and their folders.
    """
    folder = tmp_path_factory.mktemp("streams")
    where, address = (folder / "one", folder / "two"), device_processes.free_address()
    outs = [folder / f"{i}.npz" for i in range(3)]
    start = functools.partial(device_processes.start, "tests.training.stream_runs")
    device_processes.finish(start(2, outs[0], where[0]))
    device_processes.finish(
        *(start(1, outs[i + 1], where[1], address, i, 2) for i in range(2))
    )

    def seen(out):
        with np.load(out) as file:
            ends = np.cumsum(file["lengths"])[:-1]
            return Seen(*(np.split(file[name], ends) for name in Seen._fields))

    return [seen(out) for out in outs], where


@pytest.mark.program
def test_processes_read_disjoint_parts_of_what_one_reads(two_processes):
    (one, first, second), _ = two_processes
    both = [np.concatenate(parts) for parts in zip(first[0], second[0], strict=True)]
    for received, expected in zip(both, one.numbers, strict=True):
        np.testing.assert_array_equal(received, expected)
    steps = slice(1, 8)  # before them the first is traced, after them is evaluation
    parts = [np.concatenate(seen.numbers[steps]) for seen in (first, second)]
    assert [len(np.unique(part)) for part in parts] == [7 * 32, 7 * 32]
    assert not np.intersect1d(*parts).size


@pytest.mark.program
def test_every_process_gives_an_example_the_same_label(two_processes):
    labels = stream_runs.some("train")[1]
    noisy, changed = data.add_label_noise(0, labels, stream_runs.NOISE, 10)
    assert changed.mean() > 0.3
    for seen in two_processes[0]:
        numbers, given = map(np.concatenate, seen)
        trained = numbers < len(labels)
        np.testing.assert_array_equal(given[trained], noisy[numbers[trained]])


@pytest.mark.program
def test_two_processes_train_as_one_with_their_devices(two_processes):
    one, two = (final(where / "whole") for where in two_processes[1])
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-12, err_msg=name)


@pytest.mark.program
def test_two_processes_go_on_in_the_middle_of_an_epoch(two_processes):
    _, (_, two) = two_processes
    assert_same(final(two / "whole"), final(two / "stopped"))


def test_a_process_reads_what_its_devices_take(digits):
    """Of two devices each, processes have half of a batch of eight."""
    config = configuration.check(tiny(data__noise__fraction=0.5))
    streamed, _, _ = streaming.streamed(config, digits)
    batch, other = np.arange(100, 108), np.arange(506, 514)
    read = []

    class Watched(records.Records):
        def example(self, number):
            read.append(int(number))
            return super().example(number)

    watched = Streamed(Watched(*digits), streamed.noise, streamed.dtype)
    local = [b.reshape(4, 2)[2:] for b in (batch, other)]
    ((examples, places),) = feed(watched, [tuple(local)])
    assert sorted(read) == [104, 105, 106, 107, 510, 511, 512, 513]
    assert examples.images.shape == (2, 4, 8, 8, 1)
    assert examples.mean.shape == (2, 1)
    for device in range(2):
        for place, numbers in zip(places, local, strict=True):
            for row, number in zip(place[device], numbers[device], strict=True):
                expected = digits.example(number)
                assert examples.true[device, row] == expected["label"]
                np.testing.assert_array_equal(
                    examples.images[device, row], expected["image"]
                )


def test_label_noise_goes_by_the_number_of_an_example(digits):
    """In any order and any batch the labels are those of the whole set in memory."""
    labels = np.array([record["label"] for record in digits.train])
    order = np.random.default_rng(0).permutation(len(labels))
    for options in (
        {"kind": "uniform"},
        {"kind": "uniform", "exclude_true": True},
        {"kind": "asymmetric", "mapping": (*range(1, 10), 0)},
    ):
        whole, changed = data.add_label_noise(7, labels, 0.6, 10, **options)
        noise = data.draw_label_noise(7, len(labels), 0.6, 10, **options)
        for part in np.array_split(order, 9):
            np.testing.assert_array_equal(
                noise.replace(part, labels[part]), whole[part]
            )
        assert changed.mean() > 0.5


def test_test_examples_keep_their_labels(digits):
    config = configuration.check(tiny(data__noise__fraction=1.0))
    streamed, parts, _ = streaming.streamed(config, digits)
    ((examples, _),) = feed(streamed, [(parts["test"][:64],)])
    np.testing.assert_array_equal(examples.given, examples.true)
    ((examples, _),) = feed(streamed, [(parts["train"][:64],)])
    assert (np.asarray(examples.given) != examples.true).mean() > 0.7


def test_images_are_cut_to_a_square_and_resized():
    image = np.zeros((6, 10, 3), np.uint8)
    image[:, 2:8] = 200  # the square in the middle
    np.testing.assert_array_equal(records.fit(image, 3), np.full((3, 3, 3), 200))
    assert records.fit(image[..., :1], 4).shape == (4, 4, 1)
    assert records.fit(image, 0) is image


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__classes": ("1", "2")}, "reads records as they are"),
        ({"data__train_examples": 100}, "reads records as they are"),
        ({"attack__eval_steps": 1, "attack__eps": 0.1}, "reads records as they are"),
        ({"parallel__kind": "sharded"}, "do not read parts of a batch"),
    ],
)
def test_what_needs_all_examples_in_memory_is_refused(tmp_path, changes, message):
    config = tiny(data__feed="stream", **changes)
    with pytest.raises(configuration.ConfigError, match=message):
        loop.prepare(config, tmp_path)


def test_what_is_not_prepared_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    config = tiny(data__feed="stream", data__name="imagenet2012")
    with pytest.raises(ValueError, match="'imagenet2012' is not prepared in"):
        loop.prepare(config, tmp_path / "run")


def test_records_of_tfds_are_read_while_a_run_goes_on(tmp_path, monkeypatch):
    splits = written.random_splits(0, channels=3, classes=3)
    names = ["a", "b", "c"]
    folder = tmp_path / "data"
    written.write("cifar10", splits, names, folder, channels=3, ids=True)
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    found = records.load("cifar10")
    assert found.class_names == tuple(names)
    images = [found.example(i)["image"] for i in range(len(found.train))]
    # In the order of the records, which TFDS has shuffled.
    key = sorted(image.tobytes() for image in splits["train"][0])
    assert sorted(image.tobytes() for image in images) == key
    count = len(images)
    last = found.example(count + len(found.test) - 1)
    assert last["image"].tobytes() in {x.tobytes() for x in splits["test"][0]}
    config = tiny(data__name="cifar10", data__feed="stream", batch_size=4, epochs=1)
    summary = loop.run(config, tmp_path / "run", silent=True)
    assert summary["steps"] == (count - round(count / 10)) // 4


def test_imagenet_is_tested_on_its_split_validation(tmp_path):
    """The labels of its split "test" are not public."""
    splits = written.random_splits(0, channels=3, classes=3)
    splits["validation"] = splits["test"]
    splits["test"] = written.random_splits(1, channels=3, classes=3)["test"]
    name = "imagenet2012"
    written.write(name, splits, ["a", "b", "c"], tmp_path, channels=3, ids=False)
    found = records.load(name, data_dir=tmp_path)
    received = [record["image"].tobytes() for record in found.test]
    expected = [image.tobytes() for image in splits["validation"][0]]
    assert sorted(received) == sorted(expected)
