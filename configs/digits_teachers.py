"""The embedded digits, four teachers to LeNet-5-Half by CA-MKD: three LeNet-5 of different seeds and a narrow AlexNet.

Measured once: teachers .9750, .9722, .9833 and .9889; student .9806, and .9778 without a teacher. 51 seconds on two
cores.

python launch/main.py --config=configs/digits_teachers.py --workdir=runs/digits_teachers

Other methods are --config.method=aver, ebkd, aekd and fitnet_mkd. A teacher is changed by its index, counted from 0:
--config.teachers.3.model=lenet5_half, or --config.teachers.0.label_noise=0.5 for one that learns from wrong labels.
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.method = 'ca_mkd'
    config.batch_size = 64
    config.num_teachers = 4
    config.teachers[3].model = 'alexnet'
    config.teachers[3].options.width = 0.125
    config.teacher.epochs = 20
    config.student.epochs = 40
    config.student.learning_rate = 3e-3
    config.attack.samples = 1000
    return base.variant(config, variant)
