"""The same work in PyTorch, as an experienced engineer would write it, for the ratios of `launch/benchmark.py`.

It keeps tensors in memory, caches the teacher's logits, draws the order once per epoch, and uses fused Adam, channels
last where that is faster, and a local response norm of a 1x1 convolution and square roots (torch's own pools a
five-dimensional tensor and is several times slower). It sums metrics as tensors and reads them once per epoch.

It runs on the CPU in float32. It needs torch, which cckd_jax does not: pip install -e '.[peer]'
"""

import os
import time
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


class Trainer:
    def __init__(self, network: str, arrays: str, alpha: float):
        loaded = np.load(arrays)
        (make, channels_last) = NETWORKS[network]
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        torch.manual_seed(0)
        self.module = make().to(memory_format=self.format)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=RATE, fused=True)
        self.images = torch.from_numpy(loaded['images']).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(loaded['labels']).long()
        teacher = torch.softmax(torch.from_numpy(loaded['teacher_logits']) / TEMPERATURE, 1)
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

    def everyone(self, rows: torch.Tensor, epoch: int) -> torch.Tensor:
        loss = self.losses(self.module(self.pixels(rows)), rows).mean()
        self.descend(loss)
        return torch.tensor(len(rows))

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
        return torch.tensor(len(keep))


def step(network: str, arrays: str, batch_size: int, steps: int):
    trainer = Trainer(network, arrays, 0.0)
    order = torch.Generator().manual_seed(0)

    def seconds() -> float:
        batches = [torch.randint(len(trainer.labels), (batch_size,), generator=order) for _ in range(steps)]
        started = time.perf_counter()
        for rows in batches:
            trainer.everyone(rows, 0)
        return (time.perf_counter() - started) / steps

    while True:
        seconds()
        yield {'seconds': seconds()}


def forward(network: str, arrays: str, batch_size: int, steps: int):
    trainer = Trainer(network, arrays, 0.0)
    trainer.module.eval()
    rows = torch.arange(batch_size) % len(trainer.labels)

    def seconds() -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            for _ in range(steps):
                trainer.module(trainer.pixels(rows))
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
            started = time.perf_counter()
            order = torch.randperm(len(trainer.labels))
            counts = [train_batch(rows, epoch) for rows in order.split(batch_size)]
            kept.append(int(torch.stack(counts).sum()) / len(order))
            seconds.append(time.perf_counter() - started)
        yield {'epoch_seconds': seconds, 'kept_share': kept, 'test_accuracy': accuracy(trainer, arrays)}


def accuracy(trainer: Trainer, arrays: str) -> float:
    loaded = np.load(arrays)
    images = torch.from_numpy(loaded['test_images']).permute(0, 3, 1, 2).float() / 255
    trainer.module.eval()
    with torch.inference_mode():
        predictions = torch.cat([trainer.module(batch).argmax(1) for batch in images.split(2000)])
    return float((predictions.numpy() == loaded['test_labels']).mean())


def machine_info() -> Any:
    yield {'torch': torch.__version__, 'threads': torch.get_num_threads(), 'peak_bytes': protocol.peak_bytes()}


if __name__ == '__main__':
    cpu.tune()  # For the same allocator settings; the XLA flags have no effect here.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    protocol.serve({'step': step, 'forward': forward, 'epochs': epochs, 'machine_info': machine_info})
