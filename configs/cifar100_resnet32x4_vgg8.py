r"""CIFAR-100, three ResNet-32x4 teach VGG-8 by CA-MKD, after the recipe of its code (arXiv:2201.00007).

The pair is that of the official scripts. Expected accuracy: not established. Time: not measured; for a GPU.

python launch/main.py --config=configs/cifar100_resnet32x4_vgg8.py --workdir=runs/resnet32x4_vgg8 \
    --config.dataset.data_dir=DIR
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.ca_mkd('resnet32x4', 'vgg8', variant)
