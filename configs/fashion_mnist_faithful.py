"""Faithful distillation on Fashion-MNIST: a robust teacher, attacks and certified bounds.

LeNet-5, trained so that interval bounds certify it within epsilon = 0.1, teaches LeNet-5-Half against a certified bound
of the gap between them. This is our interpretation of Faithful KD (arXiv:2306.04431): only its abstract was available,
so there is no number to compare with. Measured at a reduced size only (docs/faithful.md). The full size is not
measured; MNIST, which has as many images, takes 57 minutes on two cores.

python launch/main.py --config=configs/fashion_mnist_faithful.py --config.dataset.data_dir=DIR --workdir=runs/fashion
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.faithful('fashion_mnist', 0.05, variant)
