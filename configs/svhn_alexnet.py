"""SVHN, AlexNet to AlexNet-Half: the fourth row of the CCKD paper's Table 1, at its settings.

The paper (arXiv:2107.06993, Table 5): teacher .9380; separate .9326, cckd_l .9219, cckd_t .9247, cckd_t_reg .9268. It
states no alpha and no attack for SVHN: 0.01 is its value for MNIST and Fashion-MNIST, and the attack is the one of
CIFAR-10. Not run at full length here, and the time is not measured; for a GPU.

python launch/main.py --config=configs/svhn_alexnet.py --config.dataset.data_dir=DIR --workdir=runs/svhn_alexnet
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.dataset.name = 'svhn_cropped'
    config.dataset.image_shape = (32, 32, 3)
    config.teacher.model = 'alexnet'
    config.student.model = 'alexnet_half'
    config.alpha = 0.01
    config.teacher.epochs = 500
    config.student.epochs = 500
    config.attack.epsilon = 0.15
    config.attack.samples = 2500
    return base.variant(config, variant, narrow={'width': 0.125})
