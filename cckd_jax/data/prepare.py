"""Preparing a standard data set once, which needs TensorFlow and a network.

python -m cckd_jax.data.prepare mnist fashion_mnist --data_dir=DIR
"""

import argparse
import importlib.util
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from cckd_jax.errors import InputError, nearest

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_TIMEOUT_SECONDS = 4.0
# NAME, NAME/CONFIG, NAME:VERSION or NAMESPACE:NAME, each part as TFDS writes it.
_TFDS_NAME = re.compile(r'\w+(?::[\w.]+)?(?:/[\w.+-]+)*(?::[\d.*]+)?')


def obstacle(builder: 'tfds.core.DatasetBuilder') -> str | None:
    """Returns within seconds why a data set cannot be prepared here, or None.

    TFDS itself retries a dead connection for minutes and then fails with a traceback.
    """
    if importlib.util.find_spec('tensorflow') is None:
        return "TensorFlow, which TFDS needs to prepare it, is not installed (pip install '.[prepare]')"
    for url in sorted(builder.url_infos):
        request = urllib.request.Request(url, method='HEAD', headers={'User-Agent': 'Mozilla/5.0'})
        try:
            urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS).close()
        except urllib.error.HTTPError:
            continue  # the host is reachable, even if it rejects HEAD
        except (OSError, ValueError) as error:
            return f'{url} cannot be reached ({getattr(error, "reason", error)})'
    return None


def prepare(name: str, data_dir: str | None = None) -> Path:
    """Downloads and prepares a TFDS data set as ArrayRecord, and returns its folder.

    Raises:
      InputError: there is no such data set, or it cannot be prepared here.
    """
    builder = open_builder(name, data_dir)
    if not builder.is_prepared():
        reason = obstacle(builder)
        if reason:
            option = '' if data_dir is None else f' --data_dir={data_dir}'
            raise InputError(
                f'data set {name!r} is not at {builder.data_dir} and cannot be prepared: {reason}. Three ways out: '
                "(1) once, with a network: pip install '.[prepare]' && "
                f'python -m cckd_jax.data.prepare {name}{option}; '
                '(2) --config.dataset.data_dir=DIR with a copy that TFDS prepared as ArrayRecord; '
                '(3) --config.dataset.name=digits, which is embedded'
            )
        # A separate download folder, because TFDS keys extracted archives by file name, and MNIST and Fashion-MNIST
        # share all four names.
        downloads = Path(builder.data_dir).parents[1] / 'downloads' / name.replace('/', '_')
        try:
            builder.download_and_prepare(download_dir=str(downloads))
        except Exception as error:  # a wrong checksum, a full disk, a manual download
            reason = f'{type(error).__name__}: {" ".join(str(error).split())[:300]}'
            raise InputError(f'data set {name!r} cannot be prepared ({reason})') from error
    return Path(builder.data_dir)


def is_known(name: str) -> bool:
    """Whether TFDS has a data set of this name."""
    if not re.fullmatch(r'\w+', name):
        return False
    import tensorflow_datasets as tfds  # takes a second

    try:
        tfds.builder_cls(name)
    except tfds.core.DatasetNotFoundError:
        return False
    return True


def open_builder(name: str, data_dir: str | None) -> 'tfds.core.DatasetBuilder':
    """Returns the TFDS builder of a data set, over ArrayRecord files.

    Raises:
      InputError: the name is unknown, or the prepared copy cannot be used.
    """
    import tensorflow_datasets as tfds  # takes a second

    if not _TFDS_NAME.fullmatch(name):
        raise InputError(
            f'data set {name!r} cannot be used: there is no such folder, and TFDS has no such name; give digits, a '
            'TFDS name such as mnist, a file FILE.npz, or a folder of images'
        )
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir, file_format='array_record')
    except tfds.core.DatasetNotFoundError:
        names = ['digits', *tfds.list_builders(with_community_datasets=False)]
        raise InputError(
            f'unknown data set {name!r}{nearest(name, names)}; there are: digits, every image classification set of '
            'TFDS such as mnist, fashion_mnist, cifar10, cifar100, svhn_cropped, any FILE.npz, and any folder of images'
        ) from None
    except Exception as error:  # TFDS raises anything for a copy that it cannot use
        if 'File format is already set' in str(error):
            raise InputError(
                f'data set {name!r} was prepared in another format than ArrayRecord; '
                f'prepare it in another folder: python -m cckd_jax.data.prepare {name} --data_dir=DIR'
            ) from None
        raise InputError(f'data set {name!r} cannot be used: {" ".join(str(error).split())[:300]}') from None


def main() -> None:
    """Prepares the data sets named on the command line."""
    parser = argparse.ArgumentParser(description='Prepare TFDS data sets as ArrayRecord.')
    parser.add_argument('names', nargs='+', help='for example mnist fashion_mnist cifar10')
    parser.add_argument('--data_dir', help="the TFDS directory; TFDS's default if not given")
    arguments = parser.parse_args()
    for name in arguments.names:
        try:
            print(f'{name} is prepared in {prepare(name, arguments.data_dir)}')
        except InputError as error:
            raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
    main()
