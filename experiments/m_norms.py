"""Test error against m, with GroupNorm and with BatchNorm.

With BatchNorm a group has statistics of its own, so that smaller groups change the
network as well as the perturbation, and m = 1 has none. Otherwise as `m_sharpness`.
"""

from experiments.harness.comparison import (
    FASHION_RHO,
    FASHION_SEEDS,
    FASHION_TUNING,
)
from experiments.m_sharpness import Settings, judge, methods, plot, run, runs

__all__ = ["SCALES", "SOURCE", "judge", "methods", "plot", "run", "runs"]

SOURCE = "m-sharpness, BatchNorm and GroupNorm"
SCALES = {
    "smoke": Settings(
        seeds=(0,),
        m=(0,),
        rho=(0.1,),
        norms=("batch",),
        recipe="smoke",
        changes={"epochs": 1, "schedule.warmup_epochs": 0.0},
    ),
    "cpu": Settings(
        seeds=(0, 1, 2),
        m=(1, 16, 0),
        rho=(0.05, 0.1, 0.2, 0.4),
        # .04 and .4 were tried after .02 and .2, the largest, had been chosen.
        rho_single=(0.005, 0.01, 0.02, 0.04),
        rho_group=(0.05, 0.1, 0.2, 0.4),
        norms=("group", "batch"),
        recipe="embedded",
        changes={"epochs": 30, "schedule.warmup_epochs": 3.0},
    ),
    "fashion": Settings(
        seeds=FASHION_SEEDS,
        m=(1, 16, 0),
        rho=FASHION_RHO,
        chunk=1,
        norms=("group", "batch"),
        tuning=FASHION_TUNING,
        recipe="fashion",
    ),
    "paper": Settings(norms=("group", "batch")),
}
