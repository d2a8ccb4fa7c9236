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

from absl import flags

from cckd_jax import cli
from cckd_jax.studies import command, significance

_MARGINS = ('margin_temperature', 'teacher.margin_temperature')


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the study."""
    if {'--help', '-h'} & set(arguments):
        print(__doc__)
        return
    (values, settings) = command.parse(arguments, _define, rows=significance.ROWS)
    arms = {f'_margin{each}': [f'--config.{name}={each}' for name in _MARGINS] for each in values.margin_temperatures}
    configs = {
        name + arm: command.configured(f'{name}_lenet', settings + of_arm)
        for name in values.datasets
        for arm, of_arm in (arms or {'': []}).items()
    }
    significance.run(configs, values.workdir, seeds=values.seeds, rows=values.methods)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_list('datasets', ['mnist', 'fashion_mnist'], 'Data sets.', flag_values=values)
    flags.DEFINE_list('margin_temperatures', [], 'Of all gates.', flag_values=values)


if __name__ == '__main__':
    sys.exit(cli.guarded(lambda: main(sys.argv)))
