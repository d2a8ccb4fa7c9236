r"""CIFAR-100, three ResNet-32x4 teach VGG-8 by CA-MKD, with the recipe of its code (arXiv:2201.00007).

The pair is the one that the official scripts train. Expected accuracy: unknown. Not run at full length, and the time is
not measured; for a GPU.

python launch/main.py --config=configs/cifar100_resnet32x4_vgg8.py --workdir=runs/resnet32x4_vgg8 \
    --config.dataset.data_dir=DIR
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.ca_mkd('resnet32x4', 'vgg8', variant)
