"""What is imported is declared, and what is not installed is named with its extra."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from sam_jax import extras

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Hides the modules named from every import that follows.
HIDE = """
import importlib.abc, importlib.util, sys
HIDDEN = {hidden!r}
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in HIDDEN else find(name, *a)
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def without(modules, code, *arguments):
    """Runs code in a process in which these modules are not installed."""
    script = HIDE.format(hidden=set(modules)) + code
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def declared(extra=None):
    """The distributions that the project or one of its extras asks for, normalised."""
    lines = PROJECT["dependencies"]
    if extra is not None:
        lines = PROJECT["optional-dependencies"][extra]
    names = [re.match(r"[\w.-]+", line)[0] for line in lines]
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def imported():
    """Top-level modules that the library imports, with the files that do."""
    found = {}
    for path in (ROOT / "sam_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            for name in names:
                found.setdefault(name.split(".")[0], set()).add(path.name)
    return found


def test_every_import_is_declared_in_the_extra_that_brings_it():
    distributions = importlib.metadata.packages_distributions()
    extra_of = {m: extra for extra, modules in extras.EXTRAS.items() for m in modules}
    extra_of |= {"absl": "train"}
    for module, files in imported().items():
        if module in sys.stdlib_module_names or module == "sam_jax":
            continue
        if module == "scipy":  # a dependency of jax's own
            continue
        names = {re.sub(r"[-_.]+", "-", d).lower() for d in distributions[module]}
        assert names & declared(extra_of.get(module)), (module, files)


def test_every_module_of_an_extra_is_declared():
    distributions = importlib.metadata.packages_distributions()
    for extra, modules in extras.EXTRAS.items():
        for module in modules:
            names = {re.sub(r"[-_.]+", "-", d).lower() for d in distributions[module]}
            assert names & declared(extra), module


def test_the_transforms_need_no_extra():
    every = {module for modules in extras.EXTRAS.values() for module in modules}
    code = (
        "import sam_jax; sam_jax.sam(0.1);"
        "from sam_jax import attacks, losses, schedules, sharpness, toys"
    )
    result = without(every, code)
    assert result.returncode == 0, result.stderr


def closure(names):
    """These distributions and all that they need, without any extra."""
    found, left = set(), list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name not in found:
            found.add(name)
            needed = map(Requirement, importlib.metadata.requires(name) or ())
            left += [
                n.name
                for n in needed
                if not n.marker or n.marker.evaluate({"extra": ""})
            ]
    return found


def test_an_installation_without_extras_brings_little_beside_jax_and_optax():
    brought = closure(declared()) - closure({"jax", "optax"})
    assert "jaxtyping" in brought
    assert len(brought) <= 12, brought


@pytest.mark.parametrize(
    ("module", "code", "extra"),
    [
        ("diffrax", "from sam_jax import flows", "flows"),
        ("flax", "from sam_jax import models", "train"),
        ("orbax", "from sam_jax.training import loop", "train"),
        ("matplotlib", "import sam_jax.plotting", "train"),
    ],
)
def test_a_missing_module_is_named_with_the_command_that_brings_it(module, code, extra):
    result = without({module}, code)
    last = result.stderr.strip().splitlines()[-1]
    assert re.fullmatch(
        rf"ImportError: sam_jax\.\w+ needs {module}, not installed here: pip install "
        rf"'sam_jax\[{extra}\]', or '\.\[{extra}\]' in a clone\.",
        last,
    )


@pytest.mark.parametrize("command", ["train", "measure"])
def test_a_command_without_its_extra_ends_in_one_line(command):
    code = f"import runpy; runpy.run_module('sam_jax.{command}', run_name='__main__')"
    result = without(extras.EXTRAS["train"], code, "--workdir=x")
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "pip install 'sam_jax[train]'" in lines[0]
