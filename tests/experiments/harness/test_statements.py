"""The verdicts that docs/paper.md has for every numbered statement."""

import pathlib
import re

import pytest

from experiments.harness import claims, parts, registry, report, statements

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs" / "paper.md"


@pytest.mark.parametrize(
    ("source", "places"),
    [
        ("Fig. 13a, by symmetry", "Fig 13"),
        ("Fig. 3a, App. B.3", "App B.3, Fig 3"),
        ("Prop. 2, 12, 18 under (A3), corrected", "Prop 12, Prop 18, Prop 2"),
        ("Eq. 2 against 5", "Eq 2"),
        ("Sec. 1: m = 1 is inefficient", "Sec 1"),
        ("App. D, AutoAttack", "App D"),
        ("Facts I-III, App. B.3", "App B.3, Fact I, Fact II, Fact III"),
        (
            "Propositions 2, 9-11 and Lemma 8, App. B",
            "App B, Lemma 8, Prop 10, Prop 11, Prop 2, Prop 9",
        ),
        ("Table 1, one factor at a time", "Table 1"),
        ("target (Singh et al. 2025)", ""),
    ],
)
def test_the_places_that_a_source_names(source, places):
    found = sorted(" ".join(place) for place in statements.places(source))
    assert ", ".join(found) == places


def section(name, source, scale, *found):
    rows = [
        {"source": where, "verdict": verdict, "command": "run"}
        | {"kind": claims.kind_of(where)}
        for where, verdict in found
    ]
    return report.Section(name, "A title.", source, scale, [], None, rows)


def test_rows_count_what_names_them_and_nothing_else():
    hold, contrary = "holds", "contrary"
    sections = [
        section(
            "bounds",
            "Proposition 2",
            "full",
            ("Prop. 2 and 12, corrected", hold),
            ("Prop. 2", hold),
            ("Prop. 2, printed", contrary),
            ("Prop. 20", contrary),
            ("reference run", contrary),
        ),
        section("drawn", "Figure 5", "cpu", ("reference run", hold)),
        section("late", "Proposition 12", "not run"),
    ]
    sections[1].claims.append({"source": "Fig. 7", "kind": "paper", "verdict": hold})
    text = """# Page

| A | B |
|---|---|
| Prop. 2 | stays |

| What | Code | Verdicts | Experiments, scale |
|---|---|---|---|
| Prop. 2 | a\\|b | old | old |
| Prop. 12 | c | | |
| Fig. 5 | d | | |
| Fig. 7 | e | | |
| Eq. 1 | f | | |

Prop. 2 | and words."""
    drawn = statements.fill(text, sections, "../r/")
    bounds, late, drawn_link = (
        f"[{name}](../r/index.md#{name})" for name in ("bounds", "late", "drawn")
    )
    assert drawn.splitlines()[8:] == [
        f"| Prop. 2 | a\\|b | 2 hold; as printed: 1 contrary | {bounds} full |",
        f"| Prop. 12 | c | 1 holds | {bounds} full, {late} not run |",
        f"| Fig. 5 | d | none of its own; of our checks 1 holds | {drawn_link} cpu |",
        f"| Fig. 7 | e | 1 judged without intervals | {drawn_link} cpu |",
        "| Eq. 1 | f | - | - |",
        "",
        "Prop. 2 | and words.",
    ]
    assert drawn.splitlines()[:8] == text.splitlines()[:8]
    assert statements.fill(drawn, sections, "../r/") == drawn
    with pytest.raises(ValueError, match="'SAM'; begin with"):
        statements.fill(text.replace("| Eq. 1", "| SAM"), sections, "")


def first_cells():
    lines = PAGE.read_text().splitlines()
    return [line.split("|")[1] for line in lines if line.startswith("|")]


NUMBERED = {
    "Eq": range(1, 22),
    "Prop": (1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 15, 18),
    "Lemma": (7, 8, 13, 14, 16, 17),
    "Fact": ("I", "II", "III"),
    "Fig": range(1, 14),
    "Table": (1, 2),
}


def test_every_numbered_statement_of_the_paper_has_one_row():
    named = [place for cell in first_cells() for place in statements.places(cell)]
    assert len(named) == len(set(named))
    expected = {(kind, str(n)) for kind, listed in NUMBERED.items() for n in listed}
    assert {p for p in named if p[0] not in ("Sec", "App")} == expected


@pytest.mark.program
def test_every_experiment_and_claim_on_the_paper_is_in_a_row():
    listed = statements.places("; ".join(first_cells()))
    listed |= {("App", "B")}  # of lemmas and propositions
    sources = [registry.load(name).SOURCE for name in registry.names()]
    for path in (ROOT / "results").rglob("claims.json"):
        found = claims.read(path)
        sources += [c["source"] for c in found if c["kind"] == "paper"]
    for source in sources:
        assert statements.places(source) <= listed, source


def test_every_experiment_contrary_to_the_paper_is_explained():
    _, _, rest = PAGE.read_text().partition("## What is contrary, and why")
    items = re.findall(r"^- (.*?): ", rest.partition("\n## ")[0], re.M | re.S)
    explained = set(re.findall(r"index\.md#(\w+)", " ".join(items)))
    contrary = {
        path.parent.name
        for path in (ROOT / "results").glob("*/claims.json")
        for claim in claims.read(path)
        if (claim["kind"], claim["verdict"]) == ("paper", "contrary")
        and not parts.old(claim)
    }
    assert contrary == explained
