import dataclasses

import pytest

from experiments import table1_factors
from experiments.harness import dry_run
from experiments.harness.runs import TrainedRun

SETTINGS = table1_factors.SCALES["fashion"]
# Last test errors by rho and shares of the wrong labels that are learned by heart.
ERRORS = {
    "erm": [0.4],
    "sam": [0.2, 0.3, 0.4, 0.5, 0.5],
    "sam_direction": [0.25, 0.3, 0.4, 0.5, 0.5],
    "sam_derivative": [0.35, 0.3, 0.4, 0.5, 0.5],
}
LEARNED = {"erm": 0.5, "sam": 0.1, "sam_direction": 0.1, "sam_derivative": 0.3}
TABLE_1 = "last epoch: SAM derivative below SAM direction"


def judged(tmp_path, factor="base", *, learned=None, **errors):
    """Verdicts of one factor by claim; best epochs would choose another rho."""
    shares = LEARNED | (learned or {})
    found, others = {}, 9 if factor == "classes" else 1
    settings = dataclasses.replace(SETTINGS, factors=(factor,))
    methods = {m.key: m for m in table1_factors.methods(settings)}
    for key in table1_factors.runs(settings):
        name, rho, seed = key
        kind = name.removeprefix(f"{factor}_")
        place = list(methods[name].values).index(rho)
        last = ({**ERRORS, **errors})[kind][place] + 1e-3 * (seed - 24)
        summary = {
            "validation_error_best": 0.6 - last,
            "validation_error_last": 0.2 + last,
            "test_error_best": 0.15,
            "test_error_last": last,
            "train_noisy_error_last": 1 - last / others - shares[kind],
        }
        found[key] = TrainedRun(tmp_path, summary, [{"epoch": 1, "test_error": last}])
    arrays = table1_factors.run(settings, found)
    claims = table1_factors.judge(settings, arrays)
    title = table1_factors.TITLES[factor]
    return {c.claim.removeprefix(title).strip(",: "): c for c in claims}


def verdicts(*args, **options):
    return {claim: c.verdict for claim, c in judged(*args, **options).items()}


@pytest.mark.parametrize("factor", SETTINGS.factors)
def test_the_order_and_what_is_learned_under_every_factor(tmp_path, factor):
    found = verdicts(tmp_path, factor)
    contrary = {claim for claim, verdict in found.items() if verdict != "holds"}
    expected = {f"{TABLE_1} (%)"}
    if factor == "many":
        expected.add("wrong labels that ERM has learned by heart (%)")
    assert contrary == expected
    assert len(found) == (5 if factor == "many" else 8)


@pytest.mark.parametrize("factor", ["base", "classes"])
def test_labels_given_by_mistake_are_not_learned_by_heart(tmp_path, factor):
    found = judged(tmp_path, factor)["wrong labels that ERM has learned by heart (%)"]
    assert found.measured == pytest.approx(100 * LEARNED["erm"])


def test_rho_is_chosen_by_the_last_epochs(tmp_path):
    claim = judged(tmp_path)[f"{TABLE_1} (%)"]
    assert (
        claim.rho
        == "base_sam_derivative 0.3, base_sam_direction 0.01 (edge of its grid)"
    )
    assert claim.measured.startswith("30.")


@pytest.mark.parametrize(
    ("changes", "contrary"),
    [
        ({"sam": [0.45] * 5}, "last epoch: SAM below ERM"),
        ({"sam_direction": [0.45] * 5}, "last epoch: SAM direction below ERM"),
        ({"sam_derivative": [0.45] * 5}, "last epoch: SAM derivative below ERM"),
        ({"learned": {"erm": 0.01}}, "wrong labels that ERM has learned"),
        ({"learned": {"sam_direction": 0.6}}, "by heart, SAM direction below ERM"),
        ({"learned": {"sam_derivative": 0.6}}, "by heart, SAM derivative below ERM"),
        ({"learned": {"sam_direction": 0.4}}, "SAM direction below SAM derivative"),
    ],
)
def test_each_claim_can_fail(tmp_path, changes, contrary):
    found = verdicts(tmp_path, **changes)
    failed = {claim for claim, verdict in found.items() if verdict == "contrary"}
    assert any(contrary in claim for claim in failed)


def test_the_order_of_table_1_can_hold(tmp_path):
    found = verdicts(tmp_path, sam_derivative=[0.22] * 5)
    assert found[f"{TABLE_1} (%)"] == "holds"


def test_the_first_seeds_choose_by_the_last_epoch_too():
    trials = [plan.trial for plan in table1_factors.runs(SETTINGS).values()]
    assert {t.figure for t in trials if t} == {"validation_error_last"}


def test_each_ascent_has_radii_of_its_own():
    grids = {m.key: list(m.values) for m in table1_factors.methods(SETTINGS)}
    rho = list(SETTINGS.rho)
    assert grids["base_sam"] == grids["base_sam_direction"] == rho
    tens = [pytest.approx(10 * r) for r in rho]
    assert grids["base_sam_derivative"] == grids["unnormalized_sam"] == tens
    assert grids["unnormalized_sam_derivative"] == [pytest.approx(100 * r) for r in rho]


def test_steps_and_images_of_each_factor():
    planned = {
        key[0]: plan
        for key, plan in table1_factors.runs(SETTINGS).items()
        if key[0].endswith("_erm")
    }
    steps = {
        key.removesuffix("_erm"): dry_run.steps(plan) for key, plan in planned.items()
    }
    assert steps.pop("short") == 200
    assert steps.pop("many") == pytest.approx(600, rel=0.05)
    assert set(steps.values()) == {600}
