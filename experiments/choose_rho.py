"""A radius from the rise of the loss, and one carried over m, against full sweeps.

`choose_rho` measures at the weights that a run starts from, on one batch, the radius at
which the loss rises by a share; `carry_rho` makes the best radius of the batch that of
groups of m. The nearest radius of a sweep stands for each. Its regret is its test error
less that of the sweep's best radius by validation, on the same seeds. The sweeps are
those of other experiments: what these have trained in folders beside is taken.

The budget was .3 at first. On digits that radius was six to eleven times the best one
without normalisation, where SAM does not train, and no radius met it with BatchNorm. Of
.02, .05, .1 and .2, tried after that, .05 had the least regret on these two sweeps;
what the others say of it counts.
"""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import sam_jax
from experiments import gpt, m_norms, m_sharpness
from experiments.harness import comparison, comparison_plots
from experiments.harness.claims import Arrays, Claim
from experiments.harness.equal_cost import PLACES, Place
from experiments.harness.runs import Key, PlannedRun, TrainedRun, changed
from experiments.harness.statistics import CONTRARY
from sam_jax import plotting
from sam_jax.analysis import networks, restore
from sam_jax.training import loop
from sam_jax.training import step as steps
from sam_jax.transforms.radius import NoRadius

SOURCE = "Choosing rho (ours)"
TAKES = ("m_sharpness", "m_norms", "gpt")  # whose trained runs are taken
# Declared before any run: what a regret of no matter is, in the units of a place.
MARGINS = {"noisy": 1.0, "gpt": 0.02}


class Sweep(NamedTuple):
    """label: in figures and claims. module, scale, method: where the sweep is planned.
    place: of `equal_time.PLACES`. whole: the sweep of the whole batch that belongs to
    one of groups; "" for none.
    """

    label: str
    module: ModuleType
    scale: str
    method: str
    place: str = "noisy"
    whole: str = ""


SWEEPS = {
    "smoke": Sweep("digits, smoke", m_sharpness, "smoke", "none_0"),
    "smoke_1": Sweep("m = 1, smoke", m_sharpness, "smoke", "none_1", whole="smoke"),
    "digits": Sweep("digits", m_sharpness, "cpu", "none_0"),
    "digits_1": Sweep("digits, m = 1", m_sharpness, "cpu", "none_1", whole="digits"),
    "digits_group": Sweep("digits, GroupNorm", m_norms, "cpu", "group_0"),
    "digits_batch": Sweep("digits, BatchNorm", m_norms, "cpu", "batch_0"),
    "fashion": Sweep("Fashion-MNIST", m_sharpness, "fashion", "none_0"),
    "fashion_16": Sweep(
        "Fashion-MNIST, m = 16", m_sharpness, "fashion", "none_16", whole="fashion"
    ),
    "fashion_1": Sweep(
        "Fashion-MNIST, m = 1", m_sharpness, "fashion", "none_1", whole="fashion"
    ),
    "gpt": Sweep("GPT", gpt, "cpu", "sam", place="gpt"),
    "paper_64": Sweep("CIFAR-10, m = 64", m_sharpness, "paper", "group_64"),
    "paper_group": Sweep("CIFAR-10, GroupNorm", m_norms, "paper", "group_0"),
    "paper_batch": Sweep("CIFAR-10, BatchNorm", m_norms, "paper", "batch_0"),
    "paper_gpt": Sweep("GPT-2", gpt, "paper", "sam", place="gpt"),
}
SMALL = ("digits", "digits_1", "digits_group", "digits_batch", "gpt")


@dataclasses.dataclass(frozen=True)
class Settings:
    """sweeps: of SWEEPS. budget: rise of the loss over the loss, of `choose_rho`.
    changes: keys changed in every run.
    """

    sweeps: tuple[str, ...] = SMALL
    budget: float = 0.05
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


SCALES = {
    "smoke": Settings(sweeps=("smoke", "smoke_1"), changes={"model.name": "mlp"}),
    "cpu": Settings(),
    "fashion": Settings(sweeps=("fashion", "fashion_16", "fashion_1", *SMALL)),
    "paper": Settings(sweeps=("paper_64", "paper_group", "paper_batch", "paper_gpt")),
}


def place(name: str) -> Place:
    """What errors of a sweep are, and their units."""
    return PLACES[SWEEPS[name].place]


def seeds(name: str) -> tuple[int, ...]:
    """Those of the sweep."""
    return SWEEPS[name].module.SCALES[SWEEPS[name].scale].seeds


def sweep(settings: Settings, name: str) -> comparison.Method:
    """The method that is swept, as the other experiment plans it."""
    one = SWEEPS[name]
    several = one.module.methods(one.module.SCALES[one.scale])
    (method,) = [method for method in several if method.key == one.method]
    config = changed(method.config, settings.changes)
    return comparison.Method(name, one.label, config, method.rho)


def runs(settings: Settings) -> dict[Key, PlannedRun]:
    """The sweeps."""
    found: dict[Key, PlannedRun] = {}
    for name in settings.sweeps:
        found |= comparison.plan([sweep(settings, name)], seeds(name))
    return found


class Measured(NamedTuple):
    """rho: of `choose_rho`, 0 where no radius meets the budget. noise_scale: of the
    gradient, in examples.
    """

    rho: float
    noise_scale: float


def _measure(settings: Settings, name: str) -> Measured:
    """At the weights that the sweep's first seed starts from, on one batch of its."""
    config = changed(sweep(settings, name).config, {"seed": seeds(name)[0]})
    with tempfile.TemporaryDirectory() as folder:
        made = loop.prepare(config, folder, claim=False)
    run = restore.Finished(made.config, made.setup, made.workdir)
    state: Any = run.setup.initial_state()
    size, m = run.config.batch_size, run.config.sam.m or None
    batch = networks.training_batch(run, size)
    if jax.tree.leaves(state.batch_stats):  # a batch has its own, as in training
        objective = steps.make_objective(
            run.setup.module, state.batch_stats, run.setup.loss, jnp.zeros(())
        )
    else:
        objective = networks.evaluation_objective(run, state, 0.0)
    try:
        rho = sam_jax.choose_rho(
            objective, state.params, batch, budget=settings.budget, m=m
        )
    except NoRadius:
        rho = 0.0
    noise = 0.0
    if m is not None:
        scale = sam_jax.gradient_noise_scale(objective, state.params, batch).scale
        noise = float(np.clip(np.nan_to_num(scale, posinf=1e9), 0, 1e9))
    return Measured(rho, noise)


def _collect(
    settings: Settings, name: str, trained: Mapping[Key, TrainedRun]
) -> dict[str, np.ndarray]:
    """What `comparison` saves of a sweep, without its epochs and seeds."""
    own = {key: run for key, run in trained.items() if key[0] == name}
    found = comparison.collect(
        [sweep(settings, name)],
        seeds(name),
        own,
        figures=place(name).figures,
        curves={},
    )
    return {key: value for key, value in found.items() if key.startswith(f"{name}_")}


def run(settings: Settings, trained: Mapping[Key, TrainedRun]) -> Arrays:
    """Errors of all sweeps; the radii that are chosen and carried, and the noise scale
    by which.
    """
    arrays: dict[str, Any] = {"sweeps": np.array(settings.sweeps)}
    for name in settings.sweeps:
        arrays |= _collect(settings, name, trained)
        measured, whole = _measure(settings, name), SWEEPS[name].whole
        arrays[f"{name}_chosen"] = np.array(measured.rho)
        if whole:
            config = sweep(settings, name).config
            carried = sam_jax.carry_rho(
                comparison.rho(_collect(settings, whole, trained), whole),
                m=config.batch_size,
                to=config.sam.m,
                noise_scale=measured.noise_scale,
            )
            arrays[f"{name}_carried"] = np.array(carried)
            arrays[f"{name}_noise_scale"] = np.array(measured.noise_scale)
    return arrays


def nearest(arrays: Arrays, name: str, how: str) -> int:
    """Which radius of the sweep stands for that "chosen" or "carried"."""
    ratios = arrays[f"{name}_rho"] / arrays[f"{name}_{how}"]
    return int(np.abs(np.log(ratios)).argmin())


def regret(arrays: Arrays, name: str, how: str) -> np.ndarray:
    """Test error at a radius "chosen" or "carried" less that of the sweep's best,
    f[S], in the units of the place.
    """
    here = arrays[f"{name}_best"][nearest(arrays, name, how)]
    return place(name).scale * (here - comparison.chosen(arrays, name, "best"))


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Every regret below its margin."""
    for name in map(str, arrays["sweeps"]):
        margin, unit = MARGINS[SWEEPS[name].place], place(name).unit
        for how, function in (("chosen", "choose_rho"), ("carried", "carry_rho")):
            text = f"{SWEEPS[name].label}: regret of {function}, {unit}"
            if arrays.get(f"{name}_{how}", 1) == 0:
                words = "none: no radius meets the budget"
                yield Claim(text, "ours", None, words, f"< {margin:g}", CONTRARY)
            elif f"{name}_{how}" in arrays:
                radii = arrays[f"{name}_rho"]
                there, best = radii[nearest(arrays, name, how)], comparison.rho
                yield Claim.mean(
                    text,
                    "ours",
                    None,
                    regret(arrays, name, how),
                    high=margin,
                    rho=f"{arrays[f'{name}_{how}']:.3g}, nearest {there:g}, best "
                    f"{best(arrays, name):g}",
                )


def plot(arrays: Arrays) -> plotting.Figure:
    """Every sweep, with the radii that were chosen and carried."""
    names = [str(name) for name in arrays["sweeps"]]
    columns = min(2, len(names))
    figure, axes = plotting.panels(-(-len(names) // columns), columns)
    for panel in axes[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(axes, names, strict=False):
        line = {"color": plotting.COLORS[0], "marker": ".", "label": "sweep"}
        errors = place(name).scale * arrays[f"{name}_best"].T
        plotting.band(panel, arrays[f"{name}_rho"], errors, **line)
        for how, color in (("chosen", 1), ("carried", 2)):
            if arrays.get(f"{name}_{how}", 0) > 0:
                style = {"color": plotting.COLORS[color], "label": how}
                panel.axvline(float(arrays[f"{name}_{how}"]), **style)
        panel.set_ylabel(place(name).unit)
        comparison_plots.set_radii(panel, arrays[f"{name}_rho"].tolist())
        panel.set_title(SWEEPS[name].label)
    marks = [panel.get_legend_handles_labels() for panel in axes]
    axes[0].legend(*max(marks, key=lambda m: len(m[1])), frameon=False)
    return figure
