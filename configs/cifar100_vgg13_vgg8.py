r"""CIFAR-100, three VGG-13 teach VGG-8 by CA-MKD, after the recipe of its code (arXiv:2201.00007).

That the paper has this pair is a reading of ours: its body could not be had, and the official scripts name another pair
alone. Expected accuracy: not established. Time: not measured; for a GPU.

python launch/main.py --config=configs/cifar100_vgg13_vgg8.py --workdir=runs/vgg13_vgg8 \
    --config.dataset.data_dir=DIR
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.ca_mkd('vgg13', 'vgg8', variant)
