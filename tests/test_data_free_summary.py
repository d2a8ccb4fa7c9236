"""The short tables of the study without the data: what is measured beside what is expected."""

import pytest

from cckd_jax.studies import data_free, data_free_summary, summary
from cckd_jax.studies.jobs import Job
from cckd_jax.studies.statistics import Estimate


def records(level, row, accuracies, **facts):
    """Records of one kind of samples and method, with an accuracy for each seed."""
    result = []
    for seed, accuracy in enumerate(accuracies):
        job = Job(f'{level}/{row}/{seed}', None, 'digits', row, seed, level)
        results = {
            'student': {'test_accuracy': accuracy, 'share_used': 0.5, 'samples_used': 1}
            | dict.fromkeys(('success_rate', 'failure_rate')),
            'teacher': {'test_accuracy': 0.9},
            'separate': {'test_accuracy': 0.8 if level == 'real' else None},
            'transfer': {} if level == 'real' else {'images': 96, 'agreement': 0.4, **facts},
        }
        result += summary.make_records(data_free.STUDY, job, results)
    return result


def test_expectations_are_judged_by_their_intervals():
    confidence = {'confidence': {'transfer_set': 0.5, 'training_set': 0.2}}
    content = summary.summarize(
        data_free.STUDY,
        [
            *records('real', 'teacher_only', [0.85, 0.85]),
            *records('noise', 'teacher_only', [0.1, 0.2]),
            *records('zskd', 'teacher_only', [0.5, 0.62]),
            *records('zskd', 'cckd_t', [0.3, 0.45], **confidence),
            *records('zskd_soft', 'cckd_t', [0.505, 0.624]),
            *records('kegnet', 'teacher_only', [0.12]),
        ],
    )
    lines = data_free_summary.render(content).splitlines()
    # The t quantile of one degree of freedom is 12.706, so half the width is 6.353 times the difference of two values.
    for wanted in (
        '| `zskd` beats noise | +41 ± 12.7 | holds | 2 |',
        '| `kegnet` beats noise | +2 | undecided | 1 |',
        '| λ of impressions exceeds that of real images | +0.3 ± 0 | holds | 2 |',
        '| CCKD-T loses by nominal labels of impressions | -18.5 ± 19.1 | undecided | 2 |',
        '| with soft labels it equals Teacher Only | +0.45 ± 0.635 | holds | 2 |',
        '| `zskd` | 96 | 40% | | 56.0 ± 76.2 | 37.5 ± 95.3 | | 2 |',
    ):
        assert wanted in lines
    assert 'Teacher 90.00, student alone 80.00.' in lines[4]


@pytest.mark.parametrize(
    ('mean', 'expected', 'outcome'),
    [
        (-0.1, 'higher', 'does not hold'),
        (0.1, 'equal', 'does not hold'),
        (0.01, 'equal', 'undecided'),
        (0.001, 'equal', 'holds'),
    ],
)
def test_an_expectation_can_fail(mean, expected, outcome):
    assert data_free_summary.outcome(Estimate(mean, 0.015, 3), expected) == outcome
