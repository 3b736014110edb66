import io
import re
import sys

import pytest

from sam_jax.training import progress
from sam_jax.training.progress import Progress

MEASURED = {"loss": 1.25, "error": 0.5}
EVALUATED = {"validation_error": 0.25, "test_error": 0.125}


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


def work(told):
    with told:
        for _ in range(4):
            told.step(MEASURED)
        told.evaluation(1, EVALUATED)
        told.step(MEASURED)


def progress_of(**changes):
    given = {"steps": 10, "done": 5, "label": "SAM", "epoch_steps": 4}
    return Progress(**{**given, **changes})


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    work(progress_of())
    last = terminal.getvalue().split("\r")[-1]
    parts = ["SAM: 100%", "10/10", "batch loss=1.250", "batch error=50.0 %"]
    for text in (*parts, "test error=12.5 %", "left=0 s"):
        assert text in last


def test_lines_elsewhere_name_the_set_of_every_error(capsys):
    work(progress_of())
    received = capsys.readouterr().err.splitlines()
    assert received[0] == "SAM: 10 steps; 5 of them done before; compiling the first"
    assert received[1].startswith(
        "SAM: epoch 1  batch loss 1.250  batch error 50.0 %  validation error 25.0 %  "
        "test error 12.5 %  "
    )
    assert received[2].startswith("SAM: step 10 of 10  ")
    assert len(received) == 3


def test_the_time_left_counts_no_compilation(capsys):
    # A first step of 30 s compiles; the others take 0.5 s; a second program compiles at
    # step 8 for 20 s. An epoch ends with a pause of 3 s, the first one with 10 s.
    clock = Clock()
    told = progress_of(steps=100, done=0, epoch_steps=10, clock=clock)
    for step in range(20):
        clock.now += {0: 30.0, 7: 20.0}.get(step, 0.5)
        told.step(MEASURED)
        if step in (9, 19):
            clock.now += 10.0 if step == 9 else 3.0
            told.evaluation((step + 1) // 10, EVALUATED)
    lines = capsys.readouterr().err.splitlines()
    assert "step 5 of 100  2.0 steps/s  48 s left" in lines[1]  # 95 * 0.5
    assert "epoch 1" in lines[2]
    assert lines[2].endswith("2.0 steps/s  45 s left")  # 90 * 0.5
    assert lines[3].endswith("2.0 steps/s  64 s left")  # 80 * 0.5 + 8 * 3


def test_a_long_epoch_is_told_once_a_minute(capsys):
    clock = Clock()
    told = progress_of(steps=1000, done=0, epoch_steps=1000, clock=clock)
    for _ in range(50):
        clock.now += 7.0
        told.step(MEASURED)
    steps = [int(n) for n in re.findall(r"step (\d+) of", capsys.readouterr().err)]
    assert steps == [5, 14, 23, 32, 41, 50]  # every 63 s


def test_nothing_if_silent(capsys):
    work(progress_of(silent=True))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (7200, "2.0 h")]
)
def test_durations(seconds, text):
    assert progress.duration(seconds) == text
