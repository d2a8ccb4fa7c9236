"""Tables of the documentation that the code determines: `make readme` writes them, `test_readme.py` compares."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from cckd_jax import cli, config as settings, config_check, models, robustness
from cckd_jax.cli import config_flags
from cckd_jax.errors import InputError
from cckd_jax.methods import GATES, METHODS
from cckd_jax.models import MODELS
from cckd_jax.report import markdown

ROOT = Path(__file__).parents[1]


def configs() -> str:
    """Networks, data, method and epochs of every config."""
    rows = []
    for name in config_flags.config_names():
        config = cli.load(name)
        config_check.check(config)
        (teachers, students) = (_counted(networks(config)) for networks in (settings.teachers, settings.students))
        epochs = (
            f'{config.teacher.epochs:,}, {config.student.epochs:,}' if teachers else f'none, {config.student.epochs:,}'
        )
        networks = f'{teachers or "none"} → {students}'
        rows.append([f'[`{name}`](configs/{name}.py)', networks, config.dataset.name, f'`{config.method}`', epochs])
    return markdown.table(['config', 'teacher → student', 'data', 'method', 'epochs (teacher, student)'], rows)


def _counted(networks: Sequence[Any]) -> str:
    models = [network.model for network in networks]
    counts = {model: models.count(model) for model in models}
    return ', '.join(f'`{model}`' if count == 1 else f'{count} x `{model}`' for model, count in counts.items())


def hyperparameters() -> str:
    """Hyper-parameters and learning rate of every method."""
    rows = [
        [f'`{name}`', _values(method.hyperparameters), f'{method.learning_rate:g}'] for name, method in METHODS.items()
    ]
    return markdown.table(['method', 'hyper-parameters', 'learning rate'], rows)


def gates() -> str:
    """Hyper-parameters of every gate."""
    rows = [[f'`{name}`', _values(gate.hyperparameters)] for name, gate in GATES.items()]
    return markdown.table(['gate', 'hyper-parameters'], rows)


def networks() -> str:
    """Layers, parameters for 10 classes, and certified bounds of every network."""
    rows = []
    for name, factory in MODELS.items():
        shape = (28, 28, 1) if name.startswith('lenet') else (32, 32, 3)
        module = models.create(name)
        variables = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), 'float32'))
        parameters = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
        options = {key: value for key, value in getattr(factory, 'keywords', {}).items() if key != 'initialization'}
        layers = type(module).__doc__.partition('\n')[0]
        bounds = 'yes' if _has_bounds(models.Network(module, variables)) else 'no'
        rows.append([f'`{name}`', layers, _values(options), f'{parameters:,}', bounds])
    return markdown.table(['network', 'layers', 'options', 'parameters', 'certified bounds'], rows)


TABLES = {
    'README.md': {'configs': configs},
    'docs/methods.md': {'hyperparameters': hyperparameters, 'gates': gates},
    'docs/networks.md': {'networks': networks},
}


def between(text: str, name: str) -> str:
    """The text between `<!-- name -->` and `<!-- end -->`."""
    return re.search(_pattern(name), text, re.DOTALL)[1].strip()


def first_column(text: str) -> Sequence[str]:
    """What stands in backticks at the start of the rows of a table."""
    return re.findall(r'^\| \[?`([^`]+)`', text, re.MULTILINE)


def _has_bounds(network: models.Network) -> bool:
    try:
        robustness.check_layers(network)
    except InputError:
        return False
    return True


def _pattern(name: str) -> str:
    return f'<!-- {name} -->\n(.*?)<!-- end -->'


def _values(values: dict[str, Any]) -> str:
    return ', '.join(f'{name}={_value(value)}' for name, value in values.items())


def _value(value: Any) -> str:
    if value is None:
        return 'empty'
    return f'{value:.4g}' if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == '__main__':
    for page, tables in TABLES.items():
        text = (ROOT / page).read_text()
        for name, table in tables.items():
            block = f'<!-- {name} -->\n{table()}\n<!-- end -->'
            text = re.sub(_pattern(name), lambda match, block=block: block, text, flags=re.DOTALL)
        (ROOT / page).write_text(text)
