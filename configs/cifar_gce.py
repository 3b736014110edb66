"""SAM with cross-entropy and with a robust loss, under label noise (Table 2).

Recipe (App. C, after Huang et al. 2020): PreAct ResNet-34 of width 64 with BatchNorm,
200 epochs of batch 128, crops and mirroring, SGD 0.1 with momentum 0.9, cosine learning
rate of one cycle to 0, l2 5e-4 in the objective, generalised cross-entropy with q = .7,
an average of the weights with decay .999 from the first step on, best epoch by noisy
validation. rho of .025, .05, .1, .2, .3, .4; which one is not printed.

Expected test error of the paper in %, at 40% and 60% noise:

|          | CIFAR-10 40% | 60%   | CIFAR-100 40% | 60%   |
|----------|--------------|-------|---------------|-------|
| ce       | 17.06        | 23.06 | 44.82         | 58.30 |
| ce_sam   | 7.29         | 10.98 | 36.79         | 43.02 |
| gce_sam  | 7.18         | 10.41 | 28.82         | 37.32 |
| its EMA  | 7.62         | 9.74  | 27.79         | 35.91 |

Variants: gce_sam (default), gce, ce_sam, ce, each joined with any of cifar100,
noise60, embedded, fashion and smoke: `--config=configs/cifar_gce.py:gce_sam,cifar100`.
The EMA row is part of every run: the figures with the prefix ema_.
"""

from ml_collections import ConfigDict

from sam_jax.training import recipes


def get_config(names: str = "") -> ConfigDict:
    config = recipes.base()
    config.epochs = 200
    config.model.name = "preact_resnet34"
    config.schedule.name = "cosine"
    config.data.noise.fraction = 0.4
    config.ema.decay = 0.999
    config.loss.name = "generalized_cross_entropy"
    config.sam.kind = "sam"
    variants = {
        "gce_sam": recipes.ascent("sam"),
        "ce_sam": lambda c: c.update(loss={"name": "cross_entropy"}),
        "gce": recipes.ascent("erm"),
        "ce": lambda c: c.update(loss={"name": "cross_entropy"}, sam={"kind": "erm"}),
        "cifar100": lambda c: c.update(data={"name": "cifar100"}),
        "noise60": lambda c: c.update(data={"noise": {"fraction": 0.6}}),
        "embedded": recipes.embedded,
        "fashion": recipes.fashion,
        "smoke": recipes.smoke,
    }
    return recipes.choose(config, variants, names)
