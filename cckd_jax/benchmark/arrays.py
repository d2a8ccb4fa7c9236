"""The data of a benchmark as an `.npz` file, which measuring processes and a peer read."""

from pathlib import Path

import numpy as np

from cckd_jax import data


def synthetic(folder: Path, network: str, classes: int = 10, examples: int = 4096) -> str:
    """Writes random images of the network's shape, labels and logits; the cost of a step does not depend on values."""
    path = folder / f'{network}-{classes}-{examples}.npz'
    if not path.exists():
        random = np.random.default_rng(0)
        shape = (28, 28, 1) if network.startswith('lenet') else (32, 32, 3)
        labels = random.integers(0, classes, examples).astype(np.int32)
        images = random.integers(0, 256, (examples, *shape)).astype(np.uint8)
        logits = random.normal(size=(examples, classes)).astype(np.float32)
        np.savez(
            path,
            images=images,
            labels=labels,
            teacher_logits=logits,
            test_images=images[:100],
            test_labels=labels[:100],
        )
    return str(path)


def real(folder: Path, dataset: str, data_dir: str | None) -> str:
    """Writes the training and test splits of a data set."""
    splits = data.load(dataset, data_dir=data_dir)
    path = folder / 'data.npz'
    np.savez(
        path,
        images=splits.train.images[:],
        labels=splits.train.labels,
        test_images=splits.test.images[:],
        test_labels=splits.test.labels,
    )
    return str(path)
