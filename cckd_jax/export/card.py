"""`card.md`: what an exported student takes and returns, and how its files compare with it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from cckd_jax.export import latency
from cckd_jax.export.formats import FORMATS, INT8_FILE, Format
from cckd_jax.export.student import PREPROCESSING, Student
from cckd_jax.export.verification import Comparison
from cckd_jax.report import markdown


class ExportedFile(NamedTuple):
    """A verified file.

    Attributes:
      name: of the file.
      size: in bytes.
      comparison: with the student, on the test split.
    """

    name: str
    size: int
    comparison: Comparison


def render(
    student: Student,
    results: Mapping[str, Any],
    accuracy: float,
    files: Sequence[ExportedFile],
    latencies: latency.Latencies,
    calibration: str,
    versions: Mapping[str, str],
) -> str:
    """The text of the card.

    Args:
      student: the student.
      results: what `results.json` of its run holds; empty if the run has no `results.json`.
      accuracy: of the student in JAX.
      files: the exported files.
      latencies: of the student and the files.
      calibration: how int8 was calibrated.
      versions: of packages.
    """
    description = student.description
    parameters = sum(leaf.size for leaf in jax.tree.leaves(student.network.variables['params']))
    facts = [
        ['classes', f'{len(student.class_names)}: {", ".join(student.class_names)}'],
        ['images', f'uint8 `[B, {", ".join(map(str, student.image_shape))}]`, of any B'],
        ['logits', f'float32 `[B, {len(student.class_names)}]`; softmax makes them probabilities'],
        ['preprocessing', f'`{PREPROCESSING}`, which the files do themselves'],
        [
            'network',
            f'{description.model}, {parameters:,} parameters',
        ],
        ['options', markdown.settings(description.options)],
        ['data set', description.dataset],
        ['training', markdown.settings({name: results.get(name) for name in ('method', 'seed', 'commit')})],
        ['versions', markdown.settings(versions)],
    ]
    by_batch = lambda name: [f'{latencies[name][str(batch)]:.3f}' for batch in latency.BATCHES]
    header = ['', 'size', 'test accuracy', 'largest difference', 'relative', 'changed predictions']
    header += [f'ms per image, batch {batch}' for batch in latency.BATCHES]
    rows = [['student in JAX', '', f'{accuracy:.2%}', '', '', '', *by_batch(latency.STUDENT)]]
    for name, size, comparison in files:
        row = [
            f'`{name}`',
            f'{size / 1000:,.1f} kB',
            f'{comparison.accuracy:.2%}',
            f'{comparison.absolute_difference:.1e}',
            f'{comparison.relative_difference:.1e}',
            str(comparison.changed_predictions),
        ]
        rows.append([*row, *by_batch(name)])
    notes = (
        'Every file was compared with the student in JAX on the whole test split. The relative difference of an '
        'example is its largest difference divided by its largest absolute logit. Milliseconds are '
        'the median CPU time on one core.'
    )
    names = [name for name, _, _ in files]
    if INT8_FILE in names:
        notes += f' `{INT8_FILE}` has 8-bit weights and activations; {calibration}.'
    sections = [
        f'# {description.model}, trained on {description.dataset}',
        markdown.table(['', ''], facts),
        '## Files',
        markdown.table(header, rows),
        notes,
        *[_usage(file_format) for file_format in FORMATS.values() if file_format.file in names],
    ]
    return '\n\n'.join(sections) + '\n'


def _usage(file_format: Format) -> str:
    return f'## Use `{file_format.file}`\n\n```python\n{file_format.usage.format(file=file_format.file)}\n```'
