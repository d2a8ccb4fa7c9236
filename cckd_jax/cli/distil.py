"""Train a teacher, distil a student, evaluate both and write a report.

    {program} --config=digits_lenet --workdir=runs/digits
    {program} --config=mnist_lenet --config.method=cckd_l --workdir=runs/mnist_cckd_l
    {program} --config=mnist_lenet:smoke --workdir=runs/smoke

--config      a config that comes with the package (`cckd-jax list configs`), or a file such as
              --config=configs/digits_lenet.py; `:smoke` runs the same path on few digits in under a minute
--workdir     the run directory: report, figures, results, metrics and checkpoints; the same command resumes

--coordinator, --num_processes, --process_id
              train in several processes, on one host or many: HOST:PORT of process 0, their number, and the number of
              this one; --coordinator=auto asks Slurm or the TPU pod for all three

Any setting of the config can be changed by --config.NAME=VALUE. Common settings:

    --config.method=NAME                     distillation method (`cckd-jax list methods`)
    --config.seed=N                          seed of the order of samples, first weights and dropout
    --config.batch_size=N                    batch size over all devices
    --config.dataset.name=NAME               data set of TensorFlow Datasets, an .npz file, or a folder of images
    --config.dataset.data_dir=DIR            folder in which TensorFlow Datasets prepared it
    --config.teacher.model=NAME              network of the teacher
    --config.teacher.epochs=N                for how long it is trained; student.model and student.epochs are the same
    --config.student.learning_rate=RATE      the method's own unless set
    --config.teacher.checkpoint=RUN/teacher  use a trained teacher
    --config.alpha=A                         a hyper-parameter of the method
    --config.optimizer.name=sgd              optimizer (`cckd-jax list optimizers`)

`cckd-jax describe CONFIG` prints all settings with their meaning.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from cckd_jax import interrupt
from cckd_jax.cli import guard


def main(arguments: Sequence[str]) -> int:
    """Runs a config to its report and returns the exit status; the program's name is the first argument."""
    return guard.main(_run, __doc__.format(program=arguments[0]), arguments)


def _run(config: ConfigDict, workdir: str) -> None:
    # Imported when there is a config to run: the import takes seconds, and a misspelt setting is reported before it.
    from cckd_jax import experiment

    with interrupt.raised():
        experiment.run(config, workdir)
