"""The tables of docs/scaling.md."""

from sam_jax.analysis.scaling.costs import (
    H100,
    METHODS,
    TPU_V5P,
    Chip,
    memory,
    multiplications,
    places,
    step_seconds,
    traffic,
)
from sam_jax.analysis.scaling.networks import NETWORKS

CHIPS = (8, 256, 4096)


def table_of_networks() -> str:
    """Parameters, multiplications and the part of the layers that are gram."""
    rows = []
    for network in NETWORKS:
        gram = sum(la.multiplications for la in network.layers if la.is_gram)
        whole = sum(la.multiplications for la in network.layers)
        plain = multiplications(network, "SAM")
        ratio = multiplications(network, "implicit m = 1") / plain
        rows.append(
            [
                network.name,
                f"{network.parameters / 1e6:,.1f}",
                f"{network.forward / 1e9:,.1f}",
                str(network.examples),
                f"{network.activations / 2**20:,.0f}",
                f"{100 * gram / whole:.0f}%",
                f"{ratio:.2f}",
            ]
        )
    names = ["network", "parameters, 10^6", "multiplications forward, 10^9"]
    names += ["examples a chip", "activations, MiB an example"]
    names += ["of them in gram layers", "implicit / SAM"]
    return markdown(names, rows)


def table_of_memory(chip: Chip) -> str:
    """GB on one chip, at the least fsdp with which SAM fits."""
    rows = []
    for network in NETWORKS:
        for chips in CHIPS:
            mesh = places(network, chips, chip)
            if mesh is None:
                rows.append([network.name, str(chips), "does not fit", *["-"] * 4])
            elif chips == CHIPS[0] or places(network, CHIPS[0], chip) is None:
                found = [memory(network, m, mesh[1]).total / 1e9 for m in METHODS]
                cells = [f"{gb:.1f}" for gb in found]
                rows.append([network.name, str(chips), f"fsdp = {mesh[1]}", *cells])
    return markdown(["network", "chips", "mesh", *METHODS], rows)


def table_of_traffic() -> str:
    """GB that a chip's collectives make in a step, on a mesh of data x fsdp."""
    rows = []
    for network in NETWORKS:
        for fsdp in (1, 32):
            cells = []
            for method in METHODS:
                sent = traffic(network.parameters, method, 8, fsdp)
                parts = sent.reduced, sent.gathered, sent.scattered
                cells.append(" + ".join(f"{sum(part) / 1e9:.2f}" for part in parts))
            rows.append([network.name, str(fsdp), *cells])
    return markdown(["network", "fsdp", *METHODS], rows)


def table_of_steps(chip: Chip) -> str:
    """Milliseconds a step, at a usual batch and at one example a chip."""
    rows = []
    for network in NETWORKS:
        for chips in CHIPS:
            mesh = places(network, chips, chip)
            if mesh is None:
                continue
            for examples in sorted({network.examples, 1}, reverse=True):
                cells = [
                    f"{1e3 * step_seconds(network, m, examples, *mesh, chip):,.2f}"
                    for m in METHODS
                ]
                place = f"{chips} = {mesh[0]} x {mesh[1]}"
                rows.append([network.name, place, str(examples), *cells])
    return markdown(
        ["network", "chips = data x fsdp", "examples a chip", *METHODS], rows
    )


def markdown(names: list[str], rows: list[list[str]]) -> str:
    """A table of a Markdown page."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables() -> dict[str, str]:
    """Every table of docs/scaling.md, by its title."""
    found = {"Networks": table_of_networks(), "Exchange": table_of_traffic()}
    for chip in (H100, TPU_V5P):
        found[f"Memory, {chip.name}"] = table_of_memory(chip)
        found[f"Steps, {chip.name}"] = table_of_steps(chip)
    return found
