"""Fashion-MNIST, LeNet-5 to LeNet-5-Half: the second row of the CCKD paper's Table 1, at its settings.

The paper (arXiv:2107.06993, Tables 3, 6 and 9): teacher .9004; separate .8939, kd .8966 (quoted there), cckd_l .8888,
cckd_t .8900, cckd_t_reg .8773 with 15.67 % of the presentations used. Measured
once here by launch/reproduce.py, seed 0 (docs/reproduction.md): teacher .9042; separate .8889, cckd_t_reg .8833 with
32.1 %.

python launch/main.py --config=configs/fashion_mnist_lenet.py --config.dataset.data_dir=DIR --workdir=runs/fashion
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.dataset.name = 'fashion_mnist'
    config.alpha = 0.01
    config.teacher.epochs = 200
    config.student.epochs = 200
    config.attack.epsilon = 0.05
    config.attack.samples = 30_000
    return base.variant(config, variant)
