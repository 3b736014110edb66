import json

import pytest

from sam_jax.training import writer
from sam_jax.training.configuration import ConfigError
from sam_jax.training.errors import TrainingError
from sam_jax.training.writer import Writer


def record(epoch):
    return {"epoch": epoch, "step": 10 * epoch, "test_error": 1 / epoch}


def write(workdir, start, epochs):
    with Writer(workdir, start, active=True) as records:
        for epoch in epochs:
            records.write(record(epoch))
        return list(records.history)


def test_records_are_on_the_disk_as_soon_as_written(tmp_path):
    with Writer(tmp_path, 0, active=True) as records:
        records.write(record(1))
        assert writer.read_records(tmp_path / "metrics.jsonl") == [record(1)]


def test_a_resumed_run_has_each_record_once(tmp_path):
    write(tmp_path, 0, [1, 2, 3])
    history = write(tmp_path, 1, [2, 3, 4])  # killed at 3, checkpoint of 1
    assert history == [record(e) for e in (1, 2, 3, 4)]
    assert writer.read_records(tmp_path / "metrics.jsonl") == history


def test_a_line_torn_by_a_kill_is_cut_off(tmp_path):
    write(tmp_path, 0, [1, 2])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "st')
    assert write(tmp_path, 2, [3]) == [record(e) for e in (1, 2, 3)]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [record(e) for e in (1, 2, 3)]


@pytest.mark.parametrize(
    ("there", "words"),
    [([1], "1"), ([1, 3], "1, 3"), ([1, 2, 2, 3], "1-2, 2-3"), ([], "none")],
)
def test_records_are_those_of_every_epoch_once(tmp_path, there, words):
    lines = "".join(json.dumps(record(epoch)) + "\n" for epoch in there)
    (tmp_path / "metrics.jsonl").write_text(lines)
    message = f"records of epochs {words}, where the checkpoint has seen epochs 1 to 3"
    with pytest.raises(TrainingError, match=message):
        Writer(tmp_path, 3, active=True)
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_a_last_record_that_is_lost_comes_from_the_checkpoint(tmp_path):
    write(tmp_path, 0, [1, 2])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text(lines[0] + "\n")
    with Writer(tmp_path, 2, active=True, last=record(2)) as records:
        records.write(record(3))
    received = writer.read_records(tmp_path / "metrics.jsonl")
    assert received == [record(e) for e in (1, 2, 3)]


@pytest.mark.parametrize("text", ["{}", "5", "null", '{"epoch": "1"}'])
def test_a_line_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "metrics.jsonl").write_text(text + "\n")
    with pytest.raises(TrainingError, match=r"jsonl has the line .* no record"):
        Writer(tmp_path, 1, active=True)


def test_a_silent_writer_keeps_the_history_alone(tmp_path):
    with Writer(tmp_path, 0, active=False) as records:
        records.write(record(1))
        assert records.history == [record(1)]
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_not_finite_is_refused(tmp_path):
    with (
        Writer(tmp_path, 0, active=True) as records,
        pytest.raises(ValueError, match="test_error = nan; it must be finite"),
    ):
        records.write({"epoch": 1, "step": 1, "test_error": float("nan")})


def test_events_are_there_for_tensorboard(tmp_path):
    write(tmp_path, 0, [1])
    assert [p for p in tmp_path.iterdir() if "tfevents" in p.name]


def test_a_work_directory_belongs_to_one_config(tmp_path):
    workdir = tmp_path / "a" / "b"
    config = {"seed": 0, "devices": 0, "sam": {"rho": 0.1}}
    writer.claim(workdir, config)
    writer.claim(workdir, {**config, "devices": 4})
    with pytest.raises(ConfigError, match=r"another config \(sam\.rho: 0\.1 -> 0\.2\)"):
        writer.claim(workdir, {**config, "sam": {"rho": 0.2}})


def test_a_broken_config_json_is_an_error_with_its_place(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is no JSON"):
        writer.claim(tmp_path, {})
