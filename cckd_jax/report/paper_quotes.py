"""Rows of the CCKD paper's Tables 2-5 that come from other papers, with the set-up behind each number.

All digits agree with their sources, so CCKD seems to quote them. Sources: Zero-Shot KD (Nayak et
al., ICML 2019), few-shot KD by pseudo examples (Kimura et al., BMVC 2018), data-free KD from metadata (Lopes et al.,
2017), DAFL (Chen et al., ICCV 2019) and KegNet (Yoo et al., NeurIPS 2019).
"""

from typing import NamedTuple


class Quote(NamedTuple):
    """One number that the paper quotes.

    Attributes:
      label: the paper's name of the row.
      accuracy: test accuracy, in [0, 1].
      setup: networks and data behind the number.
    """

    label: str
    accuracy: float
    setup: str


_FEW = "200 samples, a 3-layer student and a Gaussian process, from Zero-Shot KD's table"
_DECOMPOSED = 'no training data, 5,000 images for selection; student: a decomposed'
_ZSKD_STUDENT = "Zero-Shot KD's row Student-KD: all training data"
QUOTES: dict[tuple[str, str], tuple[Quote, ...]] = {
    ('mnist', 'lenet5_half'): (
        Quote('Normal [3]', 0.9925, f'{_ZSKD_STUDENT}, teacher .9934'),
        Quote('Few Shot KD [10]', 0.8670, _FEW),
        Quote('Meta Data [19]', 0.9247, 'stored activation statistics, teacher .9891'),
        Quote('Zero Shot KD [9]', 0.9877, 'no data; 24,000 impressions of a LeNet-5 teacher (.9934)'),
        Quote('Data Free KD [11]', 0.9820, 'no data; a student of 15,738 parameters, teacher .9891'),
        Quote('T + KEGNET [41]', 0.9632, f'{_DECOMPOSED} LeNet-5 teacher (.9890)'),
    ),
    ('fashion_mnist', 'lenet5_half'): (
        Quote('Normal [3]', 0.8966, f'{_ZSKD_STUDENT}, teacher .9084'),
        Quote('Few Shot KD [10]', 0.7250, _FEW),
        Quote('Zero Shot KD [9]', 0.7962, 'no data; 48,000 impressions of a LeNet-5 teacher (.9084)'),
        Quote('T + KEGNET [41]', 0.8780, f'{_DECOMPOSED} ResNet-14 teacher (.9250)'),
    ),
    ('cifar10', 'alexnet_half'): (
        Quote('Normal [3]', 0.8008, f'{_ZSKD_STUDENT}, teacher .8303'),
        Quote('Zero Shot KD [9]', 0.6956, 'no data; 40,000 impressions of an AlexNet teacher (.8303)'),
    ),
    ('svhn_cropped', 'resnet18'): (
        Quote('T + KEGNET [41]', 0.8726, f'{_DECOMPOSED} ResNet-14 teacher (.9323)'),
    ),
}  # fmt: skip


def quotes(dataset: str, student: str) -> tuple[Quote, ...]:
    """The quoted rows of a data set and a student, in the order of the paper.

    >>> [quote.label for quote in quotes('cifar10', 'alexnet_half')]
    ['Normal [3]', 'Zero Shot KD [9]']
    """
    return QUOTES.get((dataset, student), ())
