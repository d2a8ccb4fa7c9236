"""The embedded digits in colour, ResNet-34 to ResNet-18: the same networks and steps as SVHN, without a download.

Only `:smoke` has been run; the time is not measured. For a GPU.

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
