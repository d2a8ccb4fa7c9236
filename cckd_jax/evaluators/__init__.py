"""Sections of `results.json` and of the report: each file computes numbers and renders a table and a figure.

An evaluator from outside the package is one object in one file, here `my_file.py`:

    from cckd_jax.evaluators import Evaluator
    from cckd_jax.report import markdown

    def measure(run, predictions):
        return {'logit_spread': {name: float(logits.std()) for name, logits in predictions.logits.items()}}

    def table(section):
        rows = [[name, f'{spread:.3f}'] for name, spread in section['logit_spread'].items()]
        return '## Spread of the logits\\n\\n' + markdown.table(['', 'spread'], rows)

    SPREAD = Evaluator(measure, table)

With `--config.evaluate.extra=my_file:SPREAD` its numbers are in `results.json` under its name, `SPREAD`, and its
table is in the report. A third argument, `figure(workdir, section)`, draws.
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from cckd_jax.errors import InputError
from cckd_jax.evaluators.accuracy import ACCURACY
from cckd_jax.evaluators.base import Evaluator as Evaluator, load_arrays as load_arrays, save_arrays as save_arrays
from cckd_jax.evaluators.calibration import CALIBRATION
from cckd_jax.evaluators.faithfulness import FAITHFULNESS
from cckd_jax.evaluators.finished_run import (
    FinishedRun as FinishedRun,
    Significance as Significance,
    Teachers as Teachers,
    TrainedNetwork as TrainedNetwork,
)
from cckd_jax.evaluators.participation import PARTICIPATION
from cckd_jax.evaluators.peers import PEERS
from cckd_jax.evaluators.predictions import Predictions as Predictions, predict as predict
from cckd_jax.evaluators.robustness import ROBUSTNESS, attacks
from cckd_jax.evaluators.schema import Results as Results
from cckd_jax.evaluators.significance import SIGNIFICANCE
from cckd_jax.evaluators.teachers import TEACHERS
from cckd_jax.evaluators.transfer import TRANSFER
from cckd_jax.evaluators.transfer_set import TRANSFER_SET
from cckd_jax.imports import import_object

# In the order of the report. A setting `config.evaluate.NAME=false` leaves out the section NAME.
EVALUATORS: Mapping[str, Evaluator] = {
    'accuracy': ACCURACY,
    'transfer_set': TRANSFER_SET,
    'participation': PARTICIPATION,
    'peers': PEERS,
    'teachers': TEACHERS,
    'significance': SIGNIFICANCE,
    'transfer': TRANSFER,
    'calibration': CALIBRATION,
    'robustness': ROBUSTNESS,
    'faithfulness': FAITHFULNESS,
}


def with_extra(specs: Sequence[str]) -> dict[str, Evaluator]:
    """The built-in evaluators and those of `config.evaluate.extra`, by name.

    Args:
      specs: import paths, `package.module:NAME`.

    Raises:
      InputError: an import path does not resolve to an `Evaluator`, or its name is taken.

    >>> list(with_extra([]))[:2]
    ['accuracy', 'transfer_set']
    """
    evaluators = dict(EVALUATORS)
    for spec in specs:
        name = spec.partition(':')[2]
        evaluator = _imported(spec)
        if name in evaluators or name in Results.__annotations__:
            raise InputError(f'evaluate.extra: {spec} has the name of another entry of results.json; rename it')
        evaluators[name] = evaluator
    return evaluators


def check(evaluate: ConfigDict) -> None:
    """Raises InputError if an evaluator or an attack from outside the package cannot be used.

    Args:
      evaluate: `config.evaluate`.
    """
    with_extra(evaluate.extra)
    attacks(evaluate)


def _imported(spec: str) -> Evaluator:
    evaluator = import_object(spec, 'evaluator')
    if not isinstance(evaluator, Evaluator):
        raise InputError(f'evaluate.extra: {spec} is a {type(evaluator).__name__}, not a cckd_jax.evaluators.Evaluator')
    return evaluator
