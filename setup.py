"""Package metadata and dependencies; `constraints.txt` pins the versions that were tested."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Read, not imported: the dependencies of the package are not installed yet.
VERSION = re.search(
    r"^__version__ = '(.+)'$", (ROOT / 'cckd_jax/__init__.py').read_text(encoding='utf-8'), re.MULTILINE
)
# flatbuffers serialises the programs of `jax.export`.
EXPORT = ['flatbuffers>=24.3.25', 'onnx>=1.17', 'onnxruntime>=1.20', 'safetensors>=0.5']
DOCS = ['furo>=2025.9', 'jupytext>=1.17', 'myst-nb>=1.3', 'sphinx>=8.2']

setup(
    name='cckd-jax',
    version=VERSION[1],
    description='Distil image classifiers sample by sample, in JAX and Flax',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=[*find_packages(include=['cckd_jax', 'cckd_jax.*']), 'cckd_jax.configs'],
    package_dir={'cckd_jax.configs': 'configs'},  # a wheel has the configs beside the code, for --config=NAME
    package_data={'cckd_jax': ['py.typed']},
    entry_points={'console_scripts': ['cckd-jax = cckd_jax.__main__:main']},
    python_requires='>=3.11',
    install_requires=[
        'absl-py>=2.3',
        'array_record>=0.8',
        'chex>=0.1.91',
        'flax>=0.12',
        'grain>=0.2.15',  # reads data that is larger than memory
        'importlib_resources>=6.5',  # tensorflow-datasets imports it and does not declare it
        'jax>=0.10',
        'markdown-it-py>=3.0',  # report.html
        'matplotlib>=3.9',
        'ml_collections>=1.1',
        'numpy>=2.0',
        'optax>=0.2.8',
        'orbax-checkpoint>=0.12,<1',
        'pillow>=11',
        'scikit-learn>=1.5',  # the embedded digits
        'scipy>=1.13',
        'tensorboardX>=2.6',
        'tensorflow-datasets>=4.9.10',
        'tqdm>=4.66',
    ],
    extras_require={
        'cuda': ['jax[cuda]>=0.10'],
        'docs': [*EXPORT, *DOCS],
        'export': EXPORT,
        'peer': ['torch>=2.6'],
        'prepare': ['tensorflow>=2.18'],
        'test': [
            *DOCS,
            *EXPORT,
            'filelock>=3.16',
            'foolbox>=3.3.4',
            'hypothesis>=6.130',
            'mypy>=2.4',
            'pytest>=8.3',
            'pytest-timeout>=2.4',
            'pytest-xdist>=3.8',
            'ruff>=0.11',
        ],
        # It needs Pillow below 13, which constraints.txt pins: install it without them.
        'trackio': ['trackio>=0.43'],
        'wandb': ['wandb>=0.31'],
    },
)
