"""Strict JAX for all tests: eight virtual devices, and broadcasting between ranks is an error."""

import gc
import os
import signal
import tempfile

# Set before JAX starts, and inherited by the command lines that tests run.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
os.environ.setdefault('XDG_CACHE_HOME', tempfile.mkdtemp(prefix='cckd-jax-tests-'))
# Compiling is most of the time that tests take: LLVM's costly passes are left out, and each program is compiled once.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
os.environ['JAX_COMPILATION_CACHE_DIR'] = os.path.join(os.environ['XDG_CACHE_HOME'], 'cckd_jax', 'compiled')
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

import jax
import pytest
from filelock import FileLock

jax.config.update('jax_num_cpu_devices', 8)
# Where optimisations stay on, fewer passes save a tenth of compile time. On 0.10, the older emitter of fusions saves
# a third; 0.12 no longer has it. XLA ends the process for a flag that it does not know, so other versions get none.
_QUICK = {
    (0, 10): '--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false',
    (0, 12): '--xla_backend_optimization_level=1',
}
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_QUICK.get(jax.__version_info__[:2], "")}'.strip()
# A shell ignores Ctrl-C for what it starts in the background, and processes inherit that; tests send the signal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tracing makes many objects and hardly a cycle of them: to look for cycles seldom takes up to a tenth off.
gc.set_threshold(100_000, 20, 20)

from helpers import digits_config, optimised

from cckd_jax import data, experiment


@pytest.fixture(scope='module', autouse=True)
def _programs_freed():
    # A compiled program takes up mapped regions, of which Linux grants a process 65,530: past them XLA crashes.
    yield
    jax.clear_caches()


@pytest.fixture(scope='session')
def one_device():
    return jax.devices()[:1]


@pytest.fixture(scope='session')
def digits():
    return data.load('digits')


@pytest.fixture(scope='session')
def trained(tmp_path_factory, one_device):
    """A finished run, whose teacher and separately trained student other tests reuse."""
    own = tmp_path_factory.getbasetemp()
    workdir = (own.parent if 'PYTEST_XDIST_WORKER' in os.environ else own) / 'trained'
    # Of all workers the first trains it: run again, a finished run is left as it is.
    with FileLock(workdir.with_suffix('.lock')), optimised():
        experiment.run(digits_config(method='cckd_t_reg'), workdir, devices=one_device)
    return workdir
