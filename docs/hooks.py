"""mkdocs: figures and report of results/ become files of the site, and links to other
files of the repository lead to its address, which pyproject.toml alone knows.
"""

import pathlib
import posixpath
import re
import tomllib

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FIGURES = "results"
REPORTS = {"results/index.md": "results/index.html"}  # for forges, and for browsers
OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")


def on_files(files, config):
    """Adds every figure of results/, and the report."""
    figures = sorted((ROOT / FIGURES).rglob("*.png"))
    for path in [*figures, *(ROOT / report for report in REPORTS.values())]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites links that lead out of docs/."""
    del config, files
    up = posixpath.dirname(page.file.src_uri)

    def rewrite(found):
        target = found[1]
        if not (ROOT / target).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {target}")
        target = REPORTS.get(target, target)
        if target.startswith(f"{FIGURES}/") and target.endswith((".png", ".html")):
            return f"]({posixpath.relpath(target, up or '.')}"
        return f"]({PROJECT['urls']['Repository']}/blob/main/{target}"

    return OUTSIDE.sub(rewrite, markdown)
