"""Everything with a name can come from outside: a built-in name, or the import path `package.module:NAME`."""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any, TypeVar

from cckd_jax.errors import InputError, lookup, nearest

T = TypeVar('T')


def resolve(name: str, table: Mapping[str, T], kind: str) -> T:
    """Returns the entry of a table, or the object at an import path.

    Args:
      name: a key of the table, or `package.module:NAME`.
      table: the built-in objects.
      kind: what they are, for messages.

    Raises:
      InputError: the table has no such key, or the path cannot be imported.

    >>> resolve('kd', {'kd': 1}, 'method'), resolve('math:pi', {}, 'method')
    (1, 3.141592653589793)
    """
    return import_object(name, kind) if ':' in str(name) else lookup(table, name, kind)


def import_object(path: str, kind: str) -> Any:
    """Returns the object at `package.module:NAME`.

    Args:
      path: module and name; the current directory is on the path of a command.
      kind: what the object is, for messages.

    Raises:
      InputError: the module cannot be imported, or has no such name.
    """
    (module_name, _, name) = path.partition(':')
    try:
        module = importlib.import_module(module_name)
    except InputError as error:  # the module has a method or an evaluator that is not one
        raise InputError(f'{kind} {path!r}: {error}') from error
    except Exception as error:  # importing a user's module runs a user's code
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise InputError(
            f'{kind} {path!r} cannot be imported: {reason}; give package.module:NAME, importable from the current '
            'directory'
        ) from error
    if not hasattr(module, name):
        names = [public for public in vars(module) if not public.startswith('_')]
        raise InputError(
            f'{kind} {path!r} cannot be imported: {module_name} has no {name!r}{nearest(name, names)}; give '
            'package.module:NAME'
        )
    return getattr(module, name)


def require(*packages: str, extra: str = 'export') -> None:
    """Raises InputError for the first package that is not installed.

    Args:
      *packages: names of top-level modules.
      extra: the extra of this package that they belong to.

    >>> require('numpy')
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{package} is not installed; pip install '.[{extra}]'")
