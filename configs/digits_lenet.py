"""LeNet-5 teaches LeNet-5-Half on the embedded digits: every method above 95 % within a minute.

python launch/main.py --config=configs/digits_lenet.py --workdir=runs/digits
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.batch_size = 64
    config.alpha = 0.03
    config.teacher.epochs = 20
    config.student.epochs = 60
    config.attack.samples = 1000
    return base.variant(config, variant)
