"""Train the small network that the package carries: Fashion-MNIST, 10 classes, about 90 000 parameters.

    apt-get install dataset-fashion-mnist
    pip install 'gatecast[torch]'
    python examples/train_fashion.py --output fashion.npz

Training takes about ten minutes on two cores. The same seed on the same machine with the same torch gives
the same file. The test set is looked at once, after the last epoch: no checkpoint is chosen by it. Then the
file is read back and its accuracy printed for float and for each format, under the arithmetic contract;
`--weights FILE` does only that.
"""

import argparse
import gzip
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import gatecast
from gatecast import zoo
from gatecast.errors import GatecastError
from gatecast.graph import Graph, evaluate

DATA = Path("/usr/share/datasets/fashion-mnist")
FORMATS = ("bfp8", "bfp7", "bfp6", "bfp5", "bfp4")
WARM_UP = 0.1  # share of the steps before the learning rate is at its top
AVERAGE_DECAY = 0.998  # of the running mean of the weights, which is what is kept


class Basic(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut; both paths halve the picture."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        shortcut = nn.Conv2d(channels_in, channels, 1, stride=2, bias=False)
        self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, beside the identity."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + x)


class Fashion(nn.Module):
    """The network `fashion`; the names of its parameters are those of torchvision's residual networks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(Basic(32, 32))
        self.layer2 = nn.Sequential(Basic(32, 64))
        self.layer3 = nn.Sequential(Bottleneck(64, 32))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.layer3(self.layer2(self.layer1(y)))
        return self.fc(y.mean(dim=(2, 3)))


def main() -> int:
    """Train, write the file, report what it is worth."""
    options = parse_arguments()
    try:
        if options.weights is None:
            train_and_write(options)
        report(options.weights or options.output, options)
    except GatecastError as error:
        return fail(str(error), error.hint)
    except OSError as error:
        return fail(
            str(error), "The four .gz files are in Debian's package dataset-fashion-mnist, or name --data."
        )
    return 0


def fail(message: str, hint: str) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return 1


def train_and_write(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    network = train(
        Fashion().to(memory_format=torch.channels_last), *read_split(options.data, "train"), options
    )
    pictures, labels = read_split(options.data, "t10k")
    print(f"torch: {100 * accuracy(network, pictures, labels):.2f} % of {len(labels)} test pictures")
    write(network, options.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the four .gz files [%(default)s]")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, help="the .npz file to write")
    what.add_argument("--weights", type=Path, help="train nothing; report on this file")
    parser.add_argument("--pictures", type=int, default=10_000, help="of the test set, for the report")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.2, help="the highest learning rate [%(default)s]")
    parser.add_argument("--decay", type=float, default=5e-4, help="weight decay [%(default)s]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def read_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return the pictures, float32 [N, 1, 28, 28] in 0..1, and the labels, int64 [N]."""
    with gzip.open(folder / f"{split}-images-idx3-ubyte.gz") as file:
        pictures = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{split}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return torch.from_numpy(pictures.astype(np.float32) / np.float32(255)), torch.from_numpy(
        labels.astype(np.int64)
    )


def train(network: nn.Module, pictures: Tensor, labels: Tensor, options: argparse.Namespace) -> nn.Module:
    """Return the running mean of the weights while `network` is trained."""
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE_DECAY), use_buffers=True
    )
    optimiser = torch.optim.SGD(
        network.parameters(), lr=options.rate, momentum=0.9, nesterov=True, weight_decay=options.decay
    )
    steps = options.epochs * (len(labels) // options.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step / steps))
    start = time.monotonic()
    for epoch in range(options.epochs):
        losses = []
        for batch in torch.randperm(len(labels)).split(options.batch):
            if len(batch) == options.batch:
                losses.append(step_once(network, augment(pictures[batch]), labels[batch], optimiser))
                schedule.step()
                average.update_parameters(network)
        minutes = (time.monotonic() - start) / 60
        print(
            f"epoch {epoch + 1}/{options.epochs}: loss {np.mean(losses):.4f}, {minutes:.1f} min",
            file=sys.stderr,
        )
    return average.module


def rate_at(progress: float) -> float:
    """Return the share of the highest learning rate: a line up, then half a cosine down to zero."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1 - WARM_UP))))


def step_once(
    network: nn.Module, pictures: Tensor, labels: Tensor, optimiser: torch.optim.Optimizer
) -> float:
    network.train()
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16):  # twice as fast where the processor multiplies bfloat16
        scores = network(pictures.contiguous(memory_format=torch.channels_last))
    loss = functional.cross_entropy(scores.float(), labels, label_smoothing=0.05)
    loss.backward()
    optimiser.step()
    return loss.item()


def augment(pictures: Tensor) -> Tensor:
    """Shift by up to two pixels and mirror, each picture by itself; black out a square in every fourth."""
    count, size = len(pictures), pictures.shape[-1]
    padded = functional.pad(pictures, (2, 2, 2, 2))
    rows = torch.randint(0, 5, (count, 1)) + torch.arange(size)
    columns = torch.randint(0, 5, (count, 1)) + torch.arange(size)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    shifted = padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
    corner = torch.randint(-4, size - 4, (2, count, 1))
    inside = (torch.arange(size) >= corner) & (torch.arange(size) < corner + 8)
    erased = inside[0][:, :, None] & inside[1][:, None, :] & (torch.rand(count, 1, 1) < 0.25)
    return shifted.masked_fill(erased, 0.0)[:, None]


@torch.no_grad()
def accuracy(network: nn.Module, pictures: Tensor, labels: Tensor) -> float:
    network.eval()
    right = sum(
        int((network(part).argmax(1) == truth).sum())
        for part, truth in zip(pictures.split(500), labels.split(500), strict=True)
    )
    return right / len(labels)


def write(network: nn.Module, path: Path) -> None:
    """Write every parameter as a float32 array under its name, in the order of the names."""
    state = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    arrays = {name: state[name].detach().contiguous().numpy() for name in sorted(state)}
    np.savez(path, **arrays)
    count = sum(array.size for array in arrays.values())
    print(f"{path}: {count} numbers, {path.stat().st_size} bytes")


def report(path: Path, options: argparse.Namespace) -> None:
    """Print the accuracy of the written network as a Graph: float, then each format."""
    graph = zoo.load("fashion", weights=path)
    pictures, labels = read_split(options.data, "t10k")
    arrays, truth = pictures[: options.pictures].numpy(), labels[: options.pictures].numpy()
    exact = answers(graph, arrays)
    print(f"{'format':8}{'accuracy, %':>12}{'as float, %':>12}")
    print(f"{'float':8}{100 * np.mean(exact == truth):12.2f}{100:12.2f}")
    for name in FORMATS:
        found = answers(gatecast.quantize(graph, name), arrays)
        print(
            f"{name:8}{100 * np.mean(found == truth):12.2f}{100 * np.mean(found == exact):12.2f}", flush=True
        )


def answers(graph: Graph, pictures: np.ndarray) -> np.ndarray:
    """Return the class with the highest score for each picture [N, 1, 28, 28]."""
    scores = (evaluate(graph, {"images": picture.transpose(1, 2, 0)}) for picture in pictures)
    return np.array([result["probabilities"].argmax() for result in scores])


if __name__ == "__main__":
    sys.exit(main())
