r"""The study of teachers: what becomes of a student when one of its teachers gets worse, by method.

    python launch/study_teachers.py --configs=digits_teachers --seeds=2 --epochs=10 --workdir=runs/study_teachers
    python launch/study_teachers.py --configs=mnist_lenet --config.num_teachers=3 --seeds=5 --data_dir=DIR \
        --workdir=runs/study_mnist

--configs     names of files in configs/; their settings, of two teachers or more
--worse       what makes teacher 0 worse: label_noise, epochs or learning_rate
--levels      its values, 0,0.25,0.5,0.75,1 unless given
--seeds       how many, from 0
--epochs      of teachers and student; the config's own unless given
--methods     some of: aver ebkd aekd ca_mkd ca_mkd_logits (without feature maps) fitnet_mkd
--data_dir    where TFDS prepared the data
--workdir     tables (study.md, study.json), figure (study.png) and a run directory for each method, seed and level

Any setting of all runs can be given as --config.NAME=VALUE. The same command resumes and skips what is finished.
"""

import sys

from absl import flags

from cckd_jax import cli
from cckd_jax.studies import command, teachers


def main(arguments: list[str]) -> None:
    """Parses the command line and runs the study."""
    if {'--help', '-h'} & set(arguments):
        print(__doc__)
        return
    (values, settings) = command.parse(arguments, _define, rows=teachers.ROWS)
    configs = {name: command.configured(name, settings) for name in values.configs}
    teachers.run(
        configs,
        values.workdir,
        seeds=values.seeds,
        levels=values.levels,
        worse=values.worse,
        rows=values.methods,
    )


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_list('configs', ['digits_teachers'], 'Names of configs.', flag_values=values)
    flags.DEFINE_string('worse', 'label_noise', 'What makes a teacher worse.', flag_values=values)
    flags.DEFINE_list('levels', ['0', '0.25', '0.5', '0.75', '1'], 'How much of it.', flag_values=values)


if __name__ == '__main__':
    sys.exit(cli.guarded(lambda: main(sys.argv)))
