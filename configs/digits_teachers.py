"""Three LeNet-5 of different seeds and a small AlexNet teach LeNet-5-Half on the embedded digits, by CA-MKD.

Expected, from one run: teachers .975, .972, .983 and .989, student .981, alone .978. A minute on two cores.

python launch/main.py --config=configs/digits_teachers.py --workdir=runs/digits_teachers

The others are --config.method=aver, ebkd, aekd and fitnet_mkd; a teacher is changed by its index, from 0:
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
