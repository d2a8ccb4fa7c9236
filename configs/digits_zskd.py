"""The embedded digits without their images: LeNet-5 teaches LeNet-5-Half on images that zero-shot KD makes.

The student learns from the teacher alone, on data impressions (arXiv:1905.08114) and their transformations. No number
of a paper belongs to these data. Measured once: teacher .9750; student .9444, and .9778 without a teacher, from the
images. Three minutes on two cores that other programs shared. For a method that reads labels, such as cckd_t, set
--config.transfer.augment=false: labels do not follow the transformations.

python launch/main.py --config=configs/digits_zskd.py --workdir=runs/digits_zskd
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.method = 'teacher_only'
    config.batch_size = 64
    config.teacher.epochs = 20
    config.student.epochs = 40
    config.student.learning_rate = 1e-3
    config.attack.samples = 1000
    config.transfer.name = 'zskd'
    config.transfer.augment = True
    config.transfer.images = 2000
    config.transfer.steps = 300
    config.transfer.batch_size = 500
    config.transfer.learning_rate = 0.05
    return base.variant(config, variant)
