"""When that two forms of SAM come to the same error says anything."""

import numpy as np
import pytest

from experiments import fig10

SEEDS = np.linspace(0, 0.001, 4)


def judged(noise, **errors):
    """Verdicts by claim, with mean errors of ERM and both forms at both epochs."""
    arrays = {}
    for title in fig10.TITLES:
        for kind in fig10.LABELS:
            own = errors[kind] if title == noise else 0.1
            key, radii = f"{title}_{kind}", [0.1] if kind == "erm" else [0.1, 0.3]
            arrays[f"{key}_rho"] = np.array(radii)
            values = np.tile(own + SEEDS, (len(radii), 1))
            for name in ("validation", "best", "last"):
                arrays[f"{key}_{name}"] = values
    claims = fig10.judge(fig10.SCALES["fashion"], arrays)
    title = fig10.TITLES[noise]
    own = {
        c.claim.removeprefix(title).strip(",: "): c.verdict
        for c in claims
        if c.claim.startswith(title)
    }
    assert len(own) == 5
    return own


@pytest.mark.parametrize(
    ("erm", "unnormalized", "verdict"),
    [
        (0.150, 0.142, "holds"),  # of a gain of 1 point they differ by .2
        (0.144, 0.142, "undecided"),  # all are within half a point
        (0.138, 0.142, "undecided"),  # none is better than ERM
        (0.160, 0.150, "contrary"),
    ],
)
def test_forms_are_alike_only_within_less_than_what_they_gain(
    erm, unnormalized, verdict
):
    found = judged("clean", erm=erm, sam=0.140, unnormalized=unnormalized)
    for at in ("best", "last"):
        claim = f"unnormalised less normalised SAM, {at} epoch (points)"
        assert found[claim] == verdict
    # both grids begin with the same radius
    assert found["rho chosen, unnormalised over normalised"] == "contrary"


def test_without_noise_it_is_the_network_that_sam_helps():
    planned = fig10.runs(fig10.SCALES["fashion"])
    own = {
        noise: [k for k in planned if k[0].startswith(noise)] for noise in fig10.RECIPES
    }
    networks = {
        noise: {planned[key].config.model.name for key in keys}
        for noise, keys in own.items()
    }
    assert networks == {"clean": {"preact_resnet18"}, "noisy": {"conv_net"}}
    seeds = {noise: {key[2] for key in keys} for noise, keys in own.items()}
    assert {noise: len(found) for noise, found in seeds.items()} == {
        "clean": 10,
        "noisy": 20,
    }
    sam = [k for k in own["clean"] if k[0] == "clean_sam" and planned[k].trial is None]
    assert {key[2] for key in sam} == {30, 31}  # the two that choose


def test_at_other_scales_both_parts_have_the_same_runs():
    planned = fig10.runs(fig10.SCALES["cpu"])
    clean, noisy = (
        {(k[0].removeprefix(n), *k[1:]) for k in planned if k[0].startswith(n)}
        for n in fig10.RECIPES
    )
    assert clean == noisy
