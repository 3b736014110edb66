"""Every page's snippets run, every link leads somewhere, every public name is there."""

import doctest
import importlib
import inspect
import pathlib
import re
import sys
import types

import jax
import pytest
import yaml

import sam_jax
from sam_jax.transforms import VARIANTS

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent == DOCS)
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Directives of the reference; a package stands for all that its __all__ lists.
DIRECTIVES = re.findall(
    r"^::: (\S+)$",
    "\n".join(path.read_text() for path in sorted((DOCS / "api").glob("*.md"))),
    re.MULTILINE,
)


def names(module):
    """The public names of a module or package."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]


def is_module(name):
    """Whether a directive stands for a module, not for one function."""
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def own_directive(module, name, value):
    """What a name needs that reading the package's source does not show; None for
    nothing: a factory that is made of its gradient, or a function that is called as its
    module.
    """
    if "__signature__" in getattr(value, "__dict__", {}):
        return f"{value.__module__}.{name}_gradient"
    if is_module(f"{module.__name__}.{name}"):
        return f"{value.__module__}.{name}"
    return None


@pytest.mark.program
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if SNIPPET.search(page.read_text())],
    ids=lambda page: page.stem,
)
def test_the_snippets_of_a_page_run_one_after_the_other(page):
    scope = {"__name__": f"page_{page.stem}"}
    module = types.ModuleType(scope["__name__"])
    module.__dict__.update(scope)
    sys.modules[module.__name__] = module  # dataclasses look there
    try:
        with jax.enable_x64(False):  # as a reader starts them
            for block in SNIPPET.findall(page.read_text()):
                exec(compile(block, str(page), "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]


def test_every_public_name_has_a_docstring_and_a_place_in_the_reference():
    assert len(set(DIRECTIVES)) == len(DIRECTIVES)
    modules = {d: importlib.import_module(d) for d in DIRECTIVES if is_module(d)}
    for name in sam_jax._SUBPACKAGES:
        inside = [d for d in modules if d.startswith(f"sam_jax.{name}")]
        assert inside, f"docs/api has no ::: sam_jax.{name}"
    count = 0
    for directive, module in modules.items():
        for name in names(module):
            value = getattr(module, name)
            assert own_directive(module, name, value) in (None, *DIRECTIVES), name
            if callable(value) and not isinstance(value, types.GenericAlias):
                count += 1
                assert inspect.getdoc(value), f"{directive}.{name} says nothing"
    assert count > 150


def test_the_modules_of_a_package_without_all_are_each_there():
    for package in ("toys", "theory"):
        for path in (ROOT / "sam_jax" / package).glob("[!_]*.py"):
            wanted = f"sam_jax.{package}.{path.stem}"
            assert wanted in DIRECTIVES, wanted


def test_links_between_pages_and_to_files_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(((?!http)[^)]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), (page.name, target)
            if anchor:
                titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                slugs = {re.sub(r"[^\w]+", "-", t.lower()).strip("-") for t in titles}
                assert anchor in slugs, (page.name, target)


@pytest.mark.parametrize(
    "text",
    [
        (ROOT / "README.md").read_text(),
        (DOCS / "sharp-edges.md").read_text(),
        sam_jax.sam.__doc__,
    ],
    ids=["README", "sharp-edges", "sam"],
)
def test_the_order_of_a_chain_is_in_bold_where_it_is_taught(text):
    bold = re.findall(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", text, re.DOTALL)
    assert any(re.search(r"optimiser\b.* belongs\s+behind", b, re.S) for b in bold)
    assert "MultiSteps" in text


def test_every_page_is_in_the_menu():
    class Loader(yaml.SafeLoader):
        """Knows the tags of mkdocs.yml."""

    Loader.add_constructor("!ENV", lambda loader, node: "")
    menu = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]
    listed = set(re.findall(r"[\w/-]+\.md", str(menu)))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert listed == pages


def test_the_table_of_variants_is_that_of_the_code():
    text = (DOCS / "variants.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)` \| .*? \| (\d) \| (?:[^|]* \| ){4}(.*?) \|", text, re.MULTILINE
    )
    written = {n: (int(g), k.replace("\\", "")) for n, g, k in rows}
    assert written == {n: (v.gradients, v.keeps or "-") for n, v in VARIANTS.items()}
    for name, variant in VARIANTS.items():
        (row,) = [
            line for line in text.splitlines() if line.startswith(f"| `{name}` |")
        ]
        assert {f"`{option}`" for option in variant.options} <= set(
            re.findall(r"`\w+`", row)
        )


EXAMPLES = [
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in sorted((ROOT / "sam_jax").rglob("*.py"))
    if ">>>" in path.read_text()
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_docstrings(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_there_are_examples_in_docstrings():
    assert len(EXAMPLES) >= 5
