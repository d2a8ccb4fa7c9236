r"""The study of significance: accuracy against samples used, by method, with random controls.

    python launch/study_significance.py --datasets=mnist,fashion_mnist --margin_temperatures=20,1 --seeds=3 \
        --data_dir=DIR --workdir=runs/study
    python launch/study_significance.py --datasets=digits --seeds=2 --epochs=10 --workdir=runs/study_digits

--datasets    of mnist, fashion_mnist, digits: the settings are those of configs/NAME_lenet.py
--seeds       how many, from 0
--epochs      of teacher and student; the config's own unless given
--methods     some of: separate kd cckd_t cckd_t_reg significance regulated hybrid random_subset shuffled
--margin_temperatures
              of all gates, teacher's and students': an arm of the study for each; the config's own unless given
--data_dir    where TFDS prepared the data
--workdir     tables (study.md, study.json), figure (study.png) and a run directory for each method, seed and data set

Any setting of all runs can be given as --config.NAME=VALUE. The same command resumes and skips what is finished.
"""

import sys
from pathlib import Path

from absl import flags

from cckd_jax import cli
from cckd_jax.errors import InputError
from cckd_jax.studies import significance

_CONFIGS = Path(__file__).parents[1] / 'configs'
_MARGINS = ('margin_temperature', 'teacher.margin_temperature')


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the study."""
    if {'--help', '-h'} & set(arguments):
        print(__doc__)
        return
    values = flags.FlagValues()
    datasets = flags.DEFINE_list('datasets', ['mnist', 'fashion_mnist'], 'Data sets.', flag_values=values)
    seeds = flags.DEFINE_integer('seeds', 3, 'How many seeds.', flag_values=values)
    epochs = flags.DEFINE_integer('epochs', None, 'Epochs of teacher and student.', flag_values=values)
    methods = flags.DEFINE_list('methods', list(significance.ROWS), 'Rows of the table.', flag_values=values)
    temperatures = flags.DEFINE_list('margin_temperatures', [], 'Of all gates.', flag_values=values)
    data_dir = flags.DEFINE_string('data_dir', None, 'Where the data is.', flag_values=values)
    workdir = flags.DEFINE_string('workdir', None, 'Where the runs go.', flag_values=values)
    overrides = cli.parse(values, arguments)
    if workdir.value is None:
        raise InputError('--workdir is missing; for example --workdir=runs/study')
    if epochs.value is not None:
        overrides += [f'--config.{part}.epochs={epochs.value}' for part in ('teacher', 'student')]
    if data_dir.value is not None:
        overrides += [f'--config.dataset.data_dir={data_dir.value}']
    arms = {f'_margin{each}': [f'--config.{name}={each}' for name in _MARGINS] for each in temperatures.value}
    configs = {
        name + arm: cli.configured(f'{_CONFIGS / name}_lenet.py', overrides + settings)
        for name in datasets.value
        for arm, settings in (arms or {'': []}).items()
    }
    significance.run(configs, workdir.value, seeds=seeds.value, rows=methods.value)


if __name__ == '__main__':
    sys.exit(cli.guarded(lambda: main(sys.argv)))
