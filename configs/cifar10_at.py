"""Adversarial training on CIFAR-10 (Fig. 7, 13, Sec. 5): ERM, SAM, AWP, GCE, pairing.

Recipe: `configs/cifar10.py` on images attacked in linf, eps 8/255, by 5 PGD steps of
size 2 eps/5 from random points; robust error by 10 steps of eps/4 at every evaluation,
best epoch by that on the validation set. 200 epochs (Fig. 13) with a tenth of the
learning rate at 50% and 75%; `long` has the 1000 of Fig. 7. GCE with q = .9. Pairing:
lambda 1 from 50% of the epochs on, with an image in another augmentation. The paper
does not print SAM's rho here; .1 is its value on clean images. AWP (Wu et al. 2020)
perturbs the weights of every layer by .01 of their norm.

Expected robust test error of the paper by AutoAttack, best epoch: at 52.56%, pairing
51.15%, sam 50.07%. GCE overfits less, but is no better at its best epoch.

cpu is the recipe in minutes on scikit-learn's digits: a small convolutional network
and eps = .2, which leaves a robust error of 20-70%; join it last, as in
`--config=configs/cifar10_at.py:sam,cpu`. Robust test error by PGD there, last epoch,
three seeds: at 26.6 ± 1.2%, sam 26.8 ± 1.8 (rho .05), pairing_tenth 23.5 ± 1.2, gce
56.5 ± 2.5, clean 95.6 ± 0.6. Robust overfitting is not seen on digits.

fashion is the same on Fashion-MNIST, with enough test images to decide and so few for
training that adversarial training overfits: robust test error by PGD, best and last
epoch, ten seeds, at 43.2 and 49.5%, sam 43.2 and 48.4, pairing 42.3 and 42.0.

Variants: at (default), sam, awp, gce, pairing, pairing_tenth (lambda .1), trades, clean
(no attack in training), long, ema, cpu, fashion, smoke.
"""

from ml_collections import ConfigDict

from sam_jax.training import recipes


def get_config(names: str = "") -> ConfigDict:
    config = recipes.base()
    config.epochs = 200
    config.attack.update(kind="adversarial", eps=8 / 255, eval_steps=10)
    variants = {
        "at": recipes.ascent("erm"),
        "sam": recipes.ascent("sam", rho=0.1),
        "awp": recipes.ascent("layerwise_sam", rho=0.01, only_kernels=True),
        "gce": lambda c: c.loss.update(name="generalized_cross_entropy", q=0.9),
        "pairing": lambda c: c.pairing.update(weight=1.0),
        "pairing_tenth": lambda c: c.pairing.update(weight=0.1),
        "trades": lambda c: c.attack.update(kind="trades"),
        "clean": lambda c: c.attack.update(kind="none"),
        "long": lambda c: c.update(epochs=1000),
        "ema": lambda c: c.ema.update(decay=0.999),
        "cpu": digits,
        "fashion": fashion,
        "smoke": smoke,
    }
    return recipes.choose(config, variants, names)


def digits(config: ConfigDict) -> None:
    """The same on digits, in minutes on two cores.

    Half of the training set validates and nothing is augmented, so that there is
    something to overfit. Without a long warm-up the network does not train. Of the
    weights .01, .03, .1 and 1 of the pairing term .1 had the least robust validation
    error, on a seed that the experiments leave out; with 1 the network unlearns.
    """
    config.epochs = 80
    config.batch_size = 64
    config.l2 = 1e-4
    config.data.name = "digits"
    config.data.validation_fraction = 0.5
    config.data.augment.update(crop_padding=0, mirror=False)
    config.model.update(name="conv_net", widths=(16, 32), hidden=64)
    config.schedule.update(peak=0.05, warmup_epochs=10.0)
    config.ema.decay = min(config.ema.decay, 0.99)  # of some hundred steps, not 70,000
    config.attack.eps = 0.2
    config.eval.update(every_epochs=5, batch_size=1000)
    config.checkpoint.every_epochs = config.epochs


def fashion(config: ConfigDict) -> None:
    """The same on Fashion-MNIST at 14 x 14 (means of blocks), in minutes a run.

    1,000 training images and as many that validate, robust errors on 2,000 test images.
    Found on a seed that the experiments leave out: there the robust
    test error rises from 44 to 50% while that on the training images falls to 9. A
    network of half the width, or a dense one with two layers of 512, does not fit them
    and does not overfit.
    """
    recipes.fashion(config)
    config.epochs = 200
    config.batch_size = 50
    config.l2 = 1e-4
    config.data.train_examples = 2000
    config.data.validation_fraction = 0.5
    config.model.update(name="conv_net", widths=(32, 64), hidden=256)
    config.schedule.update(peak=0.05, warmup_epochs=6.0)
    config.ema.decay = min(config.ema.decay, 0.99)
    config.attack.eps = 0.1
    config.eval.update(every_epochs=6, examples=2000, batch_size=1000)
    config.checkpoint.update(every_epochs=config.epochs, best=True)


def smoke(config: ConfigDict) -> None:
    """The recipe in seconds: three epochs of a small dense network on digits."""
    digits(config)
    config.epochs = 3
    config.model.update(name="mlp", widths=(16,))
    config.schedule.warmup_epochs = 1.0
    config.attack.update(eps=0.05, steps=2, eval_steps=2)
    config.eval.every_epochs = 1
    config.checkpoint.every_epochs = 1
