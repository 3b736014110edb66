"""Imports go one way: a module imports only from layers below its own."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LAYERS = [
    {"checks", "extras", "output"},
    {"ops"},
    {"core"},
    {"transforms", "losses", "metrics", "schedules"},
    {"models", "data"},
    {"toys"},
    {"flows", "theory", "attacks", "sharpness"},
    {"plotting"},
    {"training"},
    {"analysis"},
    {"usage"},
    {"train", "measure"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OUTSIDE = {"configs", "experiments", "examples", "tests", "notebooks"}
CORE = [
    "trees",
    "objective",
    "ascent",
    "devices",
    "groups",
    "randomness",
    "passes",
    "gradient",
    "implicit",
]
# Heavy libraries, and insides of jax, that one module alone may import.
SOLE_USERS = {
    "matplotlib": "sam_jax.plotting",
    "jax.extend": "sam_jax.ops.compat",
    "jax.interpreters": "sam_jax.ops.compat",
}


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(p for p in parts if p != "__init__"), path


def imports(path):
    """Full names of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


LIBRARY = dict(modules("sam_jax"))


@pytest.mark.parametrize("module", sorted(LIBRARY))
def test_no_upward_import(module):
    parts = module.split(".")
    if len(parts) == 1:
        return  # the package itself shows what is below it
    assert parts[1] in RANK, f"{module} is in no layer: add it to LAYERS"
    for name in imports(LIBRARY[module]):
        head, *rest = name.split(".")
        assert head not in OUTSIDE, name
        if head != "sam_jax":
            continue
        assert rest, f"{module} imports the whole package"
        assert rest[0] == parts[1] or RANK[rest[0]] < RANK[parts[1]], (
            f"{module} imports {name}: upward or sideways"
        )
        if parts[1] == rest[0] == "core" and len(parts) > 2 and len(rest) > 1:
            assert CORE.index(rest[1]) <= CORE.index(parts[2]), name


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_needs_the_public_names_alone(example):
    """Nothing of sam_jax but `import sam_jax`, so that it can be copied."""
    own = {name for name in imports(example) if name.split(".")[0] in OUTSIDE}
    inside = {name for name in imports(example) if name.startswith("sam_jax.")}
    assert not own | inside


@pytest.mark.parametrize("library", SOLE_USERS)
def test_heavy_libraries_have_one_door(library):
    users = {
        module
        for package in ("sam_jax", "configs", "experiments")
        for module, path in modules(package)
        if any(f"{name}.".startswith(f"{library}.") for name in imports(path))
    }
    assert users == {SOLE_USERS[library]}


def test_every_module_that_declares_shapes_is_checked_against_them(pytestconfig):
    *packages, _ = pytestconfig.getoption("--jaxtyping-packages").split(",")
    declaring = [
        module
        for module, path in LIBRARY.items()
        if any(name.startswith("jaxtyping.") for name in imports(path))
    ]
    assert len(declaring) > 40
    for module in declaring:
        assert any(f"{module}.".startswith(f"{p}.") for p in packages), module
