"""The transfer set: what real data it uses, how the teacher sees its samples, and a grid of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cckd_jax import evaluation, losses, synthesis
from cckd_jax.evaluators.base import Evaluator, load_arrays, save_arrays
from cckd_jax.evaluators.finished_run import FinishedRun
from cckd_jax.evaluators.predictions import Predictions
from cckd_jax.report import markdown, style

_COLUMNS, _MOST_ROWS = 10, 10
# The paper's temperature, so that both histograms are those of its confidence.
_TEMPERATURE = 20.0


def measure(run: FinishedRun, predictions: Predictions) -> dict[str, Any]:
    """Which real data the student saw; for a transfer set its size, and how the teacher sees it."""
    transfer = run.transfer
    if transfer is None:
        return {'transfer': {'real_data': 'all'}}
    config = run.config.transfer
    system = synthesis.SYSTEMS[config.name]
    real = run.teachers.outputs.train[:, 0]
    confidence = {
        'transfer_set': np.asarray(losses.confidence(transfer.logits, transfer.labels, temperature=_TEMPERATURE)),
        'training_set': np.asarray(losses.confidence(real, run.dataset.train.labels, temperature=_TEMPERATURE)),
    }
    shown = _shown(transfer.labels)
    save_arrays(run.workdir, 'transfer_set', images=transfer.images[shown], labels=transfer.labels[shown], **confidence)
    counts = np.bincount(evaluation.ensemble(transfer.logits[:, None]).argmax(-1), minlength=run.dataset.num_classes)
    return {
        'transfer': {
            'name': config.name,
            'real_data': system.real_data,
            'label': config.label or system.labels[0],
            'images': len(transfer.images),
            'rejected': transfer.rejected,
            'agreement': transfer.agreement,
            'images_by_class': counts.tolist(),
            'confidence': {name: float(values.mean()) for name, values in confidence.items()},
        }
    }


def table(results: Mapping[str, Any]) -> str:
    """The facts in a table, below a sentence about the real data; nothing for a run on the training set."""
    transfer = results.get('transfer', {})
    if 'name' not in transfer:
        return ''
    rows = [
        ['images', f'{transfer["images"]:,} ({transfer["rejected"]:,} rejected)'],
        ['label', transfer['label']],
        ["label is the teacher's class", f'{transfer["agreement"]:.2%}'],
        ["images by the teacher's class", ', '.join(map(str, transfer['images_by_class']))],
        *(
            [f'confidence of the teacher, {name.replace("_", " ")}', f'{value:.3f}']
            for name, value in transfer['confidence'].items()
        ),
    ]
    return '\n\n'.join(
        [
            '## Transfer set',
            f'The student learned from images that `{transfer["name"]}` made, with '
            f'{synthesis.REAL_DATA[transfer["real_data"]]} apart from what trained the teacher. Success and failure '
            'rate are over the real training set. Confidence is the probability of the label at temperature '
            f'{_TEMPERATURE:g}.',
            markdown.table(['', ''], rows),
            '![samples and confidence](figures/transfer_set.png)',
        ]
    )


def figure(workdir: Path, results: Mapping[str, Any]) -> None:
    """A grid of samples by label, and histograms of the teacher's confidence, `transfer_set.png`."""
    if 'name' not in results.get('transfer', {}):
        return
    stored = load_arrays(workdir, 'transfer_set')
    drawing = Figure(figsize=(10, 4.6), layout='constrained')
    (grid, histogram) = drawing.subplots(1, 2)
    grid.imshow(_tiled(stored['images'] / 255), cmap='gray', vmin=0, vmax=1)
    grid.set_title('samples, sorted by label', fontsize=10)
    grid.axis('off')
    for name, color in (('transfer_set', style.COLORS['student']), ('training_set', style.COLORS['teacher'])):
        bins = np.linspace(0, 1, 51)
        histogram.hist(
            stored[name], bins, density=True, histtype='step', color=color, label=name.replace('_', ' '), linewidth=1.5
        )
    histogram.set(xlabel="teacher's confidence in the label", ylabel='density')
    style.clean(histogram)
    histogram.legend(frameon=False, fontsize=9)
    style.save(drawing, workdir / 'figures' / 'transfer_set.png')


def _shown(labels: np.ndarray) -> np.ndarray:
    """Indices of the first samples of the first classes, as many of each."""
    classes = np.unique(labels)[:_MOST_ROWS]
    return np.concatenate([np.flatnonzero(labels == label)[:_COLUMNS] for label in classes])


def _tiled(images: np.ndarray) -> np.ndarray:
    (height, width, channels) = images.shape[1:]
    rows = -(-len(images) // _COLUMNS)
    blank = np.zeros((rows * _COLUMNS - len(images), height, width, channels))
    tiles = np.concatenate([images, blank]).reshape(rows, _COLUMNS, height, width, channels)
    return style.displayed(tiles.transpose(0, 2, 1, 3, 4).reshape(rows * height, _COLUMNS * width, channels))


TRANSFER_SET = Evaluator(measure, table, figure, shared=True)
