"""Configurations that version 0.1.0 has written: the next key must not break them.

The files of `saved` are never to be made anew: they stand for all runs of that time.
"""

import json
import pathlib
import shutil

import pytest

from sam_jax.training import configuration, key_types, keys, writer

SAVED = pathlib.Path(__file__).with_name("saved")
# What `sam.kind` and `sam.perturbation` of that time are today.
EXPECTED = {
    "adversarial": ("sam", True),
    "asam": ("asam", True),
    "digits_sam": ("sam", True),
    "gce": ("sam", True),
    "random": ("random_perturbation", True),
    "unnormalized": ("sam", False),
}
every = pytest.mark.parametrize("name", EXPECTED)


def read(name):
    return configuration.read(SAVED / f"{name}.json")


@pytest.fixture
def one_more_key(monkeypatch):
    """The library of a time to come, with a key that no file has."""
    row = key_types.number(0.25, "[0, 1]", "what nobody has thought of yet")
    row = key_types.since("9.9.9", row)
    monkeypatch.setitem(keys.KEYS, "sam.novel", row)


def test_the_files_are_there():
    assert {path.stem for path in SAVED.glob("*.json")} == set(EXPECTED)


@every
def test_a_saved_configuration_means_what_it_meant(name):
    stored = configuration.flatten(json.loads((SAVED / f"{name}.json").read_text()))
    checked = configuration.check(read(name))
    assert (checked.sam.kind, checked.sam.normalize) == EXPECTED[name]
    received = configuration.flatten(configuration.plain(checked))
    gone = {"sam.perturbation", "sam.kind", "sam.normalize"}
    assert {k: v for k, v in stored.items() if k not in gone} == {
        k: received[k] for k in stored if k not in gone
    }


@every
def test_a_new_key_has_its_default_in_saved_configurations(name, one_more_key):
    assert configuration.check(read(name)).sam.novel == 0.25


@every
def test_a_saved_run_goes_on_when_there_is_a_new_key(name, one_more_key, tmp_path):
    shutil.copy(SAVED / f"{name}.json", tmp_path / "config.json")
    config = read(name)
    writer.claim(tmp_path, configuration.plain(configuration.check(config)))
    shutil.copy(SAVED / f"{name}.json", tmp_path / "config.json")
    config.sam.novel = 0.5
    with pytest.raises(
        configuration.ConfigError, match=r"\(sam\.novel: 0\.25 -> 0\.5\)"
    ):
        writer.claim(tmp_path, configuration.plain(configuration.check(config)))


def test_keys_that_version_0_1_0_did_not_have_say_since_when_they_are_there():
    stored = json.loads((SAVED / "digits_sam.json").read_text())
    known = {*configuration.flatten(stored), "sam.normalize"}  # for sam.perturbation
    assert {name for name, key in keys.KEYS.items() if not key.since} == (
        known - {"sam.perturbation"}
    )


def test_what_no_variant_does_any_more_is_named(tmp_path):
    stored = json.loads((SAVED / "asam.json").read_text())
    stored["sam"]["kind"] = "gsam"
    path = tmp_path / "config.json"
    path.write_text(json.dumps(stored))
    with pytest.raises(configuration.ConfigError, match=r"'adaptive' with .*'gsam'"):
        configuration.read(path)


@pytest.mark.parametrize("text", ["[]", "null", "3", "{", "\x80"])
def test_a_file_that_holds_no_configuration_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(configuration.ConfigError, match=r"config\.json.* is no "):
        configuration.read(path)
