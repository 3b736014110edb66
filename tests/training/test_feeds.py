"""Records read as a run goes on: the same run as in memory, whatever reads them."""

import numpy as np
import pytest

from sam_jax import data
from sam_jax.data import records
from sam_jax.training import checkpoint, configuration, loop, problem, streaming
from sam_jax.training.feeds import Streamed, feed
from tests.data import records as written
from tests.training.problems import RUN, tiny

NAMES = tuple("0123456789")
SIZES = {"train": 512, "test": 100}


def some(split):
    """Some of the digits, with pixels in 0..255 as records have them."""
    source = data.load("digits")
    images = getattr(source, f"{split}_images")[: SIZES[split]] * 15
    return images, getattr(source, f"{split}_labels")[: SIZES[split]]


@pytest.fixture(scope="module")
def digits():
    """The same as records."""

    def split(name):
        pairs = zip(*some(name), strict=True)
        return [{"image": image, "label": int(label)} for image, label in pairs]

    return records.create(split("train"), split("test"), NAMES, version="digits")


@pytest.fixture
def on_disk(digits, monkeypatch):
    """Both feeds get the same images and the same mean."""
    train, test = some("train"), some("test")
    same = data.Dataset(*train, *test, NAMES, digits.mean, digits.std, 1 / 255)
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
        if name != "seconds":
            np.testing.assert_allclose(value, found["memory"][name], rtol=1e-6)


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
