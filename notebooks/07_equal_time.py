# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Which variant, in equal time?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sam-jax/sam_jax/blob/main/notebooks/07_equal_time.ipynb)
#
# Most variants of SAM were published with a table in which they win. A method can win
# such a table without being better: it had more time than the others, its radius was
# tuned and theirs was not, or its seeds were lucky. This notebook makes a table that
# rules out the first two and measures the third, and shows how to read it.
#
# **At this size the table decides nothing about the variants.** A small network on
# 1,293 digits with five seeds is enough to learn the method, and far too little to
# choose a method for your work. `python -m experiments run equal_time --scale=fashion`
# is the same comparison with all variants, on more data, in many hours.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("google.colab"):  # the experiments are no part of the wheel
    source = "https://github.com/sam-jax/sam_jax"
    subprocess.run(["git", "clone", "-q", "--depth=1", source, "clone"], check=True)
    extra = "./clone[train]"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", extra], check=True)
    sys.path.insert(0, "clone")

# %% tags=["parameters"]
epochs, seeds = 20, (0, 1, 2, 3, 4)
kinds, radii = ("sam", "sum_max", "msam"), (0.03, 0.1, 0.3, 1.0)

# %%
# %matplotlib inline
import tempfile

import numpy as np

from experiments import equal_time
from experiments.harness import grids, statistics, training, tuning
from sam_jax import output, plotting

# %% [markdown]
# ## 1. The plan, before any run
# 60% of the training labels are random, and so are 60% of the validation labels. Each
# method gets the same number of *gradients*: SAM takes two a step, ERM and `msam` take
# one, and so these two train for twice as many epochs. Each variant has the same number
# of candidates: four radii, or two radii and two values of a number of its own, such as
# the m of `sum_max`. ERM has nothing to tune here.
#
# All of this is written down before the first run. Whoever adds candidates after a look
# at the results tunes one method more than the others.

# %%
place = "noisy"
settings = equal_time.Settings(
    seeds=seeds,
    tuning_seeds=(5, 6),
    rho=radii,
    kinds=kinds,
    places=(place,),
    examples=64,
    recipe="embedded",
    changes={
        "model.name": "mlp",
        "model.widths": (64, 64),
        "epochs": epochs,
        "schedule.warmup_epochs": epochs / 10,
    },
)
methods = equal_time.kinds(settings)
rows = []
for kind in methods:
    method = equal_time.tuned(settings, place, kind)
    tried = [
        ", ".join(f"{key.removeprefix('sam.')} {x:g}" for key, x in candidate.items())
        for candidate in method.candidates
    ]
    gradients = f"{grids.gradients(kind):g}"
    rows.append([kind, gradients, str(method.config.epochs), "; ".join(tried)])
print(output.table(["", "gradients a step", "epochs", "candidates"], rows, left=True))

# %% [markdown]
# ## 2. Training
# Two seeds, 5 and 6, train every candidate. The one with the least error on the
# validation images is chosen, and then trained with the five other seeds. Only these
# five are in the table: a seed that has chosen the radius would flatter it.
#
# Runs that differ in seed and radius alone are trained together, as one program.

# %%
runs = equal_time.runs(settings)
folder = tempfile.TemporaryDirectory()
trained = training.train(runs, folder.name, together=True)
arrays = equal_time.run(settings, trained)
print(f"{len(trained)} runs; {len(runs) - len(trained)} more were of other candidates.")

# %% [markdown]
# ## 3. What the tuning did
# Each circle is a candidate, the filled one is chosen. (Of the validation labels so
# many are wrong that a perfect network would be at 54%.)
#
# Compare two distances: from the best to the worst candidate of *one* variant, and from
# the best candidate of one variant to that of *another*. Where the first is the larger,
# a comparison at one fixed radius says more about that radius than about the variants.
# And where the choice is at the edge of a grid, the best radius may lie outside of it:
# the table must say so.

# %%
figure, (panel,) = plotting.panels(width=5.0, height=3.0)
for i, kind in enumerate(kinds):
    found = 100 * arrays[f"{place}_{kind}_tuning"].mean(1)
    color = plotting.COLORS[i % len(plotting.COLORS)]
    panel.plot(np.full(len(found), i), found, "o", color=color, mfc="none")
    panel.plot(i, found.min(), "o", color=color)
    print(tuning.words(arrays, f"{place}_{kind}"))
panel.set_xticks(range(len(kinds)), kinds)
panel.set(ylabel="validation error (%)", title="candidates, mean of two seeds")
figure

# %% [markdown]
# ## 4. Equal what?
# The same methods at three kinds of equal cost. At equal *steps* a variant with two
# gradients a step does twice the work of ERM: papers often report this one. At equal
# *gradients* the work is the same if a gradient is all that a step does. Equal
# *seconds* is what a user pays: the time of a step is measured here, with steps of all
# methods in turn, and every run is cut where the time of SAM's run is over (or at most
# 5% later, so that no learning-rate schedule is cut just before its end).
#
# "Failed" counts runs, tuning included, whose loss became infinite or NaN. They stay in
# the table with an error of 100%. To drop them, or to repeat them with another seed,
# would be to report a method without its instability.

# %%
costs = ("steps", "gradients", "seconds")
errors = {
    cost: {k: 100 * equal_time.at_equal(arrays, place, k, cost) for k in methods}
    for cost in costs
}
rows = []
for kind in methods:
    key = f"{place}_{kind}"
    time = arrays[f"{key}_seconds"] / arrays[f"{place}_erm_seconds"]
    own = [run for name, run in trained.items() if f"{name[0]}_".startswith(f"{key}_")]
    failed = f"{sum(not run.summary for run in own)} of {len(own)}"
    means = [f"{errors[cost][kind].mean():.1f}" for cost in costs]
    rows.append([kind, f"{time:.2f}", *means, failed])
header = ["test error (%)", "time of a step", *(f"equal {c}" for c in costs), "failed"]
print(output.table(header, rows))

# %% [markdown]
# ## 5. Seeds in pairs
# A seed decides which labels are wrong, the first weights and the order of the
# examples, and all methods share it. So the seeds can be compared one by one. On the
# left each line is a seed. Where the lines run side by side, a part of the scatter
# belongs to the seed and not to the methods, and the differences within a seed scatter
# less than the errors do.
#
# On the right: the mean of these differences to SAM with its 95% interval (Student's t
# of paired differences). An interval left of zero: better than SAM. One that crosses
# zero is *undecided*: it is not "as good as SAM", and a smaller mean does not win.

# %%
equal = errors["seconds"]
figure, (each, pairs) = plotting.panels(1, 2, width=4.4, height=3.0)
for of_one_seed in zip(*equal.values(), strict=True):
    each.plot(methods, of_one_seed, "o-", color="gray", alpha=0.6)
each.set(ylabel="test error (%)", title="in the time of SAM's run, by seed")
others = [kind for kind in methods if kind != "sam"]
for i, kind in enumerate(others):
    differences = equal[kind] - equal["sam"]
    low, high = statistics.of_mean(differences)
    pairs.hlines(i, low, high, color=plotting.COLORS[0])
    pairs.plot(differences, np.full(len(seeds), i), ".", color="gray")
    pairs.plot(differences.mean(), i, "o", color=plotting.COLORS[0])
pairs.axvline(0, color="gray", linewidth=0.8)
pairs.set_yticks(range(len(others)), others)
pairs.set(xlabel="test error less SAM's (points)", title="paired differences")
figure

# %% [markdown]
# The same as statements with verdicts, in the words of the experiment:

# %%
claims = list(equal_time.judge(settings, arrays))
for claim in claims:
    if "below sam at equal seconds" in claim.claim:
        low, high = claim.interval
        print(f"{claim.verdict:9}  {claim.claim}")
        print(f"{'':9}  {claim.measured}, {low:.2f} to {high:.2f}; {claim.rho}")

# %% [markdown]
# ## 6. How many questions were asked
# An interval at 95% misses one time in twenty. So of twenty comparisons between methods
# that do not differ at all, about one will look decided.

# %%
asked = [claim for claim in claims if " below " in claim.claim]
decided = [claim for claim in asked if claim.verdict != statistics.UNDECIDED]
print(f"{len(asked)} comparisons, {len(decided)} of them decided;", end=" ")
print(f"by luck alone one would expect about {len(asked) / 20:.1f}.")

# %% [markdown]
# ## What to keep
# Ask these of any table of variants, your own first:
#
# 1. Is the cost equal, and which cost? Is the plain optimiser there, with the steps
#    that SAM's second gradient would have paid for?
# 2. Was each method tuned by the same number of runs, on seeds and images that are not
#    in the table? Does a choice lie at the edge of its grid?
# 3. Are there intervals, of paired differences where the seeds are shared? How many
#    seeds?
# 4. Are failed runs counted?
# 5. How many comparisons were made, and are all of them shown?
# 6. Is the scale that of your problem? Here the answer is no: change `epochs`, `kinds`
#    and `radii` above and watch how easily the order changes, then take the experiment
#    `equal_time` on data of your own kind.
