"""Small runs for the tests of training."""

from sam_jax.training import recipes

# What resumption is tested on: noise, augmentation, random perturbations, an average.
RUN = {
    "epochs": 3,
    "batch_size": 128,
    "model__name": "mlp",
    "model__widths": (8,),
    "model__dtype": "float32",
    "data__noise__fraction": 0.4,
    "data__augment__crop_padding": 1,
    "sam__kind": "random_perturbation",
    "ema__decay": 0.9,
}


def tiny(**changes):
    """A run of a second: softmax regression on digits; keys as data__name="digits"."""
    config = recipes.base()
    config.epochs = 2
    config.batch_size = 32
    config.data.name = "digits"
    config.data.augment.crop_padding = 0
    config.data.augment.mirror = False
    config.model.name = "linear"
    config.model.dtype = "float64"
    config.eval.batch_size = 512
    config.checkpoint.every_epochs = 1
    config.checkpoint.best = False
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config
