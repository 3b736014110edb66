"""The command line: `python -m experiments`."""

import re

import pytest

from experiments import __main__ as cli


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


def test_list_names_source_and_title(capsys):
    assert cli.main(["list"]) == 0
    assert "Figure 6" in capsys.readouterr().out


def test_run_and_report_from_the_command_line(capsys, tmp_path):
    assert cli.main(["run", "fig6", "--scale=smoke", f"--out={tmp_path}/fig6"]) == 0
    assert "holds" in capsys.readouterr().out
    assert cli.main(["report", f"--results={tmp_path}"]) == 0
    assert (tmp_path / "index.html").exists()
