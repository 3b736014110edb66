"""One page of all results: every figure with its claims, measurements and verdicts."""

import itertools
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from experiments.harness import (
    claims,
    execution,
    paper_scale,
    parts,
    registry,
    statements,
    variant_columns,
)
from experiments.harness import page as html_page
from experiments.harness.claims import REPORTED
from experiments.harness.statistics import NEEDS_GPU
from sam_jax import output

TITLE = "Understanding Sharpness-Aware Minimization: every statement, measured"
PAPER = (
    "The paper is the ICLR 2022 submission 'Understanding Sharpness-Aware "
    "Minimization', published in another form as 'Towards Understanding "
    "Sharpness-Aware Minimization' (Andriushchenko and Flammarion, ICML 2022, "
    "arXiv:2206.06232). Its deep networks are trained on CIFAR with GPUs; those here "
    "on small images, on two cores or one GPU (settings.json says on which), "
    "unless a section says that it is at full scale: directions are to be compared, "
    "not numbers."
)
WORDS = (
    "A claim holds if its 95% interval over seeds lies on the side that the paper "
    "says, is contrary if it lies on the other side, and is undecided otherwise; "
    "without seeds it is a computation that comes out or not. A measurement that "
    "several experiments show counts once. A number that the paper "
    "prints of its own scale needs a GPU; its section has the command that decides "
    "it. Where a printed constant was found wrong, the statement is judged as printed "
    "and as corrected: that a printed one is contrary is a finding, not a failure. A "
    "reference is an independent computation of our own. Scale full has the paper's "
    "settings, cpu and fashion have smaller ones; a section says what differs."
)
SMOKE = "Smoke scale: shows that it runs; its numbers are no evidence."
FULL = "Full scale: the paper's settings where it gives them."
GPU = "What needs a GPU is decided by: {}."
BEFORE = "Judged without intervals, before 0.2.0: to be computed again."
OTHER = "Scale {}; what is not as at full scale: "


class Section(NamedTuple):
    """name, title, source: of the experiment. scale: "full" for the paper's settings,
    else its name. notes: on it, one sentence each. figure: path of the PNG from the
    report's folder, None if it was not run. claims: as claims.json has them. summary:
    the experiment's own table, the header first; empty without one.
    """

    name: str
    title: str
    source: str
    scale: str
    notes: list[str]
    figure: str | None
    claims: list[dict[str, Any]]
    summary: Sequence[Sequence[str]] = ()

    @property
    def rows(self) -> list[list[str]]:
        """The claims as text, in the columns of REPORTED."""
        return [
            [*row[:-1], "full" if row[-1] == NEEDS_GPU else self.scale, row[-1]]
            for row in claims.table(self.claims)
        ]


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
    opening = [PAPER, summary(found), WORDS]
    pages = {
        "index.md": markdown(found),
        "index.html": html_page.page(TITLE, opening, found, folder),
    }
    for name, text in pages.items():
        output.write_atomic(
            folder / name, lambda file, text=text: file.write(text.encode())
        )
    return [folder / name for name in pages]


def scale_of(record: dict[str, Any]) -> tuple[str, list[str]]:
    """The scale, and what a reader must know of it: what is not as in the paper."""
    name, scale = record["experiment"], record["scale"]
    paper = registry.settings(name, "paper")
    changed = execution.differences(record["settings"], paper)
    listed = ", ".join(f"{key} = {a} (full: {b})" for key, a, b in changed)
    notes = [OTHER.format(scale) + listed + "." if changed else FULL]
    return scale if changed else "full", [SMOKE] * (scale == "smoke") + notes


def markdown(sections: list[Section]) -> str:
    """The report in Markdown."""
    lines = [f"# {TITLE}", "", PAPER, "", summary(sections), "", WORDS, ""]
    lines += ["## What the paper says, and what was found", "", *parts_table(sections)]
    for s in sections:
        lines += [f"## {s.name}", "", s.title, ""]  # a title that links can name
        lines += [f"{s.source}. {' '.join(s.notes)}", ""]
        if s.figure:
            lines += [f"![{s.name}]({s.figure})", ""]
        for header, *rows in filter(None, (s.summary, [REPORTED, *s.rows])):
            if rows:
                cells = [[_markdown(cell) for cell in row] for row in rows]
                cells = [header, ["---"] * len(header), *cells]
                lines += [f"| {' | '.join(row)} |" for row in cells] + [""]
    return "\n".join(lines)


def parts_table(sections: list[Section], folder: str = "") -> list[str]:
    """A row of Markdown for every part of the paper, from the claims.

    Args:
      folder: of the report, from where the table is read; "" for a link within it.
    """
    header = ["part", "the paper", "its statements", "for example"]
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header))]
    for row in parts.rows({s.name: s.claims for s in sections}):
        verdicts = ", ".join(words for _, words in row.counted)
        title = f"[{row.part.title}]({folder}index.md#{row.names[0]})"
        cells = [row.part.says, verdicts or "none of its own", row.example]
        lines.append(f"| {title} | {' | '.join(map(_markdown, cells))} |")
    return [*lines, ""]


PARTS = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)


def redrawn(page: output.Path, results: output.Path) -> str:
    """The text of a page with what it has of results written anew.

    That is the table of parts between the marks `<!-- results -->` and `<!-- end of
    results -->`, and the columns that `statements` and `variant_columns` fill.

    Raises: ValueError for a page that has none of them.
    """
    page, results = pathlib.Path(page), pathlib.Path(results)
    text, sections = page.read_text(), list(_sections(results))
    columns = statements.EXPERIMENTS, *variant_columns.HEADERS
    if not PARTS.search(text) and not any(f"| {c} |" in text for c in columns):
        raise ValueError(
            f"{page} has no place for results: neither <!-- results --> and its end, "
            f"nor a table with a column {' or '.join(map(repr, columns))}."
        )
    seen_from = pathlib.Path(os.path.relpath(results, page.parent)).as_posix() + "/"
    table = "\n".join(parts_table(sections, seen_from))
    text = PARTS.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)
    return variant_columns.fill(statements.fill(text, sections, seen_from), results)


def summary(sections: list[Section]) -> str:
    """How many claims of each kind have which verdict, the paper's first, and which
    experiments have no results yet.
    """
    own = ([c for s in sections for c in s.claims if c["kind"] == k] for k in KINDS)
    counted = claims.count(itertools.chain.from_iterable(map(parts.once, own)))
    sentences = []
    for kind, verdicts in counted.items():
        total = sum(verdicts.values())
        listed = ", ".join(f"{n} {_words(v, n)}" for v, n in verdicts.items() if n)
        if total:
            sentences.append(f"{KINDS[kind].format(total)}: {listed}.")
    older = sum(parts.old(claim) for s in sections for claim in s.claims)
    if older:
        sentences.append(f"{older} of all were judged without intervals, before 0.2.0.")
    missing = [s.name for s in sections if s.figure is None]
    if missing:
        sentences.append(f"Not run: {', '.join(missing)}.")
    return " ".join(sentences)


KINDS = {
    "paper": "Of {} statements of the paper",
    "reference": "Of {} comparisons with runs of our own",
    "target": "Of {} targets and comparisons that the paper has not",
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
    """All results in a folder, by parts of the paper, then experiments without any.

    The numbers of the paper's scale are told once, where no results have decided them.
    """
    found = [
        (execution.read_record(path.parent), path)
        for path in folder.rglob(execution.SETTINGS)
    ]
    found.sort(key=lambda pair: (*parts.order(pair[0]["experiment"]), pair[1]))
    seen = {r["experiment"] for r, _ in found if r["scale"] == "paper"}
    for record, path in found:
        name = record["experiment"]
        waiting = [] if name in seen else paper_scale.waiting(name)
        seen.add(name)
        figure = os.path.relpath(path.parent / execution.FIGURE, folder)
        scale, notes = scale_of(record)
        own = claims.read(path.parent / execution.CLAIMS)
        yield _section(
            name,
            scale=scale,
            notes=[*notes, *[BEFORE] * any(map(parts.old, own))],
            figure=pathlib.PurePath(figure).as_posix(),
            claims=[*own, *waiting],
            summary=execution.summary(path.parent),
        )
    missing = sorted((n for n in registry.names() if n not in seen), key=parts.order)
    for name in missing if seen else ():
        notes = ["No results here."]
        waiting = paper_scale.waiting(name)
        yield _section(name, scale="not run", notes=notes, figure=None, claims=waiting)


def _section(
    name: str, *, notes: list[str], claims: list[dict[str, Any]], **found: Any
) -> Section:
    module = registry.load(name)
    if any(claim["verdict"] == NEEDS_GPU for claim in claims):
        notes = [*notes, GPU.format(registry.command(name, "paper"))]
    title = registry.title(module)
    return Section(name, title, module.SOURCE, notes=notes, claims=claims, **found)


def _markdown(cell: str) -> str:
    """Text that stays text in a table of Markdown, whatever file it comes from."""
    text = " ".join(cell.split()).replace("|", r"\|").replace("](", r"]\(")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
