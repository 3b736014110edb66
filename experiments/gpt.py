"""A small GPT on real text: SAM and its variants against AdamW at equal cost.

Next bytes of Python's standard library, m counting sequences. SAM, its direction alone
and SumMax over the same radii, chosen by validation, and the others at one of them. An
ERM run of twice the steps has the gradients of a SAM run. Measured at the end: bits per
byte of held-out files, how far the loss rises along one ascent step, the largest
eigenvalue of the Hessian, and bits per byte again after the weights are rounded to 4
bits.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from configs import gpt
from experiments.harness import comparison, step_times
from experiments.harness.claims import Arrays, Claim
from experiments.harness.comparison import Method
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed
from sam_jax import plotting, sharpness
from sam_jax.analysis import networks, restore, rounding
from sam_jax.data import text

SOURCE = "Language models (Singh et al. 2025)"
SINGH = "target (Singh et al. 2025)"
LATE = "target (Zhou et al. 2025)"
RHO = 0.1  # of the methods without a grid
LABELS = {
    "erm": "AdamW",
    "sam": "SAM",
    "sam_direction": "SAM direction",
    "sum_max": "SumMax, m = 1",
    "late": "SAM in the last tenth",
    "periodic": "SAM every 5th step",
}
MUON = {"muon_erm": "Muon", "muon_sam": "Muon, SAM"}
DOUBLE = "erm_double"
ALL = {**LABELS, **MUON, DOUBLE: "AdamW, twice the steps"}
# Gradients of a step, in those of ERM; late and periodic on average.
GRADIENTS = {"late": 1.1, "periodic": 1.2, "erm": 1, "muon_erm": 1, DOUBLE: 1}
FIGURES = {
    "validation": "validation_bits_per_byte_last",
    "train": "train_bits_per_byte_last",
    "test": "test_bits_per_byte_last",
}
CURVES = {"curve": "test_bits_per_byte"}
MEASURES = ("rise", "eigenvalue", "rounded")


@dataclasses.dataclass(frozen=True)
class Settings(comparison.Settings):
    """bits: of rounded weights. ascent: radius of the measured rise. examples: that
    rise and eigenvalue are measured on. lanczos: products for the eigenvalue.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rho: tuple[float, ...] = (0.003, 0.01, 0.03, RHO)
    bits: int = 4
    ascent: float = 0.1
    examples: int = 256
    lanczos: int = 12


CPU = {
    "data.length": 32,
    "data.train_examples": 1536,
    "model.width": 32,
    "eval.examples": 192,
}
SCALES = {
    "smoke": Settings(seeds=(0,), rho=(RHO,), recipe="smoke", examples=16, lanczos=3),
    "cpu": Settings(changes=CPU),
    "paper": Settings(rho=(0.003, 0.01, 0.03, 0.1, 0.3), recipe="large"),
}


def methods(settings: Settings) -> list[Method]:
    """All of them but ERM of twice the steps."""
    grids = dict.fromkeys(("late", "periodic"), (RHO,))
    found = comparison.from_recipe(gpt.get_config, LABELS, settings, grids=grids)
    with_muon = dataclasses.replace(
        settings, recipe=",".join(filter(None, ("muon", settings.recipe)))
    )
    labels = {key.removeprefix("muon_"): label for key, label in MUON.items()}
    return found + comparison.from_recipe(
        gpt.get_config, labels, with_muon, grids={"sam": (RHO,)}, prefix="muon_"
    )


def double(settings: Settings) -> Method:
    """ERM with the gradients of a SAM run."""
    (erm,) = comparison.from_recipe(gpt.get_config, {"erm": ALL["erm"]}, settings)
    twice = changed(erm.config, {"epochs": 2 * erm.config.epochs})
    return Method(DOUBLE, ALL[DOUBLE], twice)


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """Every method over its radii and all seeds."""
    every = [*methods(settings), double(settings)]
    return comparison.plan(every, settings.seeds)


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """What `comparison` saves; and for every method at its radius rise, eigenvalue and
    rounded bits per byte, f[S], and the seconds of a step. ERM of twice the steps has
    an axis of epochs of its own.
    """
    several, twice = methods(settings), double(settings)
    own = {k: v for k, v in trained.items() if k[0] == DOUBLE}
    others = {k: v for k, v in trained.items() if k[0] != DOUBLE}
    options = {"figures": FIGURES, "curves": CURVES}
    doubled = comparison.collect([twice], settings.seeds, own, **options)
    arrays = dict(comparison.collect(several, settings.seeds, others, **options))
    arrays["double_epoch"] = doubled["epoch"]
    arrays |= {name: a for name, a in doubled.items() if name.startswith(DOUBLE)}
    config = twice.config
    arrays["batch_size"] = np.array(config.batch_size)
    arrays["fingerprint"] = np.array(text.fingerprint(text.standard_library()))
    for method in (*several, twice):
        rho = comparison.rho(arrays, method.key)
        chosen = [trained[method.key, rho, seed] for seed in settings.seeds]
        for name, values in zip(MEASURES, measure(settings, chosen), strict=True):
            arrays[f"{method.key}_{name}"] = values
    arrays |= seconds([*several, twice])
    return arrays


def measure(settings: Settings, trained: Sequence[TrainedRun]) -> np.ndarray:
    """Of each run's last weights: rise, eigenvalue, rounded bits per byte, f[3, S]."""
    rows: list[list[float]] = []
    objective: Any = None
    for one in trained:
        run = restore.read(one.workdir)
        (state,) = run.states(run.epochs()[-1:])
        if objective is None:  # one network, and nothing but weights in its state
            objective = networks.evaluation_objective(run, state, 0.0)
        batch = networks.training_batch(run, settings.examples)
        point = objective, state.params, batch
        rise = sharpness.worst_case(*point, rho=settings.ascent, method="one_step")
        top = sharpness.top_eigenvalues(
            *point, jax.random.key(0), steps=settings.lanczos
        )
        rounded = rounding.round_weights(state.params, settings.bits)
        figures = run.setup.evaluate(rounded, state.batch_stats, run.setup.examples)
        rows.append([rise.loss, float(top[0]), figures["test_bits_per_byte"]])
    return np.array(rows).T


def seconds(several: Sequence[Method]) -> Arrays:
    """The seconds of a step of every method."""
    least = step_times.least({method.key: method.config for method in several})
    # What late and periodic steps cost follows from those of ERM and SAM.
    plain, ascent = least["erm"], least["sam"]
    least["late"] = plain + (ascent - plain) / 10
    least["periodic"] = plain + (ascent - plain) / 5
    return {f"{key}_seconds": np.array(value) for key, value in least.items()}


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Bits per byte of held-out files at equal steps and equal gradients, sharpness,
    and what rounding costs.
    """
    at = "bits per byte of held-out files"
    yield _less(
        arrays, f"{at}: AdamW of twice the steps below SAM", DOUBLE, "sam", SINGH
    )
    for key in ("sam_direction", "sum_max"):
        words = f"{at}, equal steps: {LABELS[key]} below SAM"
        yield _less(arrays, words, key, "sam", SINGH)
    for key in ("sam", "sam_direction", "sum_max", "late", "periodic"):
        words = f"{at}, equal steps: {LABELS[key]} below AdamW"
        yield _less(arrays, words, key, "erm", SINGH if "direction" in key else "ours")
    words = f"{at}: SAM with Muon below Muon, equal steps"
    yield _less(arrays, words, "muon_sam", "muon_erm", "ours")
    for key in ("sam", "sam_direction", "sum_max", "late", "periodic"):
        source = LATE if key == "late" else "ours"
        for name, what in (
            ("rise", f"rise of the loss within {settings.ascent:g}"),
            ("eigenvalue", "largest eigenvalue of the Hessian"),
        ):
            words = f"{what}: that of {LABELS[key]} over that of AdamW"
            ratio = arrays[f"{key}_{name}"] / arrays[f"erm_{name}"]
            yield Claim.mean(words, source, None, ratio, high=1)
        words = f"bits per byte lost by rounding to {settings.bits} bits: {LABELS[key]}"
        gap = lost(arrays, key) - lost(arrays, "erm")
        yield Claim.mean(f"{words} less AdamW", source, None, gap, high=0)
    words = (
        f"bits per byte lost by rounding to {settings.bits} bits: Muon, SAM less Muon"
    )
    gap = lost(arrays, "muon_sam") - lost(arrays, "muon_erm")
    yield Claim.mean(words, "ours", None, gap, high=0)


def lost(arrays: Arrays, key: str) -> np.ndarray:
    """By how much rounding raises the bits per byte, f[S]."""
    return arrays[f"{key}_rounded"] - comparison.chosen(arrays, key, "test")


def _less(arrays: Arrays, words: str, key: str, other: str, source: str) -> Claim:
    pair = [comparison.chosen(arrays, k, "test") for k in (key, other)]
    measured = " against ".join(f"{values.mean():.3f}" for values in pair)
    return Claim.mean(
        words,
        source,
        None,
        pair[0] - pair[1],
        high=0,
        measured=measured,
        rho=comparison.radii(arrays, (key, other)),
    )


def plot(arrays: Arrays) -> plotting.Figure:
    """Bits per byte over gradients and over time; sharpness; rounding."""
    figure, (by_gradients, by_time, bits, rises) = plotting.panels(2, 2, width=5.2)
    steps = arrays["epoch"]
    for i, (key, label) in enumerate(ALL.items()):
        color = plotting.COLORS[i % len(plotting.COLORS)]
        again = i >= len(plotting.COLORS)  # a colour for the second time
        style = {"label": label, "color": color, "linestyle": "--" if again else "-"}
        curve = comparison.chosen(arrays, key, "curve")
        x = arrays["double_epoch"] if key == DOUBLE else steps
        plotting.band(by_gradients, x * GRADIENTS.get(key, 2), curve, **style)
        cost = arrays[f"{key}_seconds"] / arrays["erm_seconds"]
        plotting.band(by_time, x * cost, curve, **style)
        test = comparison.chosen(arrays, key, "test")
        bits.plot([i] * len(test), test, "o", color=color, fillstyle="none")
        bits.plot([i] * len(test), arrays[f"{key}_rounded"], "x", color=color)
        rises.plot([i] * len(test), arrays[f"{key}_rise"], "o", color=color)
    title = "held-out files, means and 10-90% of seeds"
    by_gradients.set(xlabel="epochs of ERM with as many gradients", title=title)
    title = "the same over time, by steps taken in turn"
    by_time.set(xlabel="epochs of ERM in the same time", title=title)
    low = min(comparison.chosen(arrays, key, "curve").min() for key in ALL)
    for panel in (by_gradients, by_time):
        panel.set(ylabel="bits per byte", ylim=(low - 0.05, low + 1.8))
    by_gradients.legend(frameon=False, fontsize="x-small", ncols=2)
    bits.set(ylabel="bits per byte", title="before (o) and after (x) rounding")
    rises.set(ylabel="rise of the loss", title="one ascent step", yscale="log")
    for panel in (bits, rises):
        labels = list(ALL.values())
        panel.set_xticks(range(len(ALL)), labels, rotation=35, ha="right")
        panel.tick_params(axis="x", labelsize="x-small")
    return figure
