"""Robust overfitting beside the overfitting of noisy labels, with ERM and with SAM.

The same small network: on the left with 60% of the training labels replaced at random,
on the right on attacked images with true labels.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from experiments.harness import adversarial, comparison, comparison_plots, pairs
from experiments.harness.claims import Arrays, Claim
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed
from sam_jax import plotting

SOURCE = "Section 5"
SHARED = adversarial.SHARED
NOISY = {"noisy_at": "clean", "noisy_sam": "sam"}
LABELS = {
    "noisy_at": "ERM",
    "noisy_sam": "SAM",
    "at": "adversarial training",
    "sam": "adversarial training + SAM",
}
NOISE = {"attack.kind": "none", "attack.eval_steps": 0, "data.noise.fraction": 0.6}
FIGURES = {
    "validation": "validation_error_best",
    "best": "test_error_best",
    "last": "test_error_last",
}


@dataclasses.dataclass(frozen=True)
class Settings(adversarial.Settings):
    """noisy_rho: SAM's grid on noisy labels; None for that on attacked images."""

    noisy_rho: tuple[float, ...] | None = None


SCALES = adversarial.scales(Settings(recipe="long"))
# On noisy labels validation had chosen .3, the end of the grid on attacked images; then
# 1 was tried.
SCALES["fashion"] = dataclasses.replace(
    SCALES["fashion"], noisy_rho=comparison.FASHION_RHO
)


def methods(
    settings: Settings,
) -> tuple[list[comparison.Method], list[comparison.Method]]:
    """ERM and SAM on noisy labels, and both on attacked images."""
    own = dataclasses.replace(settings, rho=settings.noisy_rho or settings.rho)
    noisy = [
        comparison.Method(key, LABELS[key], changed(m.config, NOISE), m.rho)
        for key, name in NOISY.items()
        for m in adversarial.methods(own, [name])
    ]
    return noisy, adversarial.methods(settings, ("at", "sam"))


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every method, rho and seed."""
    noisy, attacked = methods(settings)
    own = comparison.plan(noisy, settings.seeds, settings.tuning)
    return own | adversarial.plan(attacked, settings)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Test errors on noisy labels and robust errors over epochs."""
    noisy, _ = methods(settings)
    on_noise = {key: run for key, run in trained.items() if key[0] in NOISY}
    attacked = {key: run for key, run in trained.items() if key[0] not in NOISY}
    return {
        **comparison.collect(noisy, settings.seeds, on_noise, figures=FIGURES),
        **adversarial.collect(settings, ("at", "sam"), attacked),
    }


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Overfitting, and SAM against it, under noise and under attacks."""
    for erm, sam, what in (
        ("noisy_at", "noisy_sam", "noisy labels: test error"),
        ("at", "sam", "attacks: robust test error"),
    ):
        rise = comparison.rises(arrays, erm)
        text = f"{what} of ERM rises after its best epoch (points)"
        yield Claim.mean(text, "Sec. 5", "> 0", rise, low=0)
        text = f"{what} of SAM below ERM's, last"
        yield pairs.lower(text, "Sec. 5", None, arrays, sam, erm, "last")


def plot(arrays: Arrays) -> plotting.Figure:
    """Error over epochs: noisy labels on the left, attacks on the right."""
    figure, (left, right) = plotting.panels(1, 2)
    noisy = {key: LABELS[key] for key in NOISY}
    comparison_plots.draw_curves(left, arrays, noisy, title="60% label noise")
    attacked = {key: LABELS[key] for key in ("at", "sam")}
    title, ylabel = "adversarial training", "robust test error (%)"
    comparison_plots.draw_curves(right, arrays, attacked, title=title, ylabel=ylabel)
    comparison_plots.zoom(right, arrays, attacked, arrays["epoch"][-1] / 2)
    return figure
