"""The same work in PyTorch, as an experienced engineer would write it, for the ratios of `launch/benchmark.py`.

It keeps tensors in memory, caches the teacher's logits, draws the order once per epoch, and uses fused Adam, channels
last where that is faster, and a local response norm of a 1x1 convolution and square roots (torch's own pools a
five-dimensional tensor and is several times slower). It sums metrics as tensors and reads them once per epoch.

It runs in float32 on the CPU, or with --device=cuda on one GPU, where products may use TF32, as JAX's may. With
--graphs, steps and forward passes are CUDA graphs, which cost one launch each. It needs torch, which cckd_jax does not:
pip install -e '.[peer]'
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cckd_jax import cpu
from cckd_jax.benchmark import protocol

TEMPERATURE, RATE = 20.0, 1e-2


class LocalResponseNorm(nn.Module):
    def __init__(self, channels: int, radius: int = 2, alpha: float = 1e-4):
        super().__init__()
        index = torch.arange(channels)
        near = ((index[:, None] - index).abs() <= radius).float() * alpha
        self.register_buffer('near', near[:, :, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        root = torch.rsqrt(F.conv2d(x * x, self.near) + 1.0)
        return x * root * root.sqrt()


def lenet(width: float) -> nn.Module:
    (first, second) = (round(6 * width), round(16 * width))
    return nn.Sequential(
        nn.Conv2d(1, first, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(25 * second, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, 10),
    )


def alexnet(width: float) -> nn.Module:
    modules: list[nn.Module] = []
    before = 3
    for index, (channels, size) in enumerate(((48, 5), (128, 5), (192, 3), (192, 3), (128, 3))):
        channels = round(channels * width)
        modules += [nn.Conv2d(before, channels, size, padding=size // 2), nn.ReLU(inplace=True)]
        modules += [LocalResponseNorm(channels)] if index < 2 else []
        modules += [nn.MaxPool2d(3, 2)] if index in (0, 1, 4) else []
        modules += [nn.BatchNorm2d(channels)]
        before = channels
    modules += [nn.Flatten()]
    before *= 9
    for units in (512, 256):
        units = round(units * width)
        modules += [nn.Linear(before, units), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.BatchNorm1d(units)]
        before = units
    return nn.Sequential(*modules, nn.Linear(before, 10))


NETWORKS = {
    'lenet5_half': (lambda: lenet(0.5), True),
    'lenet5': (lambda: lenet(1.0), True),
    'alexnet_half': (lambda: alexnet(0.5), False),
    'alexnet': (lambda: alexnet(1.0), False),
}


class Backend:
    """The device, and whether work on it is recorded as CUDA graphs."""

    def __init__(self, device: str = 'cpu', graphs: bool = False):
        self.device, self.graphs = torch.device(device), graphs

    def synchronize(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def recorded(self, work: Callable[[torch.Tensor], Any], rows: torch.Tensor) -> Callable[[torch.Tensor], None]:
        """Work on as many rows as these; with graphs, the rows are copied to where the graph reads them."""
        if not self.graphs:
            return work
        fixed = rows.clone()
        if self.device.type == 'cuda':
            # The first calls allocate what later ones reuse, on a stream of their own as a recording needs.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    work(fixed)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                work(fixed)
            replay = graph.replay
        else:
            replay = lambda: work(fixed)

        def copy_and_replay(rows: torch.Tensor) -> None:
            fixed.copy_(rows)
            replay()

        return copy_and_replay


BACKEND = Backend()


class Trainer:
    def __init__(self, network: str, arrays: str, alpha: float):
        loaded = np.load(arrays)
        device = BACKEND.device
        (make, channels_last) = NETWORKS[network]
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        torch.manual_seed(0)
        self.module = make().to(device, memory_format=self.format)
        capturable = BACKEND.graphs and device.type == 'cuda'
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=RATE, fused=True, capturable=capturable)
        self.images = torch.from_numpy(loaded['images']).to(device).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(loaded['labels']).to(device).long()
        teacher = torch.softmax(torch.from_numpy(loaded['teacher_logits']).to(device) / TEMPERATURE, 1)
        confidence = teacher.gather(1, self.labels[:, None])
        # y_C of CCKD-T depends on nothing that trains.
        self.targets = confidence * teacher + (1 - confidence) * F.one_hot(self.labels, teacher.shape[1])
        self.alpha = alpha

    def pixels(self, rows: torch.Tensor) -> torch.Tensor:
        return (self.images[rows].float() / 255).contiguous(memory_format=self.format)

    def keep(self, logits: torch.Tensor, rows: torch.Tensor, epoch: int) -> torch.Tensor:
        (first, second) = torch.softmax(logits / TEMPERATURE, 1).topk(2, 1).values.unbind(1)
        wrong = logits.argmax(1) != self.labels[rows]
        return wrong | (first - second < 1 - np.exp(-self.alpha * epoch))

    def losses(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return -(self.targets[rows] * F.log_softmax(logits / TEMPERATURE, 1)).sum(1)

    def descend(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def everyone(self, rows: torch.Tensor) -> None:
        self.descend(self.losses(self.module(self.pixels(rows)), rows).mean())

    def masked(self, rows: torch.Tensor, epoch: int) -> torch.Tensor:
        logits = self.module(self.pixels(rows))
        keep = self.keep(logits.detach(), rows, epoch)
        if keep.any():
            self.descend((self.losses(logits, rows) * keep).sum() / keep.sum())
        return keep.sum()

    def kept(self, rows: torch.Tensor, epoch: int) -> torch.Tensor:
        pixels = self.pixels(rows)
        with torch.inference_mode():
            keep = self.keep(self.module(pixels), rows, epoch).nonzero()[:, 0]
        keep = keep.clone()
        if len(keep):
            rows = rows[keep]
            self.descend(self.losses(self.module(pixels[keep]), rows).mean())
        return torch.tensor(len(keep), device=pixels.device)


def step(network: str, arrays: str, batch_size: int, steps: int):
    trainer = Trainer(network, arrays, 0.0)
    order = torch.Generator(BACKEND.device).manual_seed(0)
    draw = lambda: torch.randint(len(trainer.labels), (batch_size,), generator=order, device=BACKEND.device)
    train_batch = BACKEND.recorded(trainer.everyone, draw())

    def seconds() -> float:
        batches = [draw() for _ in range(steps)]
        BACKEND.synchronize()
        started = time.perf_counter()
        for rows in batches:
            train_batch(rows)
        BACKEND.synchronize()
        return (time.perf_counter() - started) / steps

    while True:
        seconds()
        yield {'seconds': seconds()}


def forward(network: str, arrays: str, batch_size: int, steps: int):
    trainer = Trainer(network, arrays, 0.0)
    trainer.module.eval()
    rows = torch.arange(batch_size, device=BACKEND.device) % len(trainer.labels)
    with torch.no_grad():
        predict = BACKEND.recorded(lambda rows: trainer.module(trainer.pixels(rows)), rows)

    def seconds() -> float:
        BACKEND.synchronize()
        started = time.perf_counter()
        with torch.no_grad():
            for _ in range(steps):
                predict(rows)
        BACKEND.synchronize()
        return (time.perf_counter() - started) / steps

    while True:
        seconds()
        yield {'seconds': seconds()}


def epochs(network: str, arrays: str, batch_size: int, epochs: int, alpha: float, mode: str):
    """Trains from new weights for some epochs; the last batch of an epoch may be smaller."""
    while True:
        trainer = Trainer(network, arrays, alpha)
        train_batch = getattr(trainer, mode)
        (seconds, kept) = ([], [])
        for epoch in range(epochs):
            BACKEND.synchronize()
            started = time.perf_counter()
            order = torch.randperm(len(trainer.labels), device=BACKEND.device)
            counts = [train_batch(rows, epoch) for rows in order.split(batch_size)]
            kept.append(int(torch.stack(counts).sum()) / len(order))
            seconds.append(time.perf_counter() - started)
        yield {'epoch_seconds': seconds, 'kept_share': kept, 'test_accuracy': accuracy(trainer, arrays)}


def accuracy(trainer: Trainer, arrays: str) -> float:
    loaded = np.load(arrays)
    images = torch.from_numpy(loaded['test_images']).to(BACKEND.device).permute(0, 3, 1, 2).float() / 255
    trainer.module.eval()
    with torch.inference_mode():
        predictions = torch.cat([trainer.module(batch).argmax(1) for batch in images.split(2000)])
    return float((predictions.cpu().numpy() == loaded['test_labels']).mean())


def machine_info() -> Any:
    cuda = BACKEND.device.type == 'cuda'
    yield {
        'torch': torch.__version__,
        'device': torch.cuda.get_device_name() if cuda else 'cpu',
        'cuda': torch.version.cuda if cuda else None,
        'threads': torch.get_num_threads(),
        'peak_bytes': protocol.peak_bytes(),
    }


def main() -> None:
    global BACKEND
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--graphs', action='store_true')
    options = parser.parse_args()
    if options.device == 'cuda' and not torch.cuda.is_available():
        parser.error('this torch has no CUDA, or the machine has no GPU')
    BACKEND = Backend(options.device, options.graphs)
    cpu.tune()  # For the same allocator settings; the XLA flags have no effect here.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision('high')  # TF32, which convolutions use by default
    torch.backends.cudnn.benchmark = True
    protocol.serve({'step': step, 'forward': forward, 'epochs': epochs, 'machine_info': machine_info})


if __name__ == '__main__':
    main()
