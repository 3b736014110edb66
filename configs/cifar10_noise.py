"""CIFAR-10 with 60% uniform label noise: overfitting of ERM and SAM (Fig. 3, 10b).

Recipe: that of `configs/cifar10.py`; the labels of 60% of the training examples are
replaced by uniformly random ones, the true class included, once for the whole run. The
best epoch is chosen by the error on the noisy validation set.

Expected test error of the paper at the best epoch: normalised SAM 10.03% (rho .2) and
unnormalised 10.29% (rho .4). ERM is worse at its best epoch and overfits far more
after it; SAM overfits in the end, too (Fig. 3a, without figures in the text).

Variants: erm (default), sam, unnormalized; embedded, fashion or smoke joins any.
"""

from ml_collections import ConfigDict

from sam_jax.training import recipes


def get_config(names: str = "") -> ConfigDict:
    config = recipes.base()
    config.data.noise.fraction = 0.6
    unnormalized = {"normalize": False, "rho": 0.4}  # App. B.3
    variants = {
        "erm": recipes.ascent("erm"),
        "sam": recipes.ascent("sam", rho=0.2),
        "unnormalized": recipes.ascent("sam", **unnormalized),
        "embedded": recipes.embedded,
        "fashion": recipes.fashion,
        "smoke": recipes.smoke,
    }
    return recipes.choose(config, variants, names)
