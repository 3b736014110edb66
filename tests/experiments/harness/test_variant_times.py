"""The column of measured times in the tables of variants."""

import json

import pytest

from experiments.harness import report, variant_times

PAGE = """before

| Variant | Gradients | Time | When |
|---|---|---|---|
| `sam` | 2 | old | `max_sum` |
| `sam`, `max_sum(rho)` | 2 | - | a \\| b |
| `periodic` | 1 | 5 | |

| Other | Times |
|---|---|
| `sam` | 5 |
"""


@pytest.fixture
def results(tmp_path):
    ratios = {"sam": 1.944, "max_sum": 10.0, "sam_direction": 2.25, "erm": 1.0}
    rows = [
        {"figure": f"{name} / ERM step, conv net", "ratio": ratio}
        for name, ratio in ratios.items()
    ]
    file = tmp_path / variant_times.FAMILY
    file.parent.mkdir()
    file.write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_a_row_has_the_times_of_the_variants_in_its_first_cell(results):
    lines = variant_times.fill(PAGE, results).splitlines()
    assert lines[4] == "| `sam` | 2 | 1.9 | `max_sum` |"
    assert lines[5] == "| `sam`, `max_sum(rho)` | 2 | 1.9 to 10.0 | a \\| b |"
    assert lines[6] == "| `periodic` | 1 | - |  |"


def test_everything_else_stays_as_it_is(results, tmp_path):
    page, drawn = PAGE.splitlines(), variant_times.fill(PAGE, results).splitlines()
    assert page[:4] == drawn[:4]
    assert page[7:] == drawn[7:]
    (results / variant_times.FAMILY).unlink()
    assert variant_times.fill(PAGE, results) == PAGE


def test_the_report_fills_a_page_that_has_nothing_else(results):
    page = results / "page.md"
    page.write_text(PAGE)
    assert report.redrawn(page, results) == variant_times.fill(PAGE, results)
