"""The README's code runs, and its tables name what there is."""

import re
from pathlib import Path

from cckd_jax.methods import METHODS
from cckd_jax.models import MODELS

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def test_the_python_blocks_run():
    blocks = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, 'README.md', 'exec'), {})


def test_every_name_is_there():
    for name in [*METHODS, *MODELS, *(path.name for path in (ROOT / 'configs').glob('*.py'))]:
        assert f'`{name}`' in README, name


def test_every_picture_and_page_is_there():
    for target in re.findall(r'\]\((?!http)([^)#]+)\)', README):
        assert (ROOT / target).exists(), target
