"""Text as sequences of bytes, for language models: real text without a download.

Every document is preceded by the byte 0 and cut into sequences. Sequence i has the
bytes iT .. iT+T-1 of that as inputs, and as labels the byte after each: every byte of
a document is predicted exactly once, by the bytes before it in its sequence alone. The
last sequence of a document is filled up with zeros, whose labels are -1: nothing to
predict. No sequence holds parts of two documents.
"""

import functools
import hashlib
import os
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int16, UInt8

from sam_jax import checks
from sam_jax.data import tfds_source
from sam_jax.data.dataset import Dataset, UnavailableDataError

VOCABULARY = 256
START = 0  # comes before the first byte of a document
NOTHING = -1  # the label where there is no byte to predict
# Parts of the standard library that some distributions package apart or leave out, and
# tables of numbers.
LEFT_OUT = {
    "__pycache__",
    "dist-packages",
    "distutils",
    "encodings",
    "ensurepip",
    "idle_test",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}
PIECES = 20  # of a single document


class Document(NamedTuple):
    """name: where it lies in its corpus. content: its bytes."""

    name: str
    content: bytes


class Corpus(NamedTuple):
    """Documents to train on (and to validate on, a part of them), and to test on."""

    train: list[Document]
    test: list[Document]


@functools.lru_cache(maxsize=1)
def standard_library() -> Corpus:
    """The sources of Python's standard library: some 8 MB of text on every machine.

    The corpus is that of the Python that runs: another version has other sources. Which
    documents test depends on their names alone. `fingerprint` tells corpora apart.
    """
    root, paths = Path(sysconfig.get_paths()["stdlib"]), []
    for folder, inner, files in os.walk(root):
        inner[:] = set(inner) - LEFT_OUT  # these are not walked into
        paths += [
            Path(folder, name)
            for name in files
            # _sysconfigdata holds the paths of the machine that has built Python.
            if name.endswith(".py") and not name.startswith("_sysconfigdata")
        ]
    return divide(_read(paths, root))


def local(path: str | Path) -> Corpus:
    """A file, or all files of a folder and its folders, whatever is in them.

    Raises: UnavailableDataError where there is none, or none of a byte at least.
    """
    path = Path(path).expanduser()
    if path.is_file():
        documents = _read([path], path.parent)
    else:
        documents = _read([p for p in path.rglob("*") if p.is_file()], path)
    if not documents:
        raise UnavailableDataError(
            f"Received data.path={str(path)!r}, where there is no text; give a file, "
            "or a folder of files."
        )
    return divide(documents)


def prepared(name: str, path: str, data_dir: Any) -> Corpus:
    """The texts of a TFDS data set; its own test split tests."""
    del path
    splits = tfds_source.load_text(name, data_dir)
    train, test = (
        [Document(f"{split}/{i}", text) for i, text in enumerate(splits[split])]
        for split in ("train", "test")
    )
    return Corpus(_pieces(train[0]) if len(train) == 1 else train, test)


def divide(documents: Sequence[Document]) -> Corpus:
    """Puts a tenth of the documents, one at least, into the test set.

    Those whose names have the least SHA-256, so that the split is that of every
    machine. A single document is cut into pieces, of which the last ones test.
    """
    if len(documents) == 1:
        pieces = _pieces(documents[0])
        return Corpus(pieces[: -PIECES // 10], pieces[-PIECES // 10 :])
    ordered = sorted(documents, key=lambda d: hashlib.sha256(d.name.encode()).digest())
    count = max(1, round(len(ordered) / 10))
    return Corpus(*(sorted(part) for part in (ordered[count:], ordered[:count])))


def sequences(
    content: bytes, length: int
) -> tuple[UInt8[np.ndarray, "n length"], Int16[np.ndarray, "n length"]]:
    """A document's inputs and labels (see the module's docstring).

    Args:
      content: of one byte at least. length: bytes of a sequence, T.
    """
    count = -(-len(content) // length)
    stream = np.frombuffer(bytes([START]) + content, np.uint8)
    inputs = np.zeros(count * length, np.uint8)
    labels = np.full(count * length, NOTHING, np.int16)
    inputs[: len(content)], labels[: len(content)] = stream[:-1], stream[1:]
    return inputs.reshape(count, length), labels.reshape(count, length)


def as_dataset(corpus: Corpus, length: int) -> Dataset:
    """A corpus as a data set of sequences of `length` bytes.

    Raises: ValueError for a part of it that is shorter than a sequence.
    """
    checks.integer("data.length", length, 1)
    parts = {}
    for name, documents in corpus._asdict().items():
        longest = sum(len(document.content) for document in documents)
        if longest < length:
            raise ValueError(
                f"Received data.length={length} for a corpus of {longest} bytes to "
                f"{name} on; give more text, or shorter sequences."
            )
        cut = [sequences(d.content, length) for d in documents if d.content]
        inputs, labels = (np.concatenate(arrays) for arrays in zip(*cut, strict=True))
        number = np.repeat(np.arange(len(cut)), [len(pair[0]) for pair in cut])
        parts[name] = inputs, labels, number.astype(np.int32)
    return Dataset(
        *parts["train"][:2],
        *parts["test"][:2],
        class_names=tuple(map(str, range(VOCABULARY))),
        mean=None,
        std=None,
        scale=1.0,
        train_documents=parts["train"][2],
    )


def fingerprint(corpus: Corpus) -> str:
    """SHA-256 of the names and contents of all documents, in hexadecimal."""
    total = hashlib.sha256()
    for part, documents in corpus._asdict().items():
        for name, content in documents:
            total.update(f"{part} {name} {len(content)}\0".encode() + content)
    return total.hexdigest()


# Each takes data.path and TFDS's data directory.
CORPORA: dict[str, Callable[[str, Any], Corpus]] = {
    "stdlib": lambda path, data_dir: standard_library(),
    "text": lambda path, data_dir: local(path),
    **{name: functools.partial(prepared, name) for name in tfds_source.TEXTS},
}


def load(name: str, *, length: int, path: str = "", data_dir: Any = None) -> Dataset:
    """The data set of this name.

    Args:
      name: one of CORPORA. length: bytes of a sequence. path: of "text".

    Raises: ValueError for an unknown name, "text" without a path, or a path without
      "text".
    """
    read = checks.choose("corpus", name, CORPORA)
    if (name == "text") != bool(path):
        raise ValueError(
            f"Received data.path={path!r} with data.name={name!r}; name='text' needs "
            "the path of a file or folder, and no other name takes one."
        )
    return as_dataset(read(path, data_dir), length)


def _read(paths: Sequence[Path], root: Path) -> list[Document]:
    """Files as documents, in the order of their names below `root`; no empty ones."""
    found = [Document(p.relative_to(root).as_posix(), p.read_bytes()) for p in paths]
    return sorted(document for document in found if document.content)


def _pieces(document: Document) -> list[Document]:
    """PIECES documents that follow one another."""
    content = document.content
    ends = [len(content) * i // PIECES for i in range(PIECES + 1)]
    return [
        Document(f"{document.name}/{i}", content[ends[i] : ends[i + 1]])
        for i in range(PIECES)
    ]
