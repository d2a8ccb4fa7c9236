"""The lower packages import without what only data sets, figures and statistics need."""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'cckd_jax'
HEAVY = {'tensorflow_datasets', 'sklearn', 'matplotlib', 'scipy', 'PIL'}


def test_heavy_packages_are_imported_lazily():
    # The parent package is empty, so that only the imports of these packages count. JAX itself imports some of SciPy.
    program = f"""
import sys, types, chex, flax.linen, jax.scipy.special
before = set(sys.modules)
package = types.ModuleType('cckd_jax')
package.__path__ = [{str(PACKAGE)!r}]
sys.modules['cckd_jax'] = package
import cckd_jax.losses, cckd_jax.selection, cckd_jax.checks, cckd_jax.errors, cckd_jax.models, cckd_jax.data
print(*sorted({{module.split('.')[0] for module in set(sys.modules) - before}} & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
