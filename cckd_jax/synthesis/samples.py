"""A few real samples, equally many of each class: the baseline of few-shot distillation."""

import jax
import numpy as np

from cckd_jax.data import Split
from cckd_jax.errors import InputError
from cckd_jax.synthesis.system import Preparation, Problem, Request, Samples, System


def choose(key: jax.Array, train: Split, count: int) -> Split:
    """Draws examples of a training set, as equally many of each class as it has.

    Args:
      key: typed PRNG key.
      train: images and labels.
      count: number of examples; if the classes cannot share it equally, chance decides which have one more.

    Returns:
      The examples, in the order of the training set.

    >>> train = Split(np.zeros((6, 1, 1, 1), np.uint8), np.int32([0, 0, 0, 0, 1, 1]))
    >>> choose(jax.random.key(0), train, 4).labels.tolist()
    [0, 0, 1, 1]
    """
    order = np.asarray(jax.random.permutation(key, len(train)))
    turns = np.empty(len(train), int)
    for label in np.unique(train.labels):
        own = np.flatnonzero(train.labels[order] == label)
        turns[own] = np.arange(len(own))
    return train.take(np.sort(order[np.argsort(turns, kind='stable')[:count]]))


def prepare(preparation: Preparation) -> dict[str, np.ndarray]:
    """Draws the samples that the settings ask for."""
    chosen = choose(preparation.key, preparation.train, preparation.settings['num_samples'])
    return {'images': chosen.images[:], 'labels': chosen.labels}


def check(request: Request) -> None:
    """Raises InputError for more samples than there are, or fewer than classes."""
    (least, most) = (request.num_classes, len(request.train))
    count = request.settings['num_samples']
    if not least <= count <= most:
        raise InputError(
            f'transfer.num_samples={count} must be from {least}, one of each class, to {most}, the training set; set '
            '--config.transfer.num_samples'
        )


def generate(problem: Problem) -> Samples:
    """The samples themselves."""
    return Samples(problem.real['images'], problem.real['labels'])


SAMPLES = System(
    generate,
    {'num_samples': 200},
    real_data='samples',
    labels=('nominal', 'teacher'),
    check=check,
    prepare=prepare,
)
