import sys

import pytest

from experiments import sweep
from sam_jax.training import startup
from tests.training.problems import tiny


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.setattr(startup, "use_compilation_cache", lambda: None)
    recipes = type("Recipes", (), {"get_config": lambda names: tiny(sam__kind="sam")})
    monkeypatch.setitem(sys.modules, "configs.tiny", recipes)


def test_hazard_14_a_rho_sweep_is_one_command(recipe, tmp_path, capsys):
    arguments = [
        "--recipe=tiny",
        "--values=0.0,2.0",
        "--seeds=0,1",
        f"--out={tmp_path}",
    ]
    sweep.main(arguments)
    header, _, zero, two = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "sam.rho"
    assert "validation, best" in header
    assert zero.split()[0] == "0.0"
    assert zero.count("+-") == two.count("+-") == 3
    assert zero.split()[1:] != two.split()[1:]
    assert len(list(tmp_path.glob("sam.rho=*/seed=*/summary.json"))) == 4


def test_an_impossible_value_ends_in_one_line(recipe, tmp_path):
    with pytest.raises(SystemExit, match=r"Received sam\.rho=-1\.0; it must be"):
        sweep.main(["--recipe=tiny", "--values=-1.0", f"--out={tmp_path}"])


def test_the_deviation_is_that_of_a_sample():
    assert sweep.spread([0.1, 0.2]) == "15.0 % +- 7.1"
    assert sweep.spread([0.1]) == "10.0 %"
