"""Weights of ResNets that were trained in PyTorch.

Names and shapes are those of torchvision, timm and most implementations for CIFAR: `conv1`, `bn1`, `layer1.0.conv1`,
`layer2.0.downsample.0`, `fc`. The architectures match where the first convolution is 3x3 without max pooling, blocks
are basic, and shortcuts are projected.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from cckd_jax.errors import InputError
from cckd_jax.imports import require
from cckd_jax.models import base
from cckd_jax.models.resnet import ResNet

# Names of layers by those of other implementations, after the prefix of torch.nn.DataParallel.
_ALIASES = ((r'^module\.', ''), (r'\.shortcut\.', '.downsample.'), (r'^linear\.', 'fc.'))
_LAYERS = {
    'stem': 'conv1',
    'stem_norm': 'bn1',
    'output': 'fc',
    'Conv_0': 'conv1',
    'BatchNorm_0': 'bn1',
    'Conv_1': 'conv2',
    'BatchNorm_1': 'bn2',
    'Conv_2': 'downsample.0',
    'BatchNorm_2': 'downsample.1',
}
_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
_WAY_OUT = 'export the network to ONNX and set teacher.onnx instead'


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a file by name.

    Args:
      path: a `.safetensors` file, or a file of `torch.save`, which needs PyTorch; it holds a state dict, alone or as
        the entry `state_dict`.

    Raises:
      InputError: a package is not installed, the file cannot be read, or it holds no state dict of PyTorch.
    """
    try:
        return _read_safetensors(path) if path.suffix == '.safetensors' else _read_torch(path)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(
            f'{path} needs {error.name}, which is not installed; install it, or save a .safetensors file'
        ) from None
    except FileNotFoundError:
        raise InputError(f'no file of weights at {path}') from None
    except Exception as error:  # both libraries raise their own
        reason = ' '.join(str(error).split())[:200]
        raise InputError(f'cannot read weights from {path} ({type(error).__name__}: {reason})') from None


def from_state_dict(
    module: nn.Module, state_dict: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """The variables of a ResNet from a state dict of PyTorch.

    Args:
      module: a network of `create`, such as `resnet18`.
      state_dict: arrays by name. Kernels `[out, in, h, w]` and `[out, in]` are transposed.
      image_shape: `(H, W, C)`.

    Raises:
      InputError: the module is no ResNet, or a name or a shape does not fit.

    >>> from cckd_jax import models
    >>> from_state_dict(models.create('resnet20'), {}, (32, 32, 3))
    Traceback (most recent call last):
    ...
    cckd_jax.errors.InputError: the weights have no ...; export the network to ONNX ...
    """
    if not isinstance(module, ResNet):
        raise InputError(f'weights of PyTorch fit ResNets, and not a {type(module).__name__}; {_WAY_OUT}')
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    needed = flatten_dict(jax.eval_shape(lambda images: base.init(module, jax.random.key(0), images), images))
    weights = {_name(name): np.asarray(values) for name, values in state_dict.items()}
    weights = {name: values for name, values in weights.items() if not name.endswith('num_batches_tracked')}
    if 'layer1.0.conv3.weight' in weights:
        raise InputError(
            f'the weights are of bottleneck blocks, as in ResNet-50, and this ResNet has basic ones; {_WAY_OUT}'
        )
    arrays = {}
    for path, leaf in needed.items():
        name = _torch_name(path)
        if name not in weights:
            raise InputError(f'the weights have no {name}; {_WAY_OUT}')
        values = weights.pop(name)
        axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(leaf.shape), tuple(range(len(leaf.shape))))
        if values.ndim != len(axes) or values.transpose(axes).shape != leaf.shape:
            shape = [leaf.shape[axis] for axis in np.argsort(axes)]
            raise InputError(
                f'{name} of the weights has shape {list(values.shape)}, and the network needs {shape}{_cause(name)}; '
                f'set the network and the data set to match, or {_WAY_OUT}'
            )
        arrays[path] = np.ascontiguousarray(values.transpose(axes), np.float32)
    if weights:
        raise InputError(f'the weights have {min(weights)}, which the network lacks; {_WAY_OUT}')
    return unflatten_dict(arrays)


def _cause(name: str) -> str:
    causes = {
        'conv1.weight': ' (its first convolution is 3x3 without max pooling, as for CIFAR; ImageNet has 7x7)',
        'fc.weight': ' (its first number is that of the classes)',
    }
    return causes.get(name, '')


def _torch_name(path: tuple[str, ...]) -> str:
    (_, *layers, leaf) = path
    names = []
    for layer in layers:
        group = re.fullmatch(r'groups_(\d+)_(\d+)', layer)
        names.append(f'layer{int(group[1]) + 1}.{group[2]}' if group else _LAYERS[layer])
    return '.'.join([*names, _LEAVES[leaf]])


def _name(name: str) -> str:
    for pattern, replacement in _ALIASES:
        name = re.sub(pattern, replacement, name)
    return name


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    require('safetensors')
    from safetensors import safe_open  # an extra

    with safe_open(path, 'numpy') as file:
        if (file.metadata() or {}).get('format') == 'flax':
            raise InputError(f'{path}: an exported student is not a checkpoint; give RUN/student')
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    import torch  # optional: only weights that torch.save wrote need it

    loaded = torch.load(path, map_location='cpu', weights_only=True)
    state_dict = loaded.get('state_dict', loaded)
    if not all(map(torch.is_tensor, state_dict.values())):
        raise InputError(f'{path} has {", ".join(map(str, state_dict))} and no state_dict; save the state dict alone')
    return {name: values.float().numpy() for name, values in state_dict.items()}
