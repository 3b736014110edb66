"""Pre-activation residual networks (He et al. 2016, Identity Mappings)."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike, Float, Num

from sam_jax import checks
from sam_jax.models import initialization, inputs
from sam_jax.models.normalization import MOMENTUM, GroupNorm
from sam_jax.models.simple import dense
from sam_jax.ops.convolution import conv_general_dilated

EPSILON = 1e-5
NORMS = {"batch": nn.BatchNorm, "group": GroupNorm}

Layer = Callable[..., nn.Module]


def convolution(
    features: int,
    size: int,
    stride: int,
    *,
    dtype: DTypeLike | None,
    convolve: Callable[..., Array],
    name: str,
) -> nn.Conv:
    """A convolution without bias, padded by size // 2 on every side."""
    return nn.Conv(
        features,
        kernel_size=(size, size),
        strides=(stride, stride),
        padding=size // 2,  # explicit: "SAME" pads a stride of 2 on one side only
        use_bias=False,
        dtype=dtype,
        kernel_init=initialization.conv_kernel,
        conv_general_dilated=convolve,
        name=name,
    )


class PreActBlock(nn.Module):
    """x -> shortcut + conv(relu(norm(conv(h)))) with h = relu(norm(x)) (Fig. 1b).

    The shortcut is x itself where the shape stays, and a 1x1 convolution of h, which
    is activated already, where it changes.

    Attributes:
      features: output channels.
      stride: of the first convolution and of the shortcut.
      conv: (features, kernel_size, stride, name) -> convolution.
      norm: (name) -> normalisation.
    """

    features: int
    stride: int
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height2 width2 features"]:
        h = nn.relu(self.norm(name="norm1")(x))
        if self.stride != 1 or x.shape[-1] != self.features:
            x = self.conv(self.features, 1, self.stride, name="shortcut")(h)
        h = self.conv(self.features, 3, self.stride, name="conv1")(h)
        h = nn.relu(self.norm(name="norm2")(h))
        return x + self.conv(self.features, 3, 1, name="conv2")(h)


class PreActResNet(nn.Module):
    """3x3 convolution, four stages of blocks, norm, ReLU, mean over positions, dense.

    Stage s = 0, 1, 2, 3 has 2^s width channels; all but the first halve the image.
    Convolutions have no bias and pad by 1 explicitly. Any image size, any number of
    classes: two classes get two logits, where the code of the paper's authors has one
    and puts a zero before it.

    BatchNorm in train mode normalises with the statistics of the batch it is given
    (under `vmap` over groups: of the group) and returns updated running statistics,
    .9 old + .1 new, in the mutable collection "batch_stats". With `axis_name` the
    statistics are those of all devices (of those in the same list of
    `axis_index_groups`). GroupNorm looks at one example at a time and ignores both.

    Attributes:
      num_classes: number of logits, >= 1.
      stage_sizes: blocks in each stage; (2, 2, 2, 2) is ResNet-18, (3, 4, 6, 3) -34.
      width: channels of the first stage.
      norm: "batch" or "group".
      groups: of every GroupNorm, contiguous channels; default width // 2 as the paper's
        authors have it: 2 channels a group in the first stage, 16 in the last.
      dtype: of the computation; None follows inputs and parameters. Statistics are
        accumulated in float32 or wider.
      axis_name: mapped axis over which BatchNorm averages, or None.
      axis_index_groups: device indices that share statistics, or None for all.
      convolve: called like `lax.conv_general_dilated`.
    """

    num_classes: int
    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    norm: str = "batch"
    groups: int | None = None
    dtype: DTypeLike | None = None
    axis_name: str | None = None
    axis_index_groups: Sequence[Sequence[int]] | None = None
    convolve: Callable[..., Array] = conv_general_dilated

    def __post_init__(self) -> None:
        checks.integer("num_classes", self.num_classes, 1)
        checks.integer("width", self.width, 1)
        checks.choose("norm", self.norm, NORMS)
        inputs.check_dtype(self.dtype)
        sizes = tuple(checks.integer("stage_sizes", n, 1) for n in self.stage_sizes)
        self.stage_sizes = sizes
        self._check_groups()
        if self.axis_index_groups is not None:
            if self.axis_name is None:
                raise ValueError(
                    f"Received axis_index_groups={self.axis_index_groups!r} without an "
                    "axis_name; name the mapped axis that the indices belong to."
                )
            self.axis_index_groups = tuple(map(tuple, self.axis_index_groups))
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Num[ArrayLike, "batch ..."], train: bool
    ) -> Float[Array, "batch classes"]:
        x = inputs.as_images(images)
        self._check_batch(x.shape[0], train)
        conv = partial(convolution, dtype=self.dtype, convolve=self.convolve)
        norm = self._norm(train)
        x = conv(self.width, 3, 1, name="conv")(x)
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                x = PreActBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    conv=conv,
                    norm=norm,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x)
        x = jnp.mean(nn.relu(norm(name="norm")(x)), axis=(1, 2))
        return dense(self.num_classes, dtype=self.dtype, name="head")(x)

    def _norm(self, train: bool) -> Layer:
        if self.norm == "group":
            groups = self.groups or default_groups(self.width)
            return partial(GroupNorm, groups, epsilon=EPSILON, dtype=self.dtype)
        return partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=MOMENTUM,
            epsilon=EPSILON,
            dtype=self.dtype,
            axis_name=self.axis_name,
            axis_index_groups=self.axis_index_groups,
        )

    def _check_groups(self) -> None:
        if self.norm == "batch":
            if self.groups is not None:
                raise ValueError(
                    f"Received groups={self.groups!r} with norm='batch'; groups belong "
                    "to norm='group'."
                )
            return
        groups = default_groups(self.width) if self.groups is None else self.groups
        checks.integer("groups", groups, 1)
        if self.width % groups:
            raise ValueError(
                f"{groups} groups do not divide width={self.width}; give groups= a "
                f"divisor of the width: {inputs.divisors(self.width)}."
            )

    def _check_batch(self, batch: int, train: bool) -> None:
        alone = batch == 1 and self.axis_name is None
        if train and alone and self.norm == "batch" and not self.is_initializing():
            raise ValueError(
                "Received one example for BatchNorm in train mode, which needs "
                "statistics of several. Use norm='group', or larger batches or groups "
                "(m > 1); to evaluate, call with train=False."
            )


def default_groups(width: int) -> int:
    """width // 2: 32 groups at width 64, as in the GroupNorm paper (Wu & He 2018)."""
    return max(1, width // 2)
