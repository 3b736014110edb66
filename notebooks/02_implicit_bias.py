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
# # 2. The implicit bias of SAM on diagonal networks
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/sam-jax/sam_jax/blob/main/notebooks/02_implicit_bias.ipynb)
#
# With more features than examples many predictors $\beta$ fit the data; which one is
# found depends on the method. On the diagonal network $\beta = w_+^2 - w_-^2$ this is
# known exactly: the gradient flow from $w_\pm = \alpha$ ends at the minimiser of a
# potential $\phi_\alpha$, close to an $\ell_1$ norm for small $\alpha$, and the flow of
# SAM at that of $\phi_{\alpha_\mathrm{eff}}$ with
#
# $$\alpha_\mathrm{eff} = \alpha\, e^{-\rho \Delta},$$
#
# a smaller scale and so a sparser predictor. $\Delta$ is far larger when every example
# has its own perturbation (SumMax) than when all share one (MaxSum).

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("google.colab"):
    source = "sam_jax[train,flows] @ git+https://github.com/sam-jax/sam_jax"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["parameters"]
n, d, nonzeros = 20, 30, 3
alpha, rho = 0.05, 0.1
seeds, iterations = 5, 20_000

# %%
# %matplotlib inline
import jax
import numpy as np

from sam_jax import flows, plotting
from sam_jax.toys import sparse_regression

jax.config.update("jax_enable_x64", True)
kinds = {"ERM": "erm", "MaxSum": "max_sum", "SumMax": "sum_max"}


# %% [markdown]
# ## Three flows, three certificates
# `solve` follows a flow until the training loss is $10^{-12}$; `certificate` compares
# its end with the minimiser of $\phi_{\alpha_\mathrm{eff}}$ among all interpolators,
# found by a convex program that knows nothing of the flow.

# %%
data = sparse_regression.sample(0, n=n, d=d, nonzeros=nonzeros)
solutions = {
    name: flows.solve(data.x, data.y, alpha=alpha, rho=rho, kind=kind)
    for name, kind in kinds.items()
}
for name, solution in solutions.items():
    proof = flows.certificate(solution, data.x, data.y)
    test = sparse_regression.test_loss(solution.beta, data.beta, 1 / 4)
    scale = np.mean(solution.alpha_effective)
    print(
        f"{name:7} certified: {bool(proof.passed)} (distance {proof.distance:.0e}), "
        f"mean alpha_eff {scale:.2g}, |beta|_1 {np.abs(solution.beta).sum():.4f}, "
        f"test loss {test:.1e}"
    )
print(f"{'':7} |beta*|_1 {np.abs(data.beta).sum():.4f}")

# %% [markdown]
# SAM shrinks $\alpha$ most where a feature is still in use while the loss is large, and
# every feature has a scale of its own:

# %%
figure, (scales, sizes) = plotting.panels(1, 2, width=4.6)
features = np.arange(d)
for (name, solution), color, mark in zip(
    solutions.items(), plotting.COLORS, "os^", strict=False
):
    line = {"color": color, "marker": mark, "linestyle": "", "markersize": 4}
    scales.plot(features, solution.alpha_effective, label=name, **line)
    sizes.plot(features, np.abs(solution.beta), label=name, **line)
scales.set(xlabel="feature", ylabel=r"$\alpha_{\mathrm{eff}}$", ylim=0)
sizes.set(xlabel="feature", ylabel=r"$|\beta|$", yscale="log")
scales.legend(frameon=False, loc="lower right")
figure

# %% [markdown]
# ## A whole grid in one call
# `alpha`, `rho` and the data may have batch axes; nothing is compiled anew. SumMax over
# `rho`, on several problems:

# %%
rhos = np.asarray([0.0, 0.05, 0.1, 0.2])
many = sparse_regression.sample(range(seeds), n=n, d=d, nonzeros=nonzeros)
figure, (panel,) = plotting.panels(width=4.6)
for name in ("MaxSum", "SumMax"):
    grid = flows.solve(
        many.x[:, None], many.y[:, None], alpha=alpha, rho=rhos, kind=kinds[name]
    )
    proof = flows.certificate(grid, many.x[:, None], many.y[:, None])
    print(f"{name}: {proof.passed.sum()} of {proof.passed.size} certified")
    test = sparse_regression.test_loss(grid.beta, many.beta[:, None], 1 / 4)
    color = plotting.COLORS[list(kinds).index(name)]
    plotting.band(panel, rhos, test, geometric=True, label=name, color=color)
panel.set(xlabel=r"$\rho$", ylabel="test loss of the flow's end", yscale="log")
panel.set_xticks(rhos)
panel.legend(frameon=False)
figure

# %% [markdown]
# ## Figures 1 and 9
# The discrete methods with step sizes $\gamma = \rho = 1 / L$, deterministic and on one
# example a step (dashed), with fewer iterations than the paper's $10^6$; `python -m
# experiments run fig9` does them all.

# %%
step = 1 / flows.smoothness(many.x, many.beta)
times = flows.log_times(iterations)
figure, (test_panel, train_panel) = plotting.panels(1, 2, width=4.6)
for (name, kind), color in zip(kinds.items(), plotting.COLORS, strict=False):
    for size, style in ((None, "-"), (1, "--")):
        method = flows.Method(kind=kind, parametrization="product", batch_size=size)
        found = flows.iterate(
            many.x, many.y, method, times=times, alpha=0.01, step_size=step, rho=step
        )
        test = sparse_regression.test_loss(found.betas, many.beta[:, None], 1 / 2)
        label = name if size is None else f"{name} SGD".removeprefix("ERM ")
        line = {"label": label, "linestyle": style}
        line |= {"color": color, "geometric": True}
        plotting.band(test_panel, times[1:], test[:, 1:], **line)
        plotting.band(train_panel, times[1:], found.losses[:, 1:], **line)
test_panel.set(xscale="log", yscale="log", xlabel="iteration", ylabel="test loss")
train_panel.set(xscale="log", yscale="log", xlabel="iteration", ylabel="training loss")
test_panel.legend(frameon=False, fontsize="small")
figure
