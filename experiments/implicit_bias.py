"""Where the flows end: the certificate of Prop. 3-5, and the size of SAM's effect.

Each flow's end is compared with the minimiser of the potential at alpha_effective,
found by a convex program. The constants of Prop. 4 and 5 as printed, a quarter of the
right ones, fail that comparison, though by less for the smallest alpha: there the
minimiser has nearly reached its limit, of the least l1 norm, and alpha matters little.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from experiments.harness.claims import Arrays, Claim
from sam_jax import flows, plotting
from sam_jax.flows import fields
from sam_jax.toys import sparse_regression

SOURCE = "Propositions 3, 4 and 5"
X64 = True
KINDS = fields.KINDS
LABELS = {"erm": "ERM", "max_sum": "MaxSum", "sum_max": "SumMax"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """alphas: scales of the start. rho: ascent step. stop_losses: where the flows end.
    slope_alpha, slope_rhos: of the flows that tell the order in rho.
    """

    seeds: int = 20
    alphas: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    rho: float = 0.1
    stop_losses: tuple[float, ...] = (1e-12, 1e-16)
    slope_alpha: float = 0.1
    slope_rhos: tuple[float, ...] = (0.02, 0.01, 0.005, 0.0025)


SCALES = {
    "smoke": Settings(
        seeds=1, alphas=(0.1,), stop_losses=(1e-16,), slope_rhos=(0.01, 0.005)
    ),
    "cpu": Settings(),
    "paper": Settings(seeds=100),
}


def run(settings: Settings) -> Arrays:
    """Distances [kinds, stop_losses, alphas, seeds], those of the printed constants,
    the leading order's error [kinds, seeds, rhos], and sizes [kinds, alphas, seeds].
    """
    s, data = settings, sparse_regression.sample(range(settings.seeds))
    arrays: dict[str, list] = {name: [] for name in NAMES}
    alphas = np.asarray(s.alphas)[:, None]
    for kind in KINDS:
        solution = flows.solve(
            data.x,
            data.y,
            alpha=alphas,
            rho=s.rho,
            kind=kind,
            stop_loss=np.asarray(s.stop_losses)[:, None, None],
        )
        certificate = flows.certificate(solution, data.x, data.y)
        arrays["distance"].append(certificate.distance)
        arrays["tolerance"].append(certificate.tolerance)
        if kind != "erm":
            quarter = alphas[..., None] * np.exp(-s.rho * solution.delta / 4)
            wrong = solution._replace(alpha_effective=quarter)
            arrays["printed"].append(flows.certificate(wrong, data.x, data.y).distance)
            arrays["order"].append(_leading_error(s, data, kind))
            leading, loss = solution.delta_leading[-1], solution.loss_integral[-1]
            n, d = data.x.shape[1:]
            typical = 4 * d / (n if kind == "max_sum" else 1) * loss
            arrays["size"].append(leading.sum(-1) / typical)
    stacked = {name: np.asarray(values) for name, values in arrays.items()}
    stacked |= {"alphas": alphas[:, 0], "rhos": np.asarray(s.slope_rhos)}
    return stacked


NAMES = ("distance", "tolerance", "printed", "order", "size")


def _leading_error(s: Settings, data, kind: str) -> np.ndarray:
    """|log alpha_effective - its leading order|, [seeds, rhos]."""
    solution = flows.solve(
        data.x[:, None],
        data.y[:, None],
        alpha=s.slope_alpha,
        rho=np.asarray(s.slope_rhos),
        kind=kind,
    )
    gap = np.log(solution.alpha_effective) - np.log(solution.alpha_leading)
    return np.linalg.norm(gap, axis=-1)


def judge(settings: Settings, arrays: Arrays) -> Iterator[Claim]:
    """Certificates, the printed constants, the leading order, and sizes."""
    for i, kind in enumerate(KINDS):
        for j, stop in enumerate(settings.stop_losses):
            far = arrays["distance"][i, j].max()
            text = f"{LABELS[kind]}, loss {stop:g}: "
            text += "greatest distance of flow and minimiser"
            bar = 20 * stop**0.5
            source = f"Prop. {3 + i}" + ", corrected" * (i > 0)
            yield Claim.decided(text, source, 0.0, far, f"< {bar:g}", bool(far < bar))
    for i, kind in enumerate(KINDS[1:]):
        yield from _printed_claims(settings, arrays, i)
        source = f"Prop. {4 + i}"
        slope = np.polyfit(np.log(arrays["rhos"]), np.log(arrays["order"][i]).T, 1)[0]
        text = f"{LABELS[kind]}: order in rho of what the leading term leaves out"
        yield Claim.close(text, source, 2.0, slope.mean(), 0.1)
        share = " / n" if kind == "max_sum" else ""
        sizes = f"Prop. 1, Eq. {17 if share else 16}"
        text = f"{LABELS[kind]}: leading |Delta|_1 over 4 d integral of L{share}"
        center = np.exp(np.log(arrays["size"][i]).mean())
        yield Claim.decided(
            text, f"{sizes}, corrected", 1.0, center, "0.5 to 2", bool(0.5 < center < 2)
        )
        text = f"{LABELS[kind]}: leading |Delta|_1 over d integral of L{share}"
        within = bool(0.5 < 4 * center < 2)
        source = f"{sizes}, printed"
        yield Claim.decided(text, source, 1.0, 4 * center, "0.5 to 2", within)


def _printed_claims(settings: Settings, arrays: Arrays, i: int) -> Iterator[Claim]:
    """The printed constants at the lowest loss, SAM's kind i."""
    wrong = arrays["printed"][i, -1]
    source, kind = f"Prop. {4 + i}, printed", KINDS[i + 1]
    passed = np.mean(wrong < arrays["tolerance"][i + 1, -1])
    text = f"{LABELS[kind]}: share of flows certified with the constants as printed"
    yield Claim.decided(text, source, 1.0, passed, ">= 0.95", bool(passed >= 0.95))
    limit = 20 * settings.stop_losses[-1] ** 0.5  # of the right one, above
    for alpha, least in zip(settings.alphas, wrong.min(1), strict=True):
        text = f"{LABELS[kind]}, alpha = {alpha:g}: least distance of flow and printed "
        text += "minimiser"
        words = f"> {limit:g}"
        yield Claim.decided(text, "control", None, least, words, bool(least > limit))


def plot(arrays: Arrays) -> plotting.Figure:
    """Distances over alpha, right and as printed; the leading term's error over rho."""
    figure, axes = plotting.panels(1, 2, width=4.6, height=3.4)
    alphas, rhos = arrays["alphas"], arrays["rhos"]
    for i, (kind, color) in enumerate(zip(KINDS, plotting.COLORS, strict=False)):
        line = {"geometric": True, "color": color, "label": LABELS[kind]}
        plotting.band(axes[0], alphas, arrays["distance"][i, -1].T, **line)
        if kind != "erm":
            plotting.band(axes[1], rhos, arrays["order"][i - 1], **line)
            printed = line | {"label": f"{LABELS[kind]}, as printed", "linestyle": ":"}
            plotting.band(axes[0], alphas, arrays["printed"][i - 1, -1].T, **printed)
    axes[0].set(xscale="log", yscale="log", xlabel=r"$\alpha$")
    axes[0].set_ylabel("distance, relative")
    guide = arrays["order"].mean() * (rhos / rhos[0]) ** 2
    axes[1].plot(rhos, guide, color="gray", linestyle="--", label=r"$\rho^2$")
    axes[1].set(xscale="log", yscale="log", xlabel=r"$\rho$")
    axes[1].minorticks_off()
    axes[1].set_xticks(rhos, [f"{rho:g}" for rho in rhos])
    axes[1].set_ylabel(r"error of leading-order $\log\,\alpha_{\mathrm{eff}}$")
    axes[0].legend(frameon=False, fontsize="small", ncols=2, loc="upper left")
    axes[0].set_ylim(top=30 * arrays["printed"].max())
    axes[1].legend(frameon=False, fontsize="small")
    return figure
