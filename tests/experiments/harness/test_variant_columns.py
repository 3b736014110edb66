"""The columns of what was measured in the tables of variants."""

import json

import numpy as np
import pytest

from experiments.harness import equal_cost, report, variant_columns

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
    file = tmp_path / variant_columns.FAMILY
    file.parent.mkdir()
    file.write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_a_row_has_the_times_of_the_variants_in_its_first_cell(results):
    lines = variant_columns.fill(PAGE, results).splitlines()
    assert lines[4] == "| `sam` | 2 | 1.9 | `max_sum` |"
    assert lines[5] == "| `sam`, `max_sum(rho)` | 2 | 1.9 to 10.0 | a \\| b |"
    assert lines[6] == "| `periodic` | 1 | - |  |"


def test_everything_else_stays_as_it_is(results, tmp_path):
    page, drawn = PAGE.splitlines(), variant_columns.fill(PAGE, results).splitlines()
    assert page[:4] == drawn[:4]
    assert page[7:] == drawn[7:]
    (results / variant_columns.FAMILY).unlink()
    assert variant_columns.fill(PAGE, results) == PAGE


def test_the_report_fills_a_page_that_has_nothing_else(results):
    page = results / "page.md"
    page.write_text(PAGE)
    assert report.redrawn(page, results) == variant_columns.fill(PAGE, results)


def equal_time():
    """Of SAM, a variant that is better, one that is worse, and one as noisy as both."""
    arrays = {"kinds": np.array(["sam", "low", "high", "noisy"])}
    arrays["places"] = np.array(["noisy"])
    sam = np.array([0.2, 0.3, 0.25])
    less = {"erm": 0.1, "low": -0.1, "high": 0.1, "noisy": np.array([-0.1, 0.1, 0])}
    for kind, difference in {"sam": 0.0, **less}.items():
        key, error = f"noisy_{kind}", sam + difference
        arrays[f"{key}_epoch"] = np.array([1])
        arrays[f"{key}_seconds"] = np.array(2.0)
        arrays[f"{key}_validation"] = arrays[f"{key}_best"] = error[None]
        arrays[f"{key}_last"] = error[None] + 0.2
        arrays[f"{key}_validating"] = arrays[f"{key}_curve"] = error[None, :, None]
    return arrays


def test_a_variant_is_told_from_sam_by_the_interval_alone():
    assert equal_cost.in_equal_time(equal_time(), "noisy") == {
        "erm": "35 (55) worse",
        "sam": "25 (45)",
        "low": "15 (35) better",
        "high": "35 (55) worse",
        "noisy": "25 (45)",
    }


def test_on_text_a_variant_is_told_from_erm_at_the_end():
    arrays = {
        "gpt_" + name.removeprefix("noisy_"): array
        for name, array in equal_time().items()
        if name.startswith("noisy_")
    } | {"kinds": equal_time()["kinds"]}
    found = equal_cost.in_equal_time(arrays, "gpt")
    assert (found["erm"], found["sam"], found["high"]) == (
        "0.35",
        "0.25 better",
        "0.35",
    )


def test_costs_that_come_to_the_same_are_one_claim():
    arrays = equal_time()
    best, last = equal_cost.below(arrays, "noisy", "low", "sam")
    assert best.claim == (
        "60% label noise: low below sam at equal gradients, seconds and steps: "
        "test error, best epoch (%)"
    )
    assert last.claim.endswith(
        "low below sam at equal gradients: test error, last epoch (%)"
    )
    assert (best.measured, last.measured) == ("15 against 25", "35 against 45")
    # Other runs at equal steps: a claim of their own.
    arrays |= {
        f"noisy_low_steps_{name}": arrays[f"noisy_low_{name}"] + 0.01
        for name in ("validation", "best")
    }
    arrays["noisy_low_steps_rho"] = np.array([0.1])
    claims = [c.claim for c in equal_cost.below(arrays, "noisy", "low", "sam")]
    assert [c.split("equal ")[1].split(":")[0] for c in claims] == [
        "gradients and seconds",
        "steps",
        "gradients",
    ]


def test_a_column_has_the_errors_of_a_place_where_one_variant_is_named(tmp_path):
    (tmp_path / "equal_time").mkdir()
    np.savez(tmp_path / "equal_time" / "arrays.npz", **equal_time())
    page = tmp_path / "page.md"
    page.write_text(
        "| Variant | 60% label noise | Time | GPT |\n|---|---|---|---|\n"
        "| `low` | | 3 | 4 |\n| `low`, `high` | | 3 | 4 |\n| `new` | | | |\n"
    )
    assert report.redrawn(page, tmp_path).splitlines()[2:] == [
        "| `low` | 15 (35) better | 3 | 4 |",
        "| `low`, `high` | - | 3 | 4 |",
        "| `new` | - |  |  |",
    ]
