"""A network and a data set that are not of this library."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from sam_jax import data


class Net(nn.Module):
    """BatchNorm on the images, dropout on the hidden units; kernels start at a half."""

    num_classes: int
    width: int = 4
    rate: float = 0.5

    @nn.compact
    def __call__(self, images, train):
        x = images.reshape(len(images), -1)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.97)(x)
        start = nn.initializers.constant(0.5)
        x = jnp.tanh(nn.Dense(self.width, kernel_init=start)(x))
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


def points(count=48, shift=0.0):
    """Three classes of 2 x 2 float images around different means."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = random.standard_normal((count, 2, 2, 1)) + labels[:, None, None, None]
    images = (images + shift).astype(np.float32)
    mean, std = images.mean((0, 1, 2)), images.std((0, 1, 2))
    return data.Dataset(
        images, labels, images[:9], labels[:9], ("a", "b", "c"), mean, std, 1.0
    )


def wrong_shape(num_classes):
    return Net(num_classes + 1)


def counting(num_classes):
    class Counting(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            self.variable("counts", "calls", jnp.zeros, ())
            return nn.Dense(num_classes)(images.reshape(len(images), -1))

    return Counting()


class NoTrain(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


def no_module(num_classes):
    return num_classes


def bad_labels():
    return points()._replace(test_labels=np.full(9, 7))


def bad_images():
    return points()._replace(train_images=np.zeros((48, 4)))


def raises():
    return {"images": 1}


SEVEN = 7
