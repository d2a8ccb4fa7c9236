"""Faithful distillation on Fashion-MNIST: a robust teacher, and everything that is measured around the images.

LeNet-5, trained so that intervals certify it within 0.1 of a pixel, teaches LeNet-5-Half against a certified bound of
the gap between them. A reading of Faithful KD (arXiv:2306.04431), whose body could not be had: there are no numbers to
expect. An hour or two on two cores.

python launch/main.py --config=configs/fashion_mnist_faithful.py --config.dataset.data_dir=DIR --workdir=runs/fashion
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.faithful('fashion_mnist', 0.05, variant)
