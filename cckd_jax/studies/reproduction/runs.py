"""The runs behind the tables: for each data set and seed one teacher, and every student that a table shows."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from cckd_jax.studies.jobs import Job, override, restore_networks, restore_teacher, stretched_alpha

# This run trains the teacher and the student alone; the others restore both.
BASE = 'separate'
PROBES = 'cckd_jax.studies.reproduction.probes:PROBES'
_TEMPERATURE = 20.0

# A teacher of 200 epochs makes no training errors, so that success rates are undefined. These rows restore the teacher
# of 30 epochs, which another row trains.
TEACHERS: Mapping[str, str] = MappingProxyType(
    {f'{method}_teacher30': 'cckd_t_reg_teacher30' for method in ('kd', 'teacher_only', 'cckd_l', 'cckd_t')}
)

# Values of the settings by row. The margin temperature belongs to the gate, the confidence temperature to lambda.
ROWS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        BASE: {'method': 'separate'},
        'cckd_t_reg': {'method': 'cckd_t_reg'},
        'cckd_t': {'method': 'cckd_t'},
        'cckd_l': {'method': 'cckd_l'},
        'kd': {'method': 'kd'},
        'teacher_only': {'method': 'teacher_only'},
        'separate_1e-2': {'method': 'separate', 'student.learning_rate': 1e-2},
        **{
            f'cckd_t_reg_confidence{confidence:g}_margin{margin:g}': {
                'method': 'cckd_t_reg',
                'confidence_temperature': confidence,
                'margin_temperature': margin,
            }
            for confidence, margin in ((_TEMPERATURE, 1.0), (1.0, 1.0), (1.0, _TEMPERATURE))
        },
        'cckd_t_confidence1': {'method': 'cckd_t', 'confidence_temperature': 1.0},
        'cckd_l_confidence1': {'method': 'cckd_l', 'confidence_temperature': 1.0},
        **{
            f'cckd_t_reg_teacher{epochs}': {'method': 'cckd_t_reg', 'teacher.epochs': epochs}
            for epochs in (10, 30, 60, 100)
        },
        **{row: {'method': row.removesuffix('_teacher30')} for row in TEACHERS},
    }
)


def jobs(
    configs: Mapping[str, ConfigDict], workdir: Path, *, rows: Sequence[str], seeds: int, epochs_scale: float = 1.0
) -> Iterator[Job]:
    """The runs of some rows.

    Args:
      configs: by data set.
      workdir: of the study, absolute.
      rows: keys of `ROWS`; the rows that train their teachers are added.
      seeds: how many, from 0.
      epochs_scale: see `scale_epochs`.

    Yields:
      All runs of one seed before those of the next; the run that trains the teacher precedes those that restore it.
    """
    scaled = {dataset: scale_epochs(config, epochs_scale) for dataset, config in configs.items()}
    wanted = {BASE, *rows, *(TEACHERS[row] for row in rows if row in TEACHERS)}
    for seed in range(seeds):
        for row in (row for row in ROWS if row in wanted):
            for dataset, config in scaled.items():
                base = f'{dataset}/seed{seed}/{BASE}'
                values: dict[str, Any] = {'seed': seed, 'evaluate.extra': (PROBES,), **ROWS[row]}
                if row != BASE:
                    values = restore_networks(config, workdir / base, baseline='student') | values
                if 'teacher.epochs' in values:
                    # This row trains a teacher of its own.
                    values['teacher.checkpoint'] = None
                    values['teacher.epochs'] = scaled_epochs(values['teacher.epochs'], epochs_scale)
                needs: tuple[str, ...] = () if row == BASE else (base,)
                if row in TEACHERS:
                    trained = f'{dataset}/seed{seed}/{TEACHERS[row]}'
                    values |= restore_teacher(0, workdir / trained, teachers=1)
                    needs = (base, trained)
                yield Job(f'{dataset}/seed{seed}/{row}', override(config, values), dataset, row, seed, needs=needs)


def scale_epochs(config: ConfigDict, scale: float) -> ConfigDict:
    """Shortens the training of all networks for tables in less time.

    The rate of the threshold grows as the epochs shrink, so that the threshold has the same value in the last epoch.

    Args:
      config: stays as it is.
      scale: factor of the epochs; every network trains for at least one.

    Returns:
      The changed copy.

    >>> from cckd_jax import config
    >>> scaled = scale_epochs(config.default(), 0.1)
    >>> scaled.student.epochs, round(scaled.alpha, 4)
    (20, 0.1047)
    """
    if scale == 1:
        return config
    values = {f'{network}.epochs': scaled_epochs(config[network].epochs, scale) for network in ('teacher', 'student')}
    return override(config, {**values, 'alpha': stretched_alpha(config, values['student.epochs'])})


def scaled_epochs(epochs: int, scale: float) -> int:
    """Number of epochs after scaling, at least one.

    >>> scaled_epochs(200, 0.05), scaled_epochs(10, 0.01)
    (10, 1)
    """
    return max(1, round(scale * epochs))
