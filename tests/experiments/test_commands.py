"""The command line: `python -m experiments`."""

import re

import pytest

from experiments import __main__ as cli
from experiments.harness import report, telling


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "fig99"], "Unknown experiment 'fig99'; known: .*fig4"),
        (["run", "harness"], "Unknown experiment 'harness'"),
        (["run", "__main__"], "Unknown experiment '__main__'"),
        (["run", "fig6", "--scale=huge"], "'huge'; known: smoke, cpu, paper"),
        (["report", "--results=/nonexistent"], "holds no results"),
    ],
)
def test_wrong_arguments_end_in_one_line_and_status_2(capsys, arguments, message):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_the_help_of_every_command_explains_every_option(capsys):
    (commands,) = cli.parser()._subparsers._group_actions
    assert {"list", "run", "sweep", "report", "check"} <= commands.choices.keys()
    for name, command in commands.choices.items():
        unexplained = [a.dest for a in command._actions if not a.help]
        assert not unexplained, name
    with pytest.raises(SystemExit, match="0"):
        cli.main(["sweep", "--help"])
    said = capsys.readouterr().out
    assert "python -m experiments sweep --config=configs/digits.py:sam" in said
    assert re.search(r"--out DIR +folder for the runs, sweep.json", said)


def test_run_list_and_report_from_the_command_line(capsys, tmp_path):
    assert cli.main(["run", "fig6", "--scale=smoke", f"--out={tmp_path}/fig6"]) == 0
    said = capsys.readouterr()
    assert "holds" in said.out
    assert said.out.splitlines()[0] == report.SMOKE
    assert said.err == f"fig6 at scale smoke, into {tmp_path}/fig6\n"
    begun = tmp_path / "table2" / "runs" / "ce" / "0.1"
    for seed, files in enumerate([["config.json", "summary.json"], ["config.json"]]):
        for file in files:
            (begun / str(seed)).mkdir(parents=True, exist_ok=True)
            (begun / str(seed) / file).write_text("{}")
    assert cli.main(["list", f"--results={tmp_path}"]) == 0
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert re.search("Figure 6 .* one computation +done at smoke$", rows["fig6"])
    assert re.search(
        r"\d+ runs +resumable: 1 of 2 runs begun are finished$", rows["table2"]
    )
    assert re.search(r"Figure 9 .* one computation +-$", rows["fig9"])
    assert cli.main(["report", f"--results={tmp_path}"]) == 0
    assert (tmp_path / "index.html").exists()


def test_a_long_computation_says_how_far_it_is(capsys, monkeypatch):
    now = iter([0.0, 0.0, 10.0, 20.0])
    monkeypatch.setattr(telling.time, "monotonic", lambda: next(now))
    assert list(telling.each(["ERM", "SAM", "SGD"], "Figure 9")) == [
        "ERM",
        "SAM",
        "SGD",
    ]
    assert capsys.readouterr().err.splitlines() == [
        "Figure 9: ERM, 1 of 3",
        "Figure 9: SAM, 2 of 3; about 20 s left",
        "Figure 9: SGD, 3 of 3; about 10 s left",
    ]
