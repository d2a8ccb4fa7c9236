"""Faithful distillation on Fashion-MNIST: a robust teacher, and everything that is measured around the images.

LeNet-5, trained so that intervals certify it within 0.1 of a pixel, teaches LeNet-5-Half against a certified bound of
the gap between them. A reading of Faithful KD (arXiv:2306.04431), whose body could not be had: there are no numbers to
expect. Hours on two cores.

python launch/main.py --config=configs/fashion_mnist_faithful.py --config.dataset.data_dir=DIR --workdir=runs/fashion
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.dataset.name = 'fashion_mnist'
    config.method = 'faithful_certified'
    config.epsilon = 0.1
    config.batch_size = 128
    config.validation_fraction = 0.1
    config.teacher.robust = 'ibp'
    config.teacher.epsilon = 0.1
    config.teacher.epochs = 60
    config.student.epochs = 60
    config.attack.epsilon = 0.05
    config.attack.samples = 30_000
    config.evaluate.robustness = True
    config.evaluate.faithfulness = True
    config.evaluate.epsilons = (0.02, 0.05, 0.1)
    return base.variant(config, variant)
