import io
import sys

from sam_jax.training.progress import Progress

MEASURED = {"loss": 1.25, "error": 0.5}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def work(progress):
    with progress:
        for _ in range(4):
            progress.step(MEASURED)
        progress.evaluation(1, {"validation_error": 0.25, "test_error": 0.125})
        progress.step(MEASURED)


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    work(Progress(steps=10, done=5, label="SAM"))
    last = terminal.getvalue().split("\r")[-1]
    for text in ("SAM: 100%", "10/10", "loss=1.250", "error=50.0 %", "test=12.5 %"):
        assert text in last


def test_a_line_an_evaluation_elsewhere(capsys):
    work(Progress(steps=10, done=5, label="SAM"))
    received = capsys.readouterr()
    assert received.err.startswith(
        "SAM: epoch 1  loss 1.250  error 50.0 %  validation 25.0 %  test 12.5 %  "
    )
    assert received.err.count("\n") == 1


def test_nothing_if_silent(capsys):
    work(Progress(steps=10, done=5, label="SAM", silent=True))
    assert capsys.readouterr() == ("", "")
