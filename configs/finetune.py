"""SAM on a network that is trained already: the last part of Fig. 2, for any run.

Recipe (App. C, Sec. 3.3): the settings of the run given, its newest checkpoint, SAM
with rho = .2, twice the usual, for a tenth of that run's epochs, at the learning rate
it ended with: a hundredth of the first one for piecewise constant rates. Give the work
directory of the run as the variant: `--config=configs/finetune.py:DIR`.

Expected: on CIFAR-10 the test error falls below ERM's, as in Fig. 2 (no number is
printed). It starts from a new momentum, unlike the exact continuation by which
`python -m experiments run fig2` compares ERM with ERM -> SAM.

Without a directory: the paper's settings, to be given `--config.init_from=DIR` of a run
of `configs/cifar10.py`.
"""

import pathlib

from ml_collections import ConfigDict

from sam_jax.training import configuration, recipes

LAST_RATE = 0.01  # of the peak, after two decays by ten


def get_config(workdir: str = "") -> ConfigDict:
    config = recipes.base()
    if workdir:
        path = pathlib.Path(workdir) / "config.json"
        if not path.is_file():
            raise ValueError(
                f"{workdir} is no work directory of a run: it holds no config.json. "
                "Give --config=configs/finetune.py:DIR."
            )
        config = configuration.read(path)
    config.init_from = workdir
    config.epochs = max(1, config.epochs // 10)
    config.schedule.update(
        name="constant", peak=LAST_RATE * config.schedule.peak, warmup_epochs=0.0
    )
    config.sam.update(kind="sam", rho=0.2, start_epoch=0, stop_epoch=0)
    config.checkpoint.every_epochs = min(config.checkpoint.every_epochs, config.epochs)
    return config
