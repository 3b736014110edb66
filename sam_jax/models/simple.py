"""Small networks: linear, multilayer perceptron, convolutional.

All are called with (images, train) like the residual networks; `train` changes nothing
here.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
from jaxtyping import Array, ArrayLike, DTypeLike, Float, Num

from sam_jax import checks
from sam_jax.models import initialization, inputs
from sam_jax.ops.convolution import conv_general_dilated

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu}

Images = Num[ArrayLike, "batch ..."]
Logits = Float[Array, "batch classes"]


def dense(features: int, *, dtype: Any = None, **options: Any) -> nn.Dense:
    """A dense layer with the initialisation of `initialization.initial_rule`."""
    return nn.Dense(
        features, dtype=dtype, kernel_init=initialization.dense_kernel, **options
    )


class Linear(nn.Module):
    """logits = x W + b, with x the flattened image.

    Attributes:
      num_classes: number of logits, >= 1.
      use_bias: whether there is a b.
      dtype: of the computation; None follows inputs and parameters.
    """

    num_classes: int
    use_bias: bool = True
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        checks.integer("num_classes", self.num_classes, 1)
        inputs.check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Logits:
        del train
        head = dense(
            self.num_classes, use_bias=self.use_bias, dtype=self.dtype, name="head"
        )
        return head(inputs.as_vectors(images))


class MLP(nn.Module):
    """x -> act(x W + b) for every hidden layer, then a linear head.

    Attributes:
      num_classes: number of logits, >= 1.
      widths: of the hidden layers.
      activation: "relu", "tanh" or "gelu"; the last two are smooth.
      dtype: of the computation; None follows inputs and parameters.
    """

    num_classes: int
    widths: Sequence[int] = (256, 256)
    activation: str = "relu"
    dtype: DTypeLike | None = None

    def __post_init__(self) -> None:
        checks.integer("num_classes", self.num_classes, 1)
        self.widths = tuple(checks.integer("widths", w, 1) for w in self.widths)
        checks.choose("activation", self.activation, ACTIVATIONS)
        inputs.check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Logits:
        del train
        x = inputs.as_vectors(images)
        for i, width in enumerate(self.widths, start=1):
            layer = dense(width, dtype=self.dtype, name=f"dense{i}")
            x = ACTIVATIONS[self.activation](layer(x))
        return dense(self.num_classes, dtype=self.dtype, name="head")(x)


class ConvNet(nn.Module):
    """3x3 convolutions with ReLU, all but the first of stride 2; then one hidden layer.

    The flattened features depend on the image size, and so do the parameters: images
    of another size than at initialisation are refused by flax.

    Attributes:
      num_classes: number of logits, >= 1.
      widths: channels of the convolutions, at least one.
      hidden: units of the hidden dense layer.
      dtype: of the computation; None follows inputs and parameters.
      convolve: called like `lax.conv_general_dilated`.
    """

    num_classes: int
    widths: Sequence[int] = (16, 32)
    hidden: int = 64
    dtype: DTypeLike | None = None
    convolve: Callable[..., Array] = conv_general_dilated

    def __post_init__(self) -> None:
        checks.integer("num_classes", self.num_classes, 1)
        self.widths = tuple(checks.integer("widths", w, 1) for w in self.widths)
        checks.integer("number of widths", len(self.widths), 1)
        checks.integer("hidden", self.hidden, 1)
        inputs.check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Images, train: bool) -> Logits:
        del train
        x = inputs.as_images(images)
        conv = partial(
            nn.Conv,
            kernel_size=(3, 3),
            padding=1,  # explicit: "SAME" pads a stride of 2 on one side only
            dtype=self.dtype,
            kernel_init=initialization.conv_kernel,
            conv_general_dilated=self.convolve,
        )
        for i, width in enumerate(self.widths, start=1):
            stride = 1 if i == 1 else 2
            x = nn.relu(conv(width, strides=stride, name=f"conv{i}")(x))
        x = dense(self.hidden, dtype=self.dtype, name="dense")(inputs.as_vectors(x))
        return dense(self.num_classes, dtype=self.dtype, name="head")(nn.relu(x))
