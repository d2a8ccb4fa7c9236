r"""CIFAR-100, three WRN-40-2 teach ShuffleNetV1 by CA-MKD, with the recipe of its code (arXiv:2201.00007).

We assume that the paper compares this pair: its tables were not available, and the official scripts train another pair.
Expected accuracy: unknown. Not run at full length, and the time is not measured; for a GPU.

python launch/main.py --config=configs/cifar100_wrn40_2_shufflenetv1.py --workdir=runs/wrn40_2_shufflenetv1 \
    --config.dataset.data_dir=DIR
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.ca_mkd('wrn40_2', 'shufflenetv1', variant)
