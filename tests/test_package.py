"""What is shipped, and what the files around the code say of it."""

import ast
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml

import sam_jax
from sam_jax.training import recipes

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECIPES = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_needs_nothing_but_the_package(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            known = {"sam_jax", "ml_collections", *sys.stdlib_module_names}
            assert name.split(".")[0] in known, name


def test_a_recipe_is_found_where_it_is_or_in_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packaged = tmp_path / "sam_jax" / "recipes"
    shutil.copytree(ROOT / "configs", packaged)
    monkeypatch.setattr(recipes, "FOLDERS", (packaged, tmp_path / "none"))
    for name in ("digits.py", "configs/digits.py"):
        assert recipes.find(name) == packaged / "digits.py"
    (tmp_path / "digits.py").write_text("")
    assert recipes.find("digits.py") == pathlib.Path("digits.py")
    assert recipes.names() == [f"configs/{p.name}" for p in RECIPES[1:]]
    for name in ("none.py", "elsewhere/digits.py", "configs", "configs/__pycache__"):
        with pytest.raises(ValueError, match=r"of your own or one of configs/cifar10"):
            recipes.find(name)


def test_versions_and_addresses_agree():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == PROJECT["version"] == sam_jax.__version__
    assert cited["repository-code"] == PROJECT["urls"]["Repository"]
    assert cited["license"] == PROJECT["license"]
    assert f"## {sam_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_address_in_the_notebooks_is_that_of_the_project():
    """Colab has no project to read it from, before it is installed."""
    owner, name = PROJECT["urls"]["Repository"].split("/")[-2:]
    paths = sorted((ROOT / "notebooks").glob("*.*"))
    assert len(paths) >= 12
    for path in paths:
        found = re.findall(r"github(?:\.com)?/([\w.-]+/[\w-]+)", path.read_text())
        assert len(found) >= 2, path.name  # the badge, and what is installed
        assert set(found) == {f"{owner}/{name}"}, path.name


def test_hosted_ci_runs_ours_and_the_oldest_jax():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    commands = [s["run"] for job in jobs.values() for s in job["steps"] if "run" in s]
    assert "bash .ci/run" in commands
    oldest = next(d for d in PROJECT["dependencies"] if d.startswith("jax>"))
    tested = [row["jax"] for row in jobs["jax"]["strategy"]["matrix"]["include"]]
    assert tested == [oldest.removeprefix("jax>="), ""]
    targets(commands)


def test_the_commands_of_a_contributor_are_targets():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(targets([text.split("## The map")[0]])) == 5
    rooms = set(re.findall(r"`sam_jax/(\w+)`", text))
    assert rooms <= {path.stem for path in (ROOT / "sam_jax").iterdir()}


def targets(texts):
    """The targets of make that texts name, each of which is there."""
    makefile = (ROOT / "Makefile").read_text()
    found = {t for text in texts for t in re.findall(r"\bmake ([a-z-]+)", text)}
    for target in found - {"reproduce"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    return found - {"reproduce"}


@pytest.mark.heavy
def test_the_wheel_is_small_typed_and_has_the_recipes(tmp_path):
    command = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 1e6
    names = zipfile.ZipFile(wheel).namelist()
    for file in ("py.typed", *(f"recipes/{p.name}" for p in RECIPES)):
        assert f"sam_jax/{file}" in names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {
        "sam_jax"
    }
