"""Faithful distillation on MNIST: a robust teacher, and everything that is measured around the images.

LeNet-5, trained so that intervals certify it within 0.1 of a pixel, teaches LeNet-5-Half against a certified bound of
the gap between them. A reading of Faithful KD (arXiv:2306.04431), whose body could not be had: there are no numbers of
the paper to expect. Measured once: 95.7 % right, within 0.13 of the teacher's confidence by proof (docs/faithful.md).
An hour on two cores.

python launch/main.py --config=configs/mnist_faithful.py --config.dataset.data_dir=DIR --workdir=runs/mnist_faithful
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.faithful('mnist', 0.15, variant)
