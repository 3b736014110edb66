"""The page of all results."""

import base64
import html
import html.parser
import io
import json
import pathlib
import re
import shutil
import subprocess

import pytest
from PIL import Image

from experiments import __main__ as cli
from experiments.harness import claims, execution, parts, report


def test_report_has_every_claim_and_labels_the_scale(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path / "a")
    execution.execute("fake", "smoke", tmp_path / "b")
    execution.execute("fake", "paper", tmp_path / "c")
    markdown, page = (path.read_text() for path in report.write(tmp_path))
    for text in (markdown, page):  # the undecided measurement is one, three times
        assert (
            "Of 6 statements of the paper: 3 hold, 3 are contrary. "
            "Of 1 targets and comparisons that the paper "
            "has not: 1 is undecided. Not run: other."
        ) in text
        assert "smoke scale" in text.lower()
        for words in ("Andriushchenko and Flammarion", "arXiv:2206.06232"):
            assert words in text
        for words in ("A reference is an independent", "is a finding, not a failure"):
            assert words in text
        assert "A fake." in text
    assert "a/figure.png" in markdown
    assert "rho = 0.1 (full: 0.2)" in markdown
    assert markdown.count(report.FULL) == 1
    assert r"| a\|b | Fig. 0 | <= 1 | 3 | - | - | - | cpu | contrary |" in markdown
    assert r"| a\|b | Fig. 0 | <= 1 | 3 | - | - | - | full | contrary |" in markdown
    assert '<td data-label="expected">&lt;= 1</td>' in page
    for scale in ("smoke", "cpu", "full"):
        assert page.count(f'<td data-label="scale">{scale}</td>') == 3


def test_the_page_is_one_file_with_every_figure_labelled(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path / "a")
    (tmp_path / "benchmarks").mkdir()
    row = {"figure": "ours / theirs", "ratio": 0.5, "seconds": 2.0}
    found = {"machine": {"cores": 2}, "rows": [row]}
    (tmp_path / "benchmarks" / "sam.json").write_text(json.dumps(found))
    page = report.write(tmp_path)[1].read_text()
    parsed = Page()
    parsed.feed(page)
    for source in parsed.sources:  # nothing outside the file is asked for
        assert source.startswith("data:image/webp;base64,")
        data = base64.b64decode(source.partition(",")[2])
        assert Image.open(io.BytesIO(data)).format == "WEBP"
    assert len(parsed.sources) == parsed.alternatives == 1
    assert parsed.links <= parsed.ids
    assert {"fake", "other", "benchmarks", "found"} <= parsed.ids
    assert parsed.rows == ["holds", "contrary", "undecided"]
    assert "ours / theirs" in page
    assert ">0.50<" in page
    assert "http" not in page.replace("http://www.w3.org", "")


class Page(html.parser.HTMLParser):
    """What a page links to, loads, and says to a screen reader."""

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.sources, self.rows = set(), set(), [], []
        self.alternatives = 0

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if "id" in given:
            assert given["id"] not in self.ids
            self.ids.add(given["id"])
        if tag == "a":
            self.links.add(given["href"].removeprefix("#"))
        if tag in ("img", "script", "iframe") and "src" in given:
            self.sources.append(given["src"])
        if tag == "img":
            self.alternatives += bool(given["alt"])
        if "data-verdict" in given:
            self.rows.append(given["data-verdict"])


def test_the_parts_are_counted_from_the_claims():
    claim = {"kind": "paper", "measured": 1.5, "seeds": None, "command": "run"}
    bias = [
        {**claim, "claim": "sure", "verdict": "holds"},
        {**claim, "claim": "not", "verdict": "contrary"},
        {**claim, "claim": "ours", "verdict": "holds", "kind": "control"},
    ]
    seeded = {**claim, "claim": "many", "verdict": "holds", "seeds": 3}
    seeded["interval"] = [1.0, 2.0]
    old = {"claim": "old", "kind": "paper", "measured": 1, "verdict": "holds"}
    found = {"fig9": [old, seeded], "implicit_bias": bias, "new": [old], "facts": []}
    rows = parts.rows(found)
    assert [row.part.key for row in rows] == ["bias", "sparse", "other"]
    assert [w for _, w in rows[0].counted] == ["1 holds", "1 contrary"]
    assert rows[0].example == "sure: 1.5 (holds)"
    assert rows[1].example == "many: 1.5 [1 to 2], 3 seeds (holds)"
    counted = [words for _, words in rows[1].counted]
    assert counted == ["1 holds", "1 judged without intervals"]


def test_a_measurement_of_several_experiments_counts_once():
    claim = {"kind": "paper", "claim": "a", "verdict": "holds", "command": "run"}
    shown = [claim | {"interval": interval} for interval in ([1, 2], [1, 2], [1, 3])]
    unseeded = [claim | {"interval": None}] * 2
    shares = [claim | {"interval": [1, 2], "tolerance": claims.MOST}] * 2
    assert parts.verdicts(shown) == "2 hold"
    assert parts.verdicts(shown + unseeded) == "4 hold"
    assert parts.verdicts(shown + shares) == "4 hold"
    alike = [claim | {"interval": [1.0, 1.0]}] * 2
    assert parts.verdicts(shown + alike) == "4 hold"


def test_an_experiment_belongs_to_one_part():
    names = [name for part in parts.PARTS for name in part.experiments]
    assert len(names) == len(set(names))
    assert len({part.key for part in parts.PARTS}) == len(parts.PARTS) <= 11
    assert parts.of("fig9").key == "sparse"
    assert parts.of("none") is parts.OTHER


def test_the_table_of_a_page_is_drawn_anew_between_its_marks(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path / "results" / "a")
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    drawn = report.redrawn(page, tmp_path / "results")
    assert "\nold\n" not in drawn
    assert "](../results/index.md#fake)" in drawn
    assert "1 holds, 1 contrary" in drawn
    assert drawn.startswith("before\n")
    assert drawn.endswith("after\n")
    page.write_text(drawn)
    assert (
        cli.main(["report", f"--results={tmp_path}/results", "--pages", f"{page}"]) == 0
    )
    assert page.read_text() == drawn
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no place for results"):
        report.redrawn(page, tmp_path / "results")


# What the browser does to the page, and finds: no key of the report is in it.
SCRIPT = """<script>
window.onerror = (...e) => { document.title = "error " + e[0]; };
const shown = () => [...document.querySelectorAll("tr[data-verdict]")]
  .filter(r => r.offsetParent !== null).length;
const set = (name, on) => {
  const box = document.querySelector(name); box.checked = on;
  box.dispatchEvent(new Event("change", {bubbles: true})); };
addEventListener("load", () => {
  const counts = [shown()];
  set("[value=holds]", false); counts.push(shown());
  set("[value=holds]", true); set("#paper", true); counts.push(shown());
  const part = document.querySelector("#part");
  part.value = "sparse"; part.dispatchEvent(new Event("change", {bubbles: true}));
  counts.push(shown());
  document.querySelector("button[type=reset]").click();
  setTimeout(() => {
    counts.push(shown());
    const wide = document.documentElement.scrollWidth > innerWidth;
    document.title = JSON.stringify({counts, wide});
  }, 100);
});
</script>"""


@pytest.mark.heavy
@pytest.mark.parametrize("width", [390, 1200])
def test_the_committed_report_works_in_a_browser(tmp_path, width):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here; Debian's package has that name")
    page = (pathlib.Path(__file__).parents[3] / "results/index.html").read_text()
    rows = re.findall(r'data-verdict="([\w ]+)" data-kind="(\w+)"', page)
    path = tmp_path / "index.html"
    path.write_text(page.replace("</body>", f"{SCRIPT}</body>"))
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={tmp_path}/profile", f"--window-size={width},900"]
    command += ["--virtual-time-budget=5000", "--dump-dom", path.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search("<title>(.*?)</title>", found.stdout)[1]
    result = json.loads(html.unescape(title))
    own = sum(kind == "paper" for _, kind in rows)
    other = sum(verdict != "holds" for verdict, _ in rows)
    everything, without, paper, part, again = result["counts"]
    assert (everything, without, paper) == (len(rows), other, own)
    assert 0 < part < own
    assert again == everything
    assert not result["wide"]  # nothing to scroll sideways on a phone


def test_words_of_a_file_stay_words_on_both_pages(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path / "a")
    path = tmp_path / "a" / "claims.json"
    found = json.loads(path.read_text())
    found[0]["claim"] = "<script>alert(1)</script> [see](javascript:alert(1))\n# a<b"
    path.write_text(json.dumps(found))
    markdown, page = (path.read_text() for path in report.write(tmp_path))
    assert "<script" not in markdown + page.replace('<script>\n"use strict"', "")
    assert "](javascript" not in markdown
    assert "\n# a<b" not in markdown


def test_results_of_older_versions_are_counted_as_such(module, tmp_path):
    execution.execute("fake", "cpu", tmp_path / "a")
    path = tmp_path / "a" / "claims.json"
    old = {"claim": "old", "source": "Fig. 9", "paper": 1, "measured": 2}
    old |= {"tolerance": 1, "holds": False}
    path.write_text(json.dumps([old]))
    text = report.write(tmp_path)[0].read_text()
    assert "Of 1 statements of the paper: 1 is contrary. 1 of all were judged" in text


def test_report_without_results_says_how_to_get_some(tmp_path):
    with pytest.raises(ValueError, match="python -m experiments run NAME"):
        report.write(tmp_path)


def test_no_folder_is_not_the_one_at_hand(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "--results="]) == 2
    assert "empty --results" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_table_of_an_experiment_stands_before_its_claims():
    section = report.Section(
        "some", "Some title", "Fig. 1", "cpu", [], None, [], [["on", "a|b"], ["x", "1"]]
    )
    text = report.markdown([section])
    assert "| on | a|b |\n| --- | --- |\n| x | 1 |" in text
