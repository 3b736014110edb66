"""A radius carried over batch size and width, against full sweeps.

The best radius of digits with a batch of 64, without normalisation, is carried to half
and to twice the batch, by `carry_rho`, and to these and twice the width by the rise of
the loss that it causes where training starts. Otherwise as `choose_rho`, whose default
rise stands beside. Margins are those of `choose_rho`; nothing was run before.
"""

from experiments.choose_rho import Settings, judge, plot, run, runs

__all__ = ["SCALES", "SOURCE", "TAKES", "judge", "plot", "run", "runs"]

SOURCE = "Choosing rho (ours)"
TAKES = ("m_sharpness", "m_norms", "choose_rho")
SCALES = {
    "smoke": Settings(sweeps=("smoke", "smoke_32"), changes={"model.name": "mlp"}),
    "cpu": Settings(sweeps=("digits", "digits_32", "digits_128", "digits_wide")),
    "paper": Settings(sweeps=("paper_group", "paper_256", "paper_wide")),
}
