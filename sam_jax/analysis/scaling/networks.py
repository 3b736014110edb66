"""Networks as lists of matrix products, of published sizes."""

from typing import NamedTuple


class Layer(NamedTuple):
    """A matrix product of an example, T by K by N, and how often the network has it."""

    positions: int
    inputs: int
    outputs: int
    times: int = 1

    @property
    def parameters(self) -> int:
        return self.times * self.inputs * self.outputs

    @property
    def multiplications(self) -> int:
        """Of a forward pass."""
        return self.parameters * self.positions

    @property
    def is_gram(self) -> bool:
        """Whether implicit m = 1 takes gram matrices rather than K by N ones here."""
        return self.gram <= self.multiplications

    @property
    def gram(self) -> int:
        """Multiplications that gram matrices add: X X^T and D D^T for the norm, X' X^T
        and its product with D in the perturbed pass, two more in its backward pass.
        """
        return 3 * self.times * self.positions**2 * (self.inputs + self.outputs)


class Network(NamedTuple):
    """layers: its matrix products. others: parameters of no product (biases, norms,
    lookups). attention: multiplications without parameters, forward. activations: bytes
    that an example leaves for the backward pass. moments: of the optimiser, a
    parameter. examples: of a batch on one chip.
    """

    name: str
    layers: tuple[Layer, ...]
    others: int
    attention: int
    activations: float
    moments: int
    examples: int

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers) + self.others

    @property
    def forward(self) -> int:
        """Multiplications of a forward pass of one example."""
        return sum(layer.multiplications for layer in self.layers) + self.attention


def resnet50() -> Network:
    """He et al. 2016, with the stride in the 3 x 3 convolutions, on 224 x 224 pixels.

    Activations: of every convolution the result, and what its norm makes of it.
    """
    layers = [Layer(112**2, 7 * 7 * 3, 64)]
    inputs, size = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            down = stage > 0 and block == 0
            before, size = size, size // 2 if down else size
            layers += [
                Layer(before**2, inputs, width),
                Layer(size**2, 9 * width, width),
                Layer(size**2, width, 4 * width),
            ]
            if block == 0:
                layers.append(Layer(size**2, inputs, 4 * width))
            inputs = 4 * width
    norms = 2 * sum(layer.outputs for layer in layers)
    kept = 2 * sum(layer.positions * layer.outputs for layer in layers)
    layers.append(Layer(1, 2048, 1000))
    return Network("ResNet-50", tuple(layers), norms + 1000, 0, 2.0 * kept, 1, 128)


def transformer_activations(positions: int, width: int, depth: int) -> float:
    """Bytes of an example: 34 a position, width and layer, with the attention's matrix
    made anew (Korthikanti et al. 2022, arXiv:2205.05198, Eq. 2 without its last term).
    """
    return 34.0 * positions * width * depth


def vit_base() -> Network:
    """ViT-B/16 (Dosovitskiy et al. 2021) on 224 x 224 pixels."""
    tokens, width, depth = 197, 768, 12
    block = _block(tokens, width, depth)
    layers = (Layer(196, 768, width), *block, Layer(1, width, 1000))
    biases = depth * _block_others(width)
    others = biases + (tokens + 1) * width + 2 * width + width + 1000
    return Network(
        "ViT-B/16",
        layers,
        others,
        2 * depth * tokens**2 * width,
        transformer_activations(tokens, width, depth),
        2,
        64,
    )


def gpt(
    name: str, length: int, width: int, depth: int, vocabulary: int, examples: int
) -> Network:
    """As GPT-2 and GPT-3: learned positions, tied embedding, an MLP of four widths."""
    return Network(
        name,
        (*_block(length, width, depth), Layer(length, width, vocabulary)),
        depth * _block_others(width) + length * width + 2 * width,
        2 * depth * length**2 * width,
        transformer_activations(length, width, depth),
        2,
        examples,
    )


def llama_70b() -> Network:
    """Llama 2 70B (Touvron et al. 2023): eight heads of keys and values, a gated MLP,
    an embedding of its own at each end. Of a layer its input alone is kept, and the
    rest made anew: activations of one layer at a time.
    """
    length, width, depth, hidden, keys = 4096, 8192, 80, 28672, 1024
    layers = (
        Layer(length, width, width, 2 * depth),
        Layer(length, width, keys, 2 * depth),
        Layer(length, width, hidden, 2 * depth),
        Layer(length, hidden, width, depth),
        Layer(length, width, 32000),
    )
    kept = 2.0 * length * width * depth + transformer_activations(length, width, 1)
    others = (2 * depth + 1) * width + 32000 * width
    attention = 2 * depth * length**2 * width
    return Network("GPT 70B", layers, others, attention, kept, 2, 1)


def _block(positions: int, width: int, depth: int) -> tuple[Layer, ...]:
    return (
        Layer(positions, width, 3 * width, depth),
        Layer(positions, width, width, depth),
        Layer(positions, width, 4 * width, depth),
        Layer(positions, 4 * width, width, depth),
    )


def _block_others(width: int) -> int:
    """Biases of its four layers, and two norms."""
    return (3 + 1 + 4 + 1) * width + 4 * width


NETWORKS = (
    resnet50(),
    vit_base(),
    gpt("GPT 125M", 1024, 768, 12, 50257, 8),
    gpt("GPT 1B", 2048, 2048, 24, 50257, 2),
    llama_70b(),
)
