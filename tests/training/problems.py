"""Small runs for the tests of training."""

from configs import common


def tiny(**changes):
    """A run of a second: softmax regression on digits; keys as data__name="digits"."""
    config = common.base()
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
