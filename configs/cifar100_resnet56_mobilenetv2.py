r"""CIFAR-100, three ResNet-56 teach MobileNetV2 by CA-MKD, with the recipe of its code (arXiv:2201.00007).

We assume that the paper compares this pair: its tables were not available, and the official scripts train another pair.
Expected accuracy: unknown. Not run at full length, and the time is not measured; for a GPU.

python launch/main.py --config=configs/cifar100_resnet56_mobilenetv2.py --workdir=runs/resnet56_mobilenetv2 \
    --config.dataset.data_dir=DIR
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.ca_mkd('resnet56', 'mobilenetv2', variant)
