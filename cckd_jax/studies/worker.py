"""One run of a study in a process of its own: `python -m cckd_jax.studies.worker WORKDIR < config.json`."""

import json
import sys
from typing import Any

from ml_collections import ConfigDict

from cckd_jax import cli, experiment


def decode_config(text: str) -> ConfigDict:
    """Decodes what `ConfigDict.to_json` encodes.

    JSON has no tuples, and fields of networks must be hashable, so sequences become tuples.

    Args:
      text: JSON.

    Returns:
      The locked config.

    >>> decode_config('{"seed": 3, "dataset": {"image_shape": [28, 28, 1]}}').dataset.image_shape
    (28, 28, 1)
    """
    return _decode(json.loads(text)).lock()


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        return ConfigDict({name: _decode(item) for name, item in value.items()})
    return tuple(map(_decode, value)) if isinstance(value, list) else value


def main(workdir: str) -> int:
    """Runs the config on standard input in a workdir; returns the exit status."""
    return cli.guarded(lambda: experiment.run(decode_config(sys.stdin.read()), workdir))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
