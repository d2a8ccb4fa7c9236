"""ResNet-34 teaches ResNet-18 on the embedded digits in colour: the path of SVHN with no data to fetch, for a GPU.

python launch/main.py --config=configs/digits_resnet.py --workdir=runs/digits_resnet
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.dataset.name = 'digits'
    config.dataset.image_shape = (32, 32, 3)
    config.teacher.model = 'resnet34'
    config.student.model = 'resnet18'
    config.batch_size = 64
    config.alpha = 0.03
    config.teacher.epochs = 10
    config.student.epochs = 20
    config.attack.samples = 1000
    return base.variant(config, variant, narrow={'width': 0.0625, 'blocks': (1, 1, 1, 1)})
