"""The stubs of CONTRIBUTING.md run."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / 'CONTRIBUTING.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


@pytest.mark.parametrize('block', BLOCKS, ids=range(len(BLOCKS)))
def test_a_stub_runs(block):
    exec(compile(block, 'CONTRIBUTING.md', 'exec'), {'__name__': 'stub'})
