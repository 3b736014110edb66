"""The parts of the paper: what each says, and the experiments that decide it.

The report and the README's table of results are ordered by them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.harness import claims
from experiments.harness.statistics import NEEDS_GPU, VERDICTS


class Part(NamedTuple):
    """key: of links. title: with its place in the paper. says: the statement, in a
    sentence. experiments: names, the one that shows most first.
    """

    key: str
    title: str
    says: str
    experiments: tuple[str, ...]


PARTS = (
    Part(
        "bias",
        "Implicit bias (Sec. 3.1, Prop. 3-5)",
        "On diagonal linear networks SAM's flow ends where gradient flow from a "
        "smaller start does, and more so with a perturbation per example (SumMax).",
        ("implicit_bias", "effective_scale", "m_toy"),
    ),
    Part(
        "sparse",
        "Sparse regression (Fig. 1 and 9)",
        "SumMax finds sparser solutions than ERM, MaxSum the same ones; stochastic "
        "methods find sparser ones than their deterministic versions.",
        ("fig9", "fig1"),
    ),
    Part(
        "convergence",
        "Convergence (Prop. 2, 6, 9-18, App. B)",
        "SAM's gradients or losses vanish at the rates of gradient descent; the "
        "printed constants are held against the corrected ones.",
        ("convergence", "lemmas", "step_sizes", "facts", "errata"),
    ),
    Part(
        "clean",
        "Deep networks, clean labels (Fig. 2, 10, 11)",
        "SAM generalises better than ERM, already if it comes in for the last tenth of "
        "the training; normalised or not, it comes to the same error.",
        ("fig2", "early_switch", "fig10", "fig11", "averages"),
    ),
    Part(
        "noise",
        "Label noise (Fig. 3, Table 2)",
        "With most labels random, SAM has a smaller test error at its best epoch and "
        "fits the noise later; a robust loss (GCE) and averaging add to it.",
        ("main_job", "noisy_digits", "fig3", "table2"),
    ),
    Part(
        "linear",
        "Label noise, linear models (Fig. 4-6, Sec. 4)",
        "SAM helps linear classifiers too: noisy examples are fitted late, and their "
        "loss derivatives are damped least where they matter.",
        ("fig4", "fig5", "fig6"),
    ),
    Part(
        "mechanism",
        "Why SAM resists noise (Sec. 4)",
        "An ascent per example raises the loss derivatives of clean examples over "
        "those of noisy ones.",
        ("derivatives",),
    ),
    Part(
        "table1",
        "Direction or derivative (Table 1, Fig. 12)",
        "With two classes and 80% noise SAM's loss derivative alone helps more than "
        "its direction alone.",
        ("table1", "table1_factors", "table1_rule"),
    ),
    Part(
        "groups",
        "Examples that share a perturbation: m (Sec. 4, App. C)",
        "A batch of 128 in one group does as well as one of 256 in groups of 32; a "
        "perturbation per example (SumMax) is better than one of all.",
        ("large_batch", "sum_max_deep", "m_sharpness", "m_norms"),
    ),
    Part(
        "attacks",
        "Adversarial training (Sec. 5, Fig. 7, 8, 13)",
        "Robust overfitting is like overfitting noisy labels: SAM, GCE and pairing "
        "lower the robust error.",
        (
            "fig7",
            "label_noise_parallel",
            "fig13a",
            "gce_q",
            "fig13b",
            "robust_table",
            "robust_peers",
            "fig8",
        ),
    ),
    Part(
        "peers",
        "Other methods, and equal time",
        "Not of the paper: variants of others at equal steps, gradients and time, "
        "per-example SAM against SAM in the same time, and a rho chosen without a "
        "sweep.",
        ("peers", "equal_time", "sum_max_run", "choose_rho", "carry_rho"),
    ),
)
OLD = "judged without intervals"
OTHER = Part("other", "Further experiments", "Of later versions, or our own.", ())


def of(name: str) -> Part:
    """The part that an experiment belongs to; OTHER for one that is in none."""
    return next((part for part in PARTS if name in part.experiments), OTHER)


def order(name: str) -> tuple[int, int]:
    """Sorts experiments as PARTS has them; others come last."""
    part = of(name)
    if part is OTHER:
        return len(PARTS), 0
    return PARTS.index(part), part.experiments.index(name)


class Row(NamedTuple):
    """A part in a table. names: of its experiments with results. counted: of the
    paper's statements. example: its first statement, in words.
    """

    part: Part
    names: list[str]
    counted: list[tuple[str, str]]
    example: str


def shown(names: Iterable[str]) -> list[Part]:
    """The parts that some experiments belong to, in order."""
    found = {of(name) for name in names}
    return [part for part in (*PARTS, OTHER) if part in found]


def rows(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """A row for every part that has claims.

    Args:
      found: claims, as claims.json has them, by experiment.
    """
    listed = []
    for part in shown(name for name, claims_of in found.items() if claims_of):
        names = sorted((n for n in found if of(n) is part and found[n]), key=order)
        own = [claim for name in names for claim in found[name]]
        paper = [claim for claim in own if claim["kind"] == "paper"]
        shown_first = _measured(paper) or _measured(own) or own
        listed.append(Row(part, names, counted(paper), _example(shown_first)))
    return listed


def counted(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(verdict, words) for the verdicts that claims have, ("holds", "3 hold").

    A measurement that several experiments show counts once. Those of a version that
    judged without intervals are counted apart.
    """
    numbers = Counter(OLD if old(c) else c["verdict"] for c in once(found))
    return [
        (verdict, f"{numbers[verdict]} {_verb(verdict, numbers[verdict])}")
        for verdict in (*VERDICTS, OLD)
        if numbers[verdict]
    ]


def once(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Claims without those that repeat the interval of one before, to the digit; that
    of a share is one of few, and one without width is of seeds alike: they say nothing.
    """
    seen: set[tuple[float, ...]] = set()
    kept = []
    for claim in found:
        interval = tuple(claim.get("interval") or ())
        of_few = len(set(interval)) < 2 or claims.is_share(claim)
        if of_few or interval not in seen:
            kept.append(claim)
        seen.add(interval)
    return kept


def _verb(verdict: str, number: int) -> str:
    plural = {"holds": "hold", "needs a GPU": "need a GPU"}
    return verdict if number == 1 else plural.get(verdict, verdict)


def verdicts(found: Sequence[Mapping[str, Any]]) -> str:
    """The same in a line: "3 hold, 1 contrary"."""
    return ", ".join(words for _, words in counted(found))


def old(claim: Mapping[str, Any]) -> bool:
    """Whether a claim is of a version that judged without intervals, before 0.2.0."""
    return "command" not in claim


def _measured(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [claim for claim in found if claim["verdict"] != NEEDS_GPU]


def _example(candidates: Sequence[Mapping[str, Any]]) -> str:
    """The first claim that is over seeds, or else the first."""
    seeded = [c for c in candidates if c.get("seeds")]
    claim = (seeded or candidates)[0]
    interval = claim.get("interval")
    within = f" [{' to '.join(map(claims.show, interval))}]" if interval else ""
    over = f", {claim['seeds']} seeds" if claim.get("seeds") else ""
    return (
        f"{claim['claim']}: {claims.show(claim['measured'])}{within}{over} "
        f"({claim['verdict']})"
    )
