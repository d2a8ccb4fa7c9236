"""The data sets of the tables: their configs, and where the paper has numbers for them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class DataSet(NamedTuple):
    """A data set with a pair of networks.

    Attributes:
      config: name of its config.
      paper: name in TFDS and student, under which `report.paper` has its numbers; empty if the paper lacks it.
      by_name_only: whether it runs only if it is requested, because its training needs a GPU or no table needs it.
    """

    config: str
    paper: tuple[str, str] = ('', '')
    by_name_only: bool = False


STAND_IN = 'digits'
# The embedded digits can stand in for the data set of any table.
DATASETS: Mapping[str, DataSet] = MappingProxyType(
    {
        'mnist': DataSet('mnist_lenet', ('mnist', 'lenet5_half')),
        'fashion_mnist': DataSet('fashion_mnist_lenet', ('fashion_mnist', 'lenet5_half')),
        'cifar10': DataSet('cifar10_alexnet', ('cifar10', 'alexnet_half'), by_name_only=True),
        'svhn_alexnet': DataSet('svhn_alexnet', ('svhn_cropped', 'alexnet_half'), by_name_only=True),
        'svhn_resnet': DataSet('svhn_resnet', ('svhn_cropped', 'resnet18'), by_name_only=True),
        STAND_IN: DataSet('digits_lenet', by_name_only=True),
    }
)
