"""One page of all results: every figure with its claims, measurements and verdicts."""

import html
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.harness import claims, execution, registry, statistics
from experiments.harness.claims import HEADER
from sam_jax import output

TITLE = "Results"
SMOKE = "Smoke scale: shows that it runs; its numbers are no evidence."
FULL = "Full scale: the paper's settings where it gives them."
OTHER = "Settings other than at full scale: "


class Section(NamedTuple):
    """name, title, source: of the experiment. notes: on its scale, one sentence each.
    figure: path of the PNG from the report's folder, None if it was not run.
    claims: as claims.json has them.
    """

    name: str
    title: str
    source: str
    notes: list[str]
    figure: str | None
    claims: list[dict[str, Any]]

    @property
    def rows(self) -> list[list[str]]:
        """The claims as text, in the columns of HEADER."""
        return claims.table(self.claims)


def write(folder: output.Path) -> list[pathlib.Path]:
    """Writes index.md and index.html over all results in a folder; returns the paths.

    Raises: ValueError if the folder holds no results.
    """
    folder = pathlib.Path(folder)
    found = list(_sections(folder))
    if not found:
        raise ValueError(
            f"{folder} holds no results of experiments; run one first: python -m "
            f"experiments run NAME --out={folder}/NAME."
        )
    pages = {"index.md": markdown(found), "index.html": page(found)}
    for name, text in pages.items():
        output.write_atomic(
            folder / name, lambda file, text=text: file.write(text.encode())
        )
    return [folder / name for name in pages]


def scale_notes(record: dict[str, Any]) -> list[str]:
    """What a reader must know of the scale: where it departs from the paper's."""
    name, scale = record["experiment"], record["scale"]
    paper = registry.settings(name, "paper")
    changed = execution.differences(record["settings"], paper)
    listed = ", ".join(f"{key} = {a} (full: {b})" for key, a, b in changed)
    notes = [OTHER + listed + "." if changed else FULL]
    return [SMOKE, *notes] if scale == "smoke" else notes


def markdown(sections: list[Section]) -> str:
    """The report in Markdown."""
    lines = [f"# {TITLE}", "", summary(sections), ""]
    for s in sections:
        lines += [f"## {s.name}: {s.title}", "", f"{s.source}. {' '.join(s.notes)}", ""]
        if s.figure:
            lines += [f"![{s.name}]({s.figure})", ""]
        if s.rows:
            rule = ["---"] * len(HEADER)
            cells = [[_markdown(cell) for cell in row] for row in s.rows]
            lines += [f"| {' | '.join(row)} |" for row in [HEADER, rule, *cells]] + [""]
    return "\n".join(lines)


def page(sections: list[Section]) -> str:
    """The report as one HTML page, its figures beside it."""
    body = [f"<h1>{TITLE}</h1>", f"<p>{html.escape(summary(sections))}</p>"]
    for s in sections:
        body.append(f"<h2>{html.escape(s.name)}: {html.escape(s.title)}</h2>")
        body.append(f"<p>{html.escape(s.source)}. {html.escape(' '.join(s.notes))}</p>")
        if s.figure:
            body.append(f'<img src="{html.escape(s.figure)}" alt="{s.name}">')
        if s.rows:
            rows = [_row(HEADER, "th"), *(_row(row, "td") for row in s.rows)]
            body.append("<table>" + "\n".join(rows) + "</table>")
    return PAGE.format(title=TITLE, body="\n".join(body))


def summary(sections: list[Section]) -> str:
    """How many claims of each kind have which verdict, the paper's first, and which
    experiments have no results yet.
    """
    counted = claims.count(claim for s in sections for claim in s.claims)
    sentences = []
    for kind, verdicts in counted.items():
        total = sum(verdicts.values())
        listed = ", ".join(f"{n} {_words(v, n)}" for v, n in verdicts.items() if n)
        if total:
            sentences.append(f"{KINDS[kind].format(total)}: {listed}.")
    older = sum("command" not in claim for s in sections for claim in s.claims)
    if older:
        sentences.append(f"{older} of all were judged without intervals, before 0.2.0.")
    missing = [s.name for s in sections if s.figure is None]
    if missing:
        sentences.append(f"Not run: {', '.join(missing)}.")
    return " ".join(sentences)


KINDS = {
    "paper": "Of {} statements of the paper",
    "reference": "Of {} comparisons with runs of our own",
    "target": "Of {} targets",
    "control": "Of {} controls",
}


def _words(verdict: str, number: int) -> str:
    plural = {"holds": "hold", "contrary": "are contrary", "undecided": "are undecided"}
    if number == 1:
        plural = {
            "holds": "holds",
            "contrary": "is contrary",
            "undecided": "is undecided",
        }
    return plural.get(verdict, "need a GPU" if number > 1 else "needs a GPU")


def _sections(folder: pathlib.Path) -> Iterator[Section]:
    """All results in a folder, sorted by name, then the experiments without any."""
    seen = set()
    for path in sorted(folder.rglob(execution.SETTINGS)):
        record = execution.read_record(path.parent)
        seen.add(record["experiment"])
        found = claims.read(path.parent / execution.CLAIMS)
        figure = os.path.relpath(path.parent / execution.FIGURE, folder)
        yield _section(
            record["experiment"],
            notes=scale_notes(record),
            figure=pathlib.PurePath(figure).as_posix(),
            claims=found,
        )
    missing = [name for name in registry.names() if name not in seen]
    for name in missing if seen else ():
        yield _section(name, notes=["No results here."], figure=None, claims=[])


def _section(name: str, **found: Any) -> Section:
    module = registry.load(name)
    return Section(name, registry.title(module), module.SOURCE, **found)


def _markdown(cell: str) -> str:
    """Text that stays text in a table of Markdown, whatever file it comes from."""
    text = " ".join(cell.split()).replace("|", r"\|").replace("](", r"]\(")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _row(cells: list[str], tag: str) -> str:
    verdict = ' class="no"' if cells[-1] == statistics.CONTRARY else ""
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr{verdict}>{inside}</tr>"


PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto }}
img {{ max-width: 100% }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #ccc; padding: .2rem .6rem; text-align: left }}
.no td:last-child {{ color: #b00; font-weight: bold }}
</style></head><body>
{body}
</body></html>
"""
