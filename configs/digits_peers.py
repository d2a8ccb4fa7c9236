"""The embedded digits, two LeNet-5-Half that teach each other by CCKD among students, without a teacher.

python launch/main.py --config=configs/digits_peers.py --workdir=runs/digits_peers
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.method = 'cckd_online_t'
    config.batch_size = 64
    config.validation_fraction = 0.1
    config.num_teachers = 0
    config.num_students = 2
    config.student.epochs = 60
    config.student.learning_rate = 3e-3
    config.attack.samples = 1000
    return base.variant(config, variant)
