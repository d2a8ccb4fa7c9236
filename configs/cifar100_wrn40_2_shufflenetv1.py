r"""CIFAR-100, three WRN-40-2 teach ShuffleNet by CA-MKD, after the recipe of its code (arXiv:2201.00007).

That the paper has this pair is a reading of ours: its body could not be had, and the official scripts name another pair
alone. Expected accuracy: not established. Time: not measured; for a GPU.

python launch/main.py --config=configs/cifar100_wrn40_2_shufflenetv1.py --workdir=runs/wrn40_2_shufflenetv1 \
    --config.dataset.data_dir=DIR
"""

from cckd_jax import recipes


def get_config(variant: str = ''):
    return recipes.ca_mkd('wrn40_2', 'shufflenetv1', variant)
