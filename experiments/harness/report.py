"""One page of all results: every figure with its claims, measurements and verdicts."""

import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from experiments.harness import claims, execution, parts, registry
from experiments.harness import page as html_page
from experiments.harness.claims import HEADER
from sam_jax import output

TITLE = "Understanding Sharpness-Aware Minimization: every statement, measured"
PAPER = (
    "The paper is the ICLR 2022 submission 'Understanding Sharpness-Aware "
    "Minimization', published in another form as 'Towards Understanding "
    "Sharpness-Aware Minimization' (Andriushchenko and Flammarion, ICML 2022, "
    "arXiv:2206.06232). Its deep networks are trained on CIFAR with GPUs; those here "
    "on small images with two cores, unless a section says that it is at full scale: "
    "directions are to be compared, not numbers."
)
WORDS = (
    "A claim holds if its 95% interval over seeds lies on the side that the paper "
    "says, is contrary if it lies on the other side, and is undecided otherwise; "
    "without seeds it is a computation that comes out or not. Where a printed constant "
    "was found wrong, the statement is judged as printed and as corrected: that a "
    "printed one is contrary is a finding, not a failure. A reference is an "
    "independent computation of our own."
)
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
    lines = [f"# {TITLE}", "", PAPER, "", summary(sections), "", WORDS, ""]
    lines += ["## What the paper says, and what was found", "", *parts_table(sections)]
    for s in sections:
        lines += [f"## {s.name}: {s.title}", "", f"{s.source}. {' '.join(s.notes)}", ""]
        if s.figure:
            lines += [f"![{s.name}]({s.figure})", ""]
        if s.rows:
            rule = ["---"] * len(HEADER)
            cells = [[_markdown(cell) for cell in row] for row in s.rows]
            lines += [f"| {' | '.join(row)} |" for row in [HEADER, rule, *cells]] + [""]
    return "\n".join(lines)


def parts_table(sections: list[Section], folder: str = "") -> list[str]:
    """A row of Markdown for every part of the paper, from the claims.

    Args:
      folder: of the report, from where the table is read; "" for a link within it.
    """
    header = ["part", "the paper", "its statements", "for example"]
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header))]
    figures = {s.name: s.figure for s in sections}
    for row in parts.rows({s.name: s.claims for s in sections}):
        verdicts = ", ".join(words for _, words in row.counted)
        title = f"[{row.part.title}]({folder}{figures[row.names[0]]})"
        cells = [row.part.says, verdicts or "none of its own", row.example]
        lines.append(f"| {title} | {' | '.join(map(_markdown, cells))} |")
    return [*lines, ""]


README = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)


def readme(text: str, results: output.Path) -> str:
    """The README with its table of results drawn anew from a folder of them.

    Raises: ValueError for a text without the two marks around the table.
    """
    if not README.search(text):
        raise ValueError("Received a text without <!-- results --> and its end.")
    folder = pathlib.Path(results)
    table = "\n".join(parts_table(list(_sections(folder)), f"{folder.name}/"))
    return README.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)


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
    """All results in a folder, by parts of the paper, then experiments without any."""
    seen = set()
    found = [
        (execution.read_record(path.parent), path)
        for path in folder.rglob(execution.SETTINGS)
    ]
    found.sort(key=lambda pair: (*parts.order(pair[0]["experiment"]), pair[1]))
    for record, path in found:
        seen.add(record["experiment"])
        figure = os.path.relpath(path.parent / execution.FIGURE, folder)
        yield _section(
            record["experiment"],
            notes=scale_notes(record),
            figure=pathlib.PurePath(figure).as_posix(),
            claims=claims.read(path.parent / execution.CLAIMS),
        )
    missing = sorted((n for n in registry.names() if n not in seen), key=parts.order)
    for name in missing if seen else ():
        yield _section(name, notes=["No results here."], figure=None, claims=[])


def _section(name: str, **found: Any) -> Section:
    module = registry.load(name)
    return Section(name, registry.title(module), module.SOURCE, **found)


def _markdown(cell: str) -> str:
    """Text that stays text in a table of Markdown, whatever file it comes from."""
    text = " ".join(cell.split()).replace("|", r"\|").replace("](", r"]\(")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
