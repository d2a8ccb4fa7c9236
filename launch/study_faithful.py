r"""The study of faithfulness: accuracy, robustness and gaps of confidence around the images, by method.

    python launch/study_faithful.py --datasets=mnist --teachers=adversarial,ibp --seeds=3 --data_dir=DIR \
        --workdir=runs/study_faithful
    python launch/study_faithful.py --datasets=digits --seeds=2 --epochs=10 --config.ramp=3 \
        --config.teacher.ramp=3 --workdir=runs/study_faithful_digits

--datasets    of mnist, fashion_mnist, digits: the settings are those of configs/NAME_faithful.py
--seeds       how many, from 0
--epochs      of teacher and student; the config's own unless given
--methods     some of: separate kd cckd_t cckd_t_reg ard rslad iad faithful_adversarial faithful_certified
--teachers    how the teacher is trained: plain, adversarial or ibp, an arm of the study each; the config's own unless
              given
--data_dir    where TFDS prepared the data
--workdir     tables (study.md, study.json), figure (study.png) and a run directory for each method, seed and data set

All is measured at --config.epsilon, around --config.evaluate.samples test images. Any setting of all runs can be given
as --config.NAME=VALUE. The same command resumes and skips what is finished.
"""

import sys

from absl import flags

from cckd_jax import cli
from cckd_jax.errors import lookup
from cckd_jax.studies import command, common, faithful


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the study."""
    if {'--help', '-h'} & set(arguments):
        print(__doc__)
        return
    (values, settings) = command.parse(arguments, _define, rows=faithful.ROWS)
    arms = {f'_{each}': lookup(faithful.TEACHERS, each, 'way to train a teacher') for each in values.teachers}
    configs = {
        name + arm: common.changed(command.configured(f'{name}_faithful', settings), of_arm)
        for name in values.datasets
        for arm, of_arm in (arms or {'': {}}).items()
    }
    faithful.run(configs, values.workdir, seeds=values.seeds, rows=values.methods)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_list('datasets', ['mnist'], 'Data sets.', flag_values=values)
    flags.DEFINE_list('teachers', [], 'How the teacher is trained.', flag_values=values)


if __name__ == '__main__':
    sys.exit(cli.guarded(lambda: main(sys.argv)))
