"""What Sec. 3.1 says of the effective scale alpha exp(-rho Delta), term by term.

Flows of the diagonal network on sparse regression. Delta is positive, that of SumMax
about n times that of MaxSum; the smaller the effective scale, the less the l1 norm of
the solution, and the later the flow arrives. `implicit_bias` certifies the constants.
"""

import dataclasses
import math
from collections.abc import Iterator

import jax
import numpy as np
from scipy import optimize, stats

from experiments.harness import statistics
from experiments.harness.claims import Arrays, Claim
from sam_jax import flows, plotting
from sam_jax.flows import fields
from sam_jax.toys import sparse_regression

SOURCE = "Section 3.1, Propositions 1 and 5"
X64 = True
LABELS = {"max_sum": "MaxSum", "sum_max": "SumMax"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """alpha: of the starts. rhos: of SumMax's flows; the last also of MaxSum's.
    scales: alpha of the potential's minimisers. sizes: (n, d) of the ratio of Delta.
    """

    seeds: int = 20
    alpha: float = 0.01
    rhos: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1)
    scales: tuple[float, ...] = (1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0)
    sizes: tuple[tuple[int, int], ...] = ((5, 30), (10, 30), (20, 30), (10, 60))


SCALES = {
    "smoke": Settings(
        seeds=2, rhos=(0.0, 0.05, 0.1), scales=(1e-6, 100.0), sizes=((20, 30),)
    ),
    "cpu": Settings(),
    "paper": Settings(seeds=100),
}


def run(settings: Settings) -> Arrays:
    """Flows over rho, over sizes and at Prop. 5's rho; minimisers over alpha."""
    s = settings
    data = sparse_regression.sample(range(s.seeds))
    rhos = np.array(s.rhos)
    many = flows.solve(
        data.x[:, None], data.y[:, None], alpha=s.alpha, rho=rhos, kind="sum_max"
    )
    return {
        "rhos": rhos,
        **_over_rho(s, data, many),
        **_at_the_bound(s, data, many.betas[:, 0]),
        **_minimisers(s, data),
        **_over_sizes(s),
    }


def _over_rho(
    s: Settings, data: sparse_regression.SparseRegression, many: flows.Solution
) -> Arrays:
    """SumMax's flows, [seeds, rhos]; both kinds' Delta at the last rho, [seeds, d]."""
    max_sum = flows.solve(data.x, data.y, alpha=s.alpha, rho=s.rhos[-1], kind="max_sum")
    arrays = {
        "end": many.end,
        "scale": np.exp(np.log(many.alpha_effective).mean(-1)),
        "l1": np.abs(many.beta).sum(-1),
        "test": sparse_regression.test_loss(many.beta, data.beta[:, None], 1 / 4),
        "integrand_gap": _integrand_gap(data, many.betas[:, -1]),
        "max_sum_delta": max_sum.delta,
        "sum_max_delta": many.delta[:, -1],
    }
    return {name: np.asarray(values) for name, values in arrays.items()}


def _integrand_gap(
    data: sparse_regression.SparseRegression, betas: np.ndarray
) -> np.ndarray:
    """The least of I_SumMax - I_MaxSum over features and times, over the greatest
    I_SumMax, [seeds]: the integrands of the leading Delta at the same weights.

    Args:
      betas: of a trajectory a seed, [seeds, times, d].
    """
    residuals = np.einsum("snd,std->stn", data.x, betas) - data.y[:, None]

    def integrand(m):
        over_times = jax.vmap(
            lambda x, r: fields.shrinkage(x, r, r, m=m), in_axes=(None, 0)
        )
        return np.asarray(jax.vmap(over_times)(data.x, residuals))

    each, whole = integrand(1), integrand(data.x.shape[1])
    return (each - whole).min((1, 2)) / each.max((1, 2))


def _at_the_bound(
    s: Settings, data: sparse_regression.SparseRegression, plain: np.ndarray
) -> Arrays:
    """SumMax at the greatest rho that Prop. 5 allows, R^-2 (B (B + |beta*|))^(-1/2).

    R = max |x_i|. B is half as much again as |beta(t)| reaches under ERM, and
    "path" says whether SumMax stays below it, as the proposition asks.

    Args:
      plain: beta(t) of ERM, [seeds, times, d].
    """
    bound = 1.5 * np.linalg.norm(plain, axis=-1).max(-1)
    radius2 = (data.x**2).sum(-1).max(-1)
    rho = 1 / (radius2 * np.sqrt(bound * (bound + 1)))
    flow = flows.solve(data.x, data.y, alpha=s.alpha, rho=rho, kind="sum_max")
    return {
        "bound_rho": rho,
        "bound_path": np.linalg.norm(flow.betas, axis=-1).max(-1) / bound,
        "bound_scale": np.asarray(flow.alpha_effective).max(-1) / s.alpha,
    }


def _minimisers(s: Settings, data: sparse_regression.SparseRegression) -> Arrays:
    """Norms of the minimisers of phi_alpha on {X beta = y}, [seeds, alphas], over the
    least there are: the l1 norm by a linear program, the l2 norm by least squares.
    """
    scales = np.array(s.scales)
    found = np.asarray(
        flows.minimize_potential(
            data.x[:, None], data.y[:, None], alpha=scales[:, None]
        ).beta
    )
    l1, l2 = [], []
    for x, y in zip(data.x, data.y, strict=True):
        d = x.shape[1]
        program = optimize.linprog(np.ones(2 * d), A_eq=np.hstack([x, -x]), b_eq=y)
        l1.append(program.fun)
        l2.append(np.linalg.norm(np.linalg.lstsq(x, y, rcond=None)[0]))
    return {
        "scales": scales,
        "l1_over_least": np.abs(found).sum(-1) / np.array(l1)[:, None],
        "l2_over_least": np.linalg.norm(found, axis=-1) / np.array(l2)[:, None],
    }


def _over_sizes(s: Settings) -> Arrays:
    """|Delta_SumMax|_1 over n |Delta_MaxSum|_1 of their own flows, [sizes, seeds]."""
    ratios = []
    for n, d in s.sizes:
        data = sparse_regression.sample(range(s.seeds), n=n, d=d)
        rho = 1 / (data.x**2).sum(-1).max(-1)
        total = [
            np.asarray(
                flows.solve(data.x, data.y, alpha=s.alpha, rho=rho, kind=kind).delta
            ).sum(-1)
            for kind in LABELS
        ]
        ratios.append(total[1] / total[0] / n)
    return {"sizes": np.array(s.sizes), "delta_ratio": np.array(ratios)}


def judge(_: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Delta, Prop. 5's condition, the potential's limits, and what is slow and good."""
    rho = f"rho {arrays['rhos'][-1]:g}"
    for kind, label in LABELS.items():
        positive = (arrays[f"{kind}_delta"] > 0).all(-1)
        text = f"{label}, {rho}: every entry of alpha_effective is below alpha"
        yield Claim.every(text, "Prop. 1", positive)
    gap = arrays["integrand_gap"].min()
    text = "I_SumMax - I_MaxSum at the same weights: least entry over the greatest"
    yield Claim.decided(text, "App. A", ">= 0", gap, ">= 0", bool(gap >= -1e-12))
    for (n, d), ratio in zip(arrays["sizes"], arrays["delta_ratio"], strict=True):
        text = f"n = {n}, d = {d}: log2 of |Delta_SumMax|_1 / (n |Delta_MaxSum|_1)"
        words = f"{np.log2(ratio).mean():.3g} (ratio {ratio.mean():.3g} n)"
        yield Claim.mean(
            text, "Sec. 3.1", 0, np.log2(ratio), low=-1, high=1, measured=words
        )
    yield from _bound_claims(arrays)
    least = {name: arrays[f"{name}_over_least"] for name in ("l1", "l2")}
    for name, at, words in (("l1", 0, "small"), ("l2", -1, "large")):
        text = f"alpha = {arrays['scales'][at]:g}: {name} norm of the minimiser of "
        text += f"phi_alpha over the least there is, worst seed, {words} alpha"
        worst = least[name][:, at].max()
        yield Claim.decided(text, "Eq. 4, 12", 1.0, worst, "< 1.05", bool(worst < 1.05))
    rises = (np.diff(least["l1"], axis=1) > -1e-9).all(1)
    yield Claim.every("the l1 norm of the minimiser rises with alpha", "Eq. 4", rises)
    yield from _slow_claims(arrays)


def _bound_claims(arrays: Arrays) -> Iterator[Claim]:
    """Prop. 5 at its greatest rho."""
    rho = arrays["bound_rho"]
    words = f"{rho.min():.2g} to {rho.max():.2g}"
    allowed = arrays["bound_path"] <= 1
    text = f"alpha_SumMax <= alpha at the greatest rho allowed, {words}"
    yield Claim.every(text, "Prop. 5", allowed & (arrays["bound_scale"] <= 1))


def _slow_claims(arrays: Arrays) -> Iterator[Claim]:
    """SumMax arrives later than gradient flow; over its radii, and over problems at the
    largest, the scale is the smaller the later it arrives.
    """
    end = arrays["end"]
    rho = f"rho = {arrays['rhos'][-1]:g}"
    text = f"SumMax, {rho}: the flow arrives later than without SAM"
    yield Claim.share(text, "Sec. 3.1", end[:, -1] > end[:, 0])
    pairs = zip(end, arrays["scale"], strict=True)
    ranks = np.array([stats.spearmanr(*pair).statistic for pair in pairs])
    text = "SumMax over rho: rank correlation of the arrival and the effective scale"
    yield Claim.mean(text, "Sec. 3.1", "the slower, the better", ranks, high=0)
    columns = end[:, -1:], arrays["sum_max_delta"].sum(-1, keepdims=True)
    tau, interval = statistics.of_rank_correlation(*columns)
    text = f"SumMax over problems, {rho}: rank correlation of the arrival and |Delta|_1"
    verdict = statistics.verdict(interval, 0.0, math.inf)
    yield Claim(
        text,
        "Sec. 3.1",
        "the slower, the better",
        tau,
        "> 0",
        verdict,
        interval,
        len(end),
    )


def plot(arrays: Arrays) -> plotting.Figure:
    """Norms over alpha; the ratio of Delta; test loss and arrival over rho."""
    figure, axes = plotting.panels(2, 2, width=4.4, height=3.2)
    blue, orange = plotting.COLORS[:2]
    for name, color in (("l1", blue), ("l2", orange)):
        over = arrays[f"{name}_over_least"]
        line = {"color": color, "geometric": True, "label": f"{name} norm"}
        plotting.band(axes[0], arrays["scales"], over, **line)
    axes[0].set(xscale="log", xlabel=r"$\alpha$", ylabel="norm over the least")
    axes[0].set_title(r"minimiser of $\phi_\alpha$", fontsize="medium")
    axes[0].legend(frameon=False, fontsize="small")
    names = [f"{n}, {d}" for n, d in arrays["sizes"]]
    axes[1].boxplot(arrays["delta_ratio"].T, tick_labels=names)
    axes[1].axhline(1, color="gray", linestyle=":")
    axes[1].set(ylim=(0, None), xlabel="n, d")
    axes[1].set_ylabel(r"$|\Delta_{SumMax}|_1\ /\ n\,|\Delta_{MaxSum}|_1$")
    for panel, name, label in (
        (axes[2], "end", "time of arrival"),
        (axes[3], "test", "test loss"),
    ):
        for rho, x, y in zip(
            arrays["rhos"], arrays["scale"].T, arrays[name].T, strict=True
        ):
            panel.scatter(x, y, s=12, label=rf"$\rho$ = {rho:g}")
        panel.set(xscale="log", yscale="log", xlabel="effective scale", ylabel=label)
        panel.set_title("SumMax, a point a seed", fontsize="medium")
    axes[2].legend(frameon=False, fontsize="small")
    return figure
