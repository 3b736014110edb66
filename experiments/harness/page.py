"""The report as one HTML file: figures inside, filters, for any screen and reader."""

import base64
import html
import io
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from experiments.benchmarks import rows as benchmark_rows
from experiments.harness import claims, parts
from experiments.harness.statistics import VERDICTS

if TYPE_CHECKING:
    from experiments.harness.report import Section

TEMPLATE = pathlib.Path(__file__).with_name("report.html")
QUALITY = 85  # of figures; the PNG beside the page is the original
BENCHMARKS = "benchmarks"


def page(
    title: str, opening: Sequence[str], sections: Sequence["Section"], folder: Any
) -> str:
    """The page.

    Args:
      opening: paragraphs in front of everything.
      sections: in order.
      folder: of the results, in which figures and benchmarks are.
    """
    folder = pathlib.Path(folder)
    shown = parts.shown(s.name for s in sections)
    bodies = [_section(section, folder) for section in sections]
    bodies.append(_benchmarks(folder))
    links = [(s.name, f"{s.source}: {s.title}") for s in sections]
    links.append((BENCHMARKS, "Benchmarks"))
    options = [("", "all"), *((part.key, part.title) for part in shown)]
    return TEMPLATE.read_text().format(
        title=html.escape(title),
        opening="\n".join(f"<p>{html.escape(text)}</p>" for text in opening),
        parts=_parts(sections),
        contents="\n".join(
            f'<li><a href="#{html.escape(key)}">{html.escape(text)}</a></li>'
            for key, text in links
        ),
        options="".join(
            f'<option value="{key}">{html.escape(text)}</option>'
            for key, text in options
        ),
        boxes="\n".join(
            f'<label class="verdict {_class(verdict)}"><input type="checkbox" '
            f'name="verdict" value="{verdict}" checked> {verdict}</label>'
            for verdict in VERDICTS
        ),
        sections="\n".join(bodies),
    )


def _class(verdict: str) -> str:
    """The class of a verdict: its first word."""
    return verdict.split()[0]


def _table(name: str, caption: str, header: Sequence[str], body: Iterable[str]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in header)
    return (
        f'<div class="wide"><table class="{name}"><caption>{html.escape(caption)}'
        f"</caption><thead><tr>{heads}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def _cell(label: str, text: str, names: str = "") -> str:
    kind = f' class="{names}"' if names else ""
    return f'<td data-label="{html.escape(label)}"{kind}>{text}</td>'


def _parts(sections: Sequence["Section"]) -> str:
    """A row for every part: what the paper says, verdicts, and a telling claim."""
    header = ["part", "the paper", "verdicts on its statements", "for example"]
    body = []
    for row in parts.rows({s.name: s.claims for s in sections}):
        links = ", ".join(
            f'<a href="#{html.escape(n)}">{html.escape(n)}</a>' for n in row.names
        )
        verdicts = ", ".join(
            f'<span class="verdict {_class(verdict)}">{words}</span>'
            for verdict, words in row.counted
        )
        cells = [
            _cell("the paper", html.escape(row.part.says)),
            _cell("verdicts", verdicts or "none yet"),
            _cell("for example", html.escape(row.example)),
        ]
        head = f'<th scope="row">{html.escape(row.part.title)}<br>{links}</th>'
        body.append(f"<tr>{head}{''.join(cells)}</tr>")
    return _table("parts", "Counted from the claims below.", header, body)


def _section(section: "Section", folder: pathlib.Path) -> str:
    name = html.escape(section.name)
    part = parts.of(section.name)
    notes = [f'<p class="soft">{html.escape(note)}</p>' for note in section.notes]
    out = [
        f'<section data-part="{part.key}" aria-labelledby="{name}">',
        f'<h2 id="{name}">{html.escape(section.title)}</h2>',
        f"<p>{html.escape(section.source)}, <code>{name}</code>.</p>",
    ]
    if section.figure:
        figure = picture(folder / section.figure)
        about = f"{section.source}: {section.title}"
        out.append(
            f'<figure><img loading="lazy" alt="{html.escape(about)}" src="{figure}">'
            f"<figcaption>{html.escape(about)}</figcaption></figure>"
        )
    if section.summary:
        header, *rows = section.summary
        body = [
            "<tr>" + "".join(map(_cell, header, map(html.escape, row))) + "</tr>"
            for row in rows
        ]
        out.append(_table("summary", section.title, header, body))
    if section.claims:
        caption = f"Claims of {section.source}"
        pairs = zip(section.claims, section.rows, strict=True)
        body = [_claim(claim, row) for claim, row in pairs]
        out.append(_table("claims", caption, claims.REPORTED, body))
    commands = dict.fromkeys(c["command"] for c in section.claims if c.get("command"))
    out += [f"<p>Command: <code>{html.escape(c)}</code></p>" for c in commands]
    return "\n".join([*out, *notes, "</section>"])


def _claim(claim: Mapping[str, Any], row: Sequence[str]) -> str:
    verdict = claim["verdict"]
    first, *others = zip(claims.REPORTED, row, strict=True)
    cells = [
        _cell(label, html.escape(text), "verdict" * (label == "verdict"))
        for label, text in others
    ]
    return (
        f'<tr class="{_class(verdict)}" data-verdict="{verdict}" '
        f'data-kind="{claim["kind"]}"><th scope="row">{html.escape(first[1])}</th>'
        f"{''.join(cells)}</tr>"
    )


def _benchmarks(folder: pathlib.Path) -> str:
    """Every file of benchmarks, with the machine that it is of."""
    out = [
        '<section data-part="benchmarks" aria-labelledby="benchmarks">',
        '<h2 id="benchmarks">Benchmarks</h2>',
        "<p>Ratios of calls that alternate in one process: below 1, the first call "
        "takes less. Medians; memory is temporary. Command: <code>make bench</code>.",
        "</p>",
    ]
    for path in sorted((folder / BENCHMARKS).glob("*.json")):
        found = json.loads(path.read_text())
        columns = benchmark_rows.COLUMNS
        body = []
        for row in found["rows"]:
            cells = [
                _cell(title, html.escape(benchmark_rows.cell(row, name)))
                for name, title in columns.items()
            ]
            figure = html.escape(row["figure"])
            body.append(f'<tr><th scope="row">{figure}</th>{"".join(cells)}</tr>')
        machine = ", ".join(
            f"{key} {value}" for key, value in found["machine"].items() if value
        )
        out.append(f"<h3>{html.escape(path.stem)}</h3>")
        out.append(_table("benchmarks", machine, ["what", *columns.values()], body))
    return "\n".join([*out, "</section>"])


def picture(path: pathlib.Path) -> str:
    """A PNG as a data URI, several times smaller."""
    with Image.open(path) as image:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "WEBP", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
