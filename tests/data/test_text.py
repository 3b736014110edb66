"""Text as sequences: every byte predicted once, whole documents on one side."""

import hashlib
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from sam_jax import data
from sam_jax.data import text

STDLIB = Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture(scope="module")
def corpus():
    return text.standard_library()


def predicted(labels):
    return bytes(labels[labels >= 0].astype(np.uint8))


def test_a_document_is_cut_as_by_hand():
    inputs, labels = text.sequences(b"abcdefg", 3)
    a = ord("a")
    np.testing.assert_array_equal(
        inputs, [[0, a, a + 1], [a + 2, a + 3, a + 4], [a + 5, 0, 0]]
    )
    np.testing.assert_array_equal(
        labels, [[a, a + 1, a + 2], [a + 3, a + 4, a + 5], [a + 6, -1, -1]]
    )


def test_the_standard_library_is_predicted_byte_by_byte_and_once(corpus):
    dataset = text.as_dataset(corpus, 100)
    for i in (0, 7, len(corpus.train) - 1):
        name, content = corpus.train[i]
        part = dataset.train_documents == i
        assert predicted(dataset.train_labels[part]) == content
        assert content == (STDLIB / name).read_bytes()
        # What goes in is what was to be predicted one place before.
        joined = dataset.train_images[part].ravel()[: len(content)]
        assert bytes(joined) == b"\0" + content[:-1]
    whole = b"".join(document.content for document in corpus.test)
    assert predicted(dataset.test_labels) == whole
    assert (dataset.num_classes, dataset.image_shape) == (256, (100,))


def test_the_standard_library_is_large_real_and_split_by_file(corpus):
    train, test = ({d.name for d in part} for part in corpus)
    assert not train & test
    assert len(test) == round((len(train) + len(test)) / 10)
    assert sum(len(d.content) for d in corpus.train) > 3_000_000
    assert "json/decoder.py" in train | test
    assert not any(name.split("/")[0] in text.LEFT_OUT for name in train | test)
    greatest = max(hashlib.sha256(name.encode()).digest() for name in test)
    assert all(hashlib.sha256(n.encode()).digest() > greatest for n in train)
    assert corpus == text.standard_library.__wrapped__()


def test_a_fingerprint_sees_every_byte_and_name():
    documents = [text.Document(str(i), b"text %d" % i) for i in range(4)]
    one = text.Corpus(documents[:3], documents[3:])
    others = [
        text.Corpus(documents[:2], documents[3:]),
        text.Corpus([*documents[:2], text.Document("2", b"text 3")], documents[3:]),
        text.Corpus([*documents[:2], text.Document("3", b"text 2")], documents[3:]),
        text.Corpus(documents[3:], documents[:3]),
    ]
    found = {text.fingerprint(corpus) for corpus in [one, *others]}
    assert len(found) == 5
    assert text.fingerprint(text.Corpus(*map(list, one))) in found


def test_files_of_a_folder_are_documents(tmp_path):
    for i in range(20):
        (tmp_path / f"{i % 3}").mkdir(exist_ok=True)
        (tmp_path / f"{i % 3}" / f"{i}.txt").write_bytes(b"%d" % i * 30)
    dataset = data.load("text", path=str(tmp_path), length=7)
    assert len(np.unique(dataset.train_documents)) == 18
    sizes = sum(len(b"%d" % i * 30) for i in range(20))
    predicted = (dataset.train_labels >= 0).sum() + (dataset.test_labels >= 0).sum()
    assert predicted == sizes


def test_a_single_file_tests_on_its_end(tmp_path):
    content = bytes(range(65, 91)) * 40
    (tmp_path / "one.txt").write_bytes(content)
    dataset = data.load("text", path=str(tmp_path / "one.txt"), length=10)
    assert predicted(dataset.test_labels) == content[-len(content) // 10 :]
    assert predicted(dataset.train_labels) == content[: -len(content) // 10]
    assert len(np.unique(dataset.train_documents)) == 18


def test_whole_documents_validate():
    documents = np.repeat(np.arange(30), np.arange(1, 31))
    train, held_out = data.split_documents(0, documents, 0.2)
    assert not set(documents[train]) & set(documents[held_out])
    assert len(set(documents[held_out])) == 6
    np.testing.assert_array_equal(
        np.sort(np.concatenate([train, held_out])), np.arange(len(documents))
    )
    other = data.split_documents(1, documents, 0.2)[1]
    assert not np.array_equal(held_out, other)


def test_texts_of_tfds_are_read_without_tensorflow(tmp_path):
    import tensorflow_datasets as tfds

    texts = {
        "train": ["to be", "or not", "äöü"],
        "test": ["that is", "the question"],
    }

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in texts}

        def _generate_examples(self, split):
            yield from ((i, {"text": t}) for i, t in enumerate(texts[split]))

    Builder.name = "imdb_reviews"
    builder = Builder(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    dataset = data.load("imdb_reviews", length=4, data_dir=tmp_path)
    for part in ("train", "test"):
        ordered = sorted(
            (t.encode() for t in texts[part]),
            key=lambda t: hashlib.sha256(t).digest(),
        )
        labels = getattr(dataset, f"{part}_labels")
        assert predicted(labels) == b"".join(ordered)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("text", {}, "data.path='' with data.name='text'; name='text' needs"),
        ("stdlib", {"path": "x"}, "data.path='x' with data.name='stdlib'"),
        ("text", {"path": "/no/such"}, "'/no/such', where there is no text"),
        ("stdlib", {"length": 0}, "data.length=0; give an integer >= 1"),
        ("stdlib", {"length": 10**9}, r"corpus of \d+ bytes to train on; give more"),
        ("stdlib", {"size": 4}, "size=4 for the text 'stdlib', which has neither"),
        ("stdlib", {"classes": ("a",)}, r"classes=\('a',\)"),
        (
            "tiny_shakespeare",
            {"data_dir": "/no/such"},
            r"tfds.builder\('tiny_shakespeare', file_format='array_record'",
        ),
    ],
)
def test_what_is_no_text_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, **options)
