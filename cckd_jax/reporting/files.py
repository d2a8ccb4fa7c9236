"""Files that are written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes through a temporary name, so that a reader never sees half a file."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    temporary.write_text(text, encoding='utf-8')
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """The same for JSON, indented; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + '\n')
