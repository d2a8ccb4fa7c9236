"""Packages of the extra `export`, which are imported only where they are used."""

import importlib.util

from cckd_jax.errors import InputError


def require(*packages: str) -> None:
    """Raises InputError for the first package that is not installed.

    >>> require('numpy')
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f'{package} is not installed; pip install "cckd-jax[export]"')
