"""Several teachers in a report: what each was worth, and how much each counted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cckd_jax.reporting.figures import TEACHER_COLORS, over_epochs, plain, save

# What is weighed, in words.
_WHAT = {'logits': 'logits', 'maps': 'feature maps'}
# Tables of more classes are not read.
_CLASSES = 20


def weights(path: Path, rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> None:
    """How much each teacher counted: by class over the whole training, and in each epoch.

    Args:
      path: of the PNG.
      rows: the student's rows of `metrics.jsonl`.
      found: `teacher_weights` of `results.json`.
    """
    figure = Figure(figsize=(11, 3.4 * len(found)), layout='constrained')
    panels = figure.subplots(len(found), 2, squeeze=False, width_ratios=(1.3, 1))
    for (by_class, by_epoch), (name, shares) in zip(panels, found.items(), strict=True):
        known = [(label, each) for label, each in enumerate(shares['by_class']) if each is not None]
        known_rows = [row for row in rows if row.get('teacher_shares', {}).get(name, {}).get('overall')]
        epochs = [(row['epoch'] + 1, row['teacher_shares'][name]['overall']) for row in known_rows]
        for teacher, overall in enumerate(shares['overall'] or ()):
            color = TEACHER_COLORS[teacher % len(TEACHER_COLORS)]
            by_class.plot([label for label, _ in known], [each[teacher] for _, each in known], 'o', ms=5, color=color)
            (at, values) = zip(*((at, each[teacher]) for at, each in epochs), strict=True)
            by_epoch.plot(at, values, '.-', ms=3, color=color, label=f'teacher {teacher}: {overall:.3f}')
        for axes in (by_class, by_epoch):
            alike = axes.axhline(1 / len(shares['overall'] or (1,)), color='#555555', linestyle='--', linewidth=1)
            axes.set_ylim(0, None)
            plain(axes)
        alike.set_label('all alike')
        by_class.xaxis.set_major_locator(MaxNLocator(integer=True))
        by_class.set(xlabel='class', ylabel=f'share of the weights\non {_WHAT[name]}')
        over_epochs(by_epoch)
        by_epoch.legend(frameon=False, fontsize=9, loc='upper left', bbox_to_anchor=(1, 1), title='overall')
    save(figure, path)


def render(results: Mapping[str, Any]) -> list[str]:
    """The lines of the report on several teachers."""
    (teacher, found) = (results['teacher'], results['teacher_weights'])
    count = len(teacher['model'])
    columns = [
        '',
        'model',
        'epochs',
        'labels shuffled',
        'test accuracy',
        *(f'share on {_WHAT[name]}' for name in found),
    ]
    table = [columns, ['---'] * len(columns)]
    for place in range(count):
        facts = {name: values[place] for name, values in teacher.items() if isinstance(values, list)}
        table.append(
            [
                f'teacher {place}',
                facts['model'],
                'given' if facts['epochs'] is None else f'{facts["epochs"]}',
                'unknown' if facts['label_noise'] is None else f'{facts["label_noise"]:.0%}',
                _percent(facts['test_accuracy']),
                *(_share(shares['overall'], place) for shares in found.values()),
            ]
        )
    table.append(['together', '', '', '', _percent(teacher['ensemble_test_accuracy']), *([''] * len(found))])
    lines = [
        '## The teachers',
        '',
        *_markdown(table),
        '',
        'Together: the mean of their probabilities, of which success and failure rate are.',
        '',
    ]
    if not found:
        return lines
    lines += [
        'A share is what a teacher weighs in a sample over what all of them weigh, the mean over samples and epochs.',
        '',
        '![how much each teacher counted](figures/teacher_weights.png)',
        '',
    ]
    classes = len(next(iter(found.values()))['by_class'])
    if classes <= _CLASSES:
        heads = [f'{_WHAT[name]}, teacher {place}' for name in found for place in range(count)]
        table = [['class', *heads], ['---'] * (1 + len(heads))]
        for label in range(classes):
            cells = [_share(shares['by_class'][label], place) for shares in found.values() for place in range(count)]
            table.append([f'{label}', *cells])
        lines += [*_markdown(table), '']
    return lines


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    return [f'| {" | ".join(row)} |' for row in table]


def _percent(value: float | None) -> str:
    return 'none' if value is None else f'{value:.2%}'


def _share(shares: Sequence[float] | None, place: int) -> str:
    return 'none' if shares is None else f'{shares[place]:.3f}'
