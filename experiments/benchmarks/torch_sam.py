"""Plain SAM in PyTorch, to time against ours; run by `peers` under .venv-peers.

`python torch_sam.py SIZE CHANNELS BATCH` takes one step for every line it reads and
answers with its seconds. The network is that of `sam_jax.models.PreActResNet` at width
16 with GroupNorm; SAM is written as most PyTorch code has it: gradient, climb,
gradient, back to where it was, SGD with momentum.
"""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, CLASSES, RHO = 16, 10, 0.1


def conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(WIDTH // 2, channels)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = norm(inputs), norm(outputs)
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.conv2 = conv(outputs, outputs, 3, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else conv(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm1(x))
        if self.shortcut is not None:
            x = self.shortcut(h)
        return x + self.conv2(F.relu(self.norm2(self.conv1(h))))


def network(channels: int) -> nn.Module:
    layers: list[nn.Module] = [conv(channels, WIDTH, 3, 1)]
    inputs = WIDTH
    for stage in range(4):
        for block in range(2):
            outputs = WIDTH * 2**stage
            layers.append(Block(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    head = (norm(inputs), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, *head, nn.Linear(inputs, CLASSES))


def sam_step(model: nn.Module, optimizer: torch.optim.Optimizer, images, labels):
    weights = list(model.parameters())

    def gradient() -> list[torch.Tensor]:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        return [w.grad for w in weights]

    with torch.no_grad():
        with torch.enable_grad():
            gradients = gradient()
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        shifts = torch._foreach_mul(gradients, RHO / (length + 1e-12))
        torch._foreach_add_(weights, shifts)
        with torch.enable_grad():
            gradient()
        torch._foreach_sub_(weights, shifts)
    optimizer.step()


def main(size: int, channels: int, batch: int) -> None:
    torch.manual_seed(0)
    model = network(channels).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images = torch.randn(batch, channels, size, size)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,))
    print(torch.__version__, torch.get_num_threads(), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        sam_step(model, optimizer, images, labels)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
