"""Numbers of the CCKD paper (arXiv:2107.06993, Tables 2-9), which the report shows beside those of the run."""

from collections.abc import Mapping

# The rows of `kd` in Tables 2-4 equal the numbers that Zero-Shot KD published; they look quoted, not run again.
_ACCURACY = {
    ('mnist', 'lenet5_half'): {
        'teacher': 0.9914, 'separate': 0.9900, 'kd': 0.9925, 'cckd_l': 0.9909, 'cckd_t': 0.9896, 'cckd_t_reg': 0.9878,
    },
    ('fashion_mnist', 'lenet5_half'): {
        'teacher': 0.9004, 'separate': 0.8939, 'kd': 0.8966, 'cckd_l': 0.8888, 'cckd_t': 0.8900, 'cckd_t_reg': 0.8773,
    },
    ('cifar10', 'alexnet_half'): {
        'teacher': 0.8268, 'separate': 0.8303, 'kd': 0.8008, 'cckd_l': 0.7930, 'cckd_t': 0.7979, 'cckd_t_reg': 0.7787,
    },
    ('svhn_cropped', 'alexnet_half'): {
        'teacher': 0.9380, 'separate': 0.9326, 'cckd_l': 0.9219, 'cckd_t': 0.9247, 'cckd_t_reg': 0.9268,
    },
    ('svhn_cropped', 'resnet18'): {
        'teacher': 0.9464, 'separate': 0.9445, 'cckd_l': 0.9522, 'cckd_t': 0.9539, 'cckd_t_reg': 0.9531,
    },
}  # fmt: skip

_SHARE_USED = {
    ('mnist', 'lenet5_half'): 103_476 / 12_000_000,
    ('fashion_mnist', 'lenet5_half'): 1_880_714 / 12_000_000,
    ('cifar10', 'alexnet_half'): 33_101_348 / 50_000_000,
}

_CCKD_RATES = {('mnist', 'lenet5_half'): (1.0, 1.67e-5), ('cifar10', 'alexnet_half'): (0.995, 2.018e-5)}
_BASELINE_RATES = {
    ('mnist', 'lenet5_half'): {'kd': (0.035, 4.2e-4), 'teacher_only': (0.035, 7.2e-4)},
    ('cifar10', 'alexnet_half'): {'kd': (0.127, 6.86e-4), 'teacher_only': (0.129, 1.2e-3)},
}

_ADVERSARIAL = {
    ('mnist', 'lenet5_half'): {
        'kd': 0.8091, 'teacher_only': 0.8051, 'cckd_l': 0.7940, 'cckd_t': 0.8326, 'cckd_t_reg': 0.8709,
    },
    ('fashion_mnist', 'lenet5_half'): {
        'kd': 0.7591, 'teacher_only': 0.7604, 'cckd_l': 0.7815, 'cckd_t': 0.7941, 'cckd_t_reg': 0.7825,
    },
    ('cifar10', 'alexnet_half'): {
        'kd': 0.7332, 'teacher_only': 0.7076, 'cckd_l': 0.6808, 'cckd_t': 0.7168, 'cckd_t_reg': 0.7984,
    },
}  # fmt: skip


_EPOCHS = {
    ('mnist', 'lenet5_half'): 200,
    ('fashion_mnist', 'lenet5_half'): 200,
    ('cifar10', 'alexnet_half'): 1000,
    ('svhn_cropped', 'alexnet_half'): 500,
    ('svhn_cropped', 'resnet18'): 200,
}


_EPSILON = {'mnist': 0.15, 'fashion_mnist': 0.05, 'cifar10': 0.15}
_ATTACKED_SAMPLES = {'mnist': 30_000, 'fashion_mnist': 30_000, 'cifar10': 2500}


def epsilon(dataset: str) -> float | None:
    """The step of FGSM in Tables 8-9.

    >>> epsilon('fashion_mnist')
    0.05
    """
    return _EPSILON.get(dataset)


def epochs(dataset: str, student: str) -> int | None:
    """For how many epochs the paper trained teacher and student of a row (Table 1).

    >>> epochs('cifar10', 'alexnet_half')
    1000
    """
    return _EPOCHS.get((dataset, student))


def numbers(dataset: str, student: str, method: str) -> Mapping[str, float]:
    """The paper's numbers for a row of its tables, by their names in `results.json`, as far as it has any.

    >>> numbers('mnist', 'lenet5_half', 'cckd_t_reg')['student.test_accuracy']
    0.9878
    """
    row = (dataset, student)
    rates = _BASELINE_RATES.get(row, {}).get(method)
    if method.startswith('cckd'):
        rates = _CCKD_RATES.get(row)
    (success, failure) = rates or (None, None)
    quoted = {
        'teacher.test_accuracy': _ACCURACY.get(row, {}).get('teacher'),
        'separate.test_accuracy': _ACCURACY.get(row, {}).get('separate'),
        'student.test_accuracy': _ACCURACY.get(row, {}).get(method),
        'student.share_used': _SHARE_USED.get(row) if method == 'cckd_t_reg' else None,
        'student.success_rate': success,
        'student.failure_rate': failure,
        'student.adversarial_accuracy': _ADVERSARIAL.get(row, {}).get(method),
        'attack.epsilon': _EPSILON.get(dataset) if row in _ADVERSARIAL else None,
        'attack.samples': _ATTACKED_SAMPLES.get(dataset) if row in _ADVERSARIAL else None,
    }
    return {name: value for name, value in quoted.items() if value is not None}
