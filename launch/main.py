"""Train a teacher, distil a student, evaluate and report.

    python launch/main.py --config=configs/digits_lenet.py --workdir=runs/digits
    python launch/main.py --config=configs/mnist_lenet.py --config.method=cckd_l --workdir=runs/mnist_cckd_l
    python launch/main.py --config=configs/mnist_lenet.py:smoke --workdir=runs/smoke

Any setting can be given as --config.NAME=VALUE. The same command on the same workdir resumes it.
"""

import sys

from cckd_jax import cli, experiment

if __name__ == '__main__':
    sys.exit(cli.main(experiment.run, __doc__))
