"""Whether a row can work: its columns run once on abstract arrays, which compiles and computes nothing."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cckd_jax.errors import InputError
from cckd_jax.methods.inputs import Batch, Hyperparameters, Inputs, Outputs
from cckd_jax.models import Classifier, Network
from cckd_jax.models.layers import conv, flatten

if TYPE_CHECKING:
    from cckd_jax.methods.method import Method, Schedule

_BATCH, _CLASSES, _SHAPE = 4, 10, (8, 8, 1)
_TEACHERS = {'none': 0, 'one': 1, 'optional': 1, 'several': 3}
_COLUMNS = ('loss', 'perturb', 'gate', 'weighting', 'features', 'teacher_weights', 'measures')

# Names that each column reads, by the columns and names of the row: values do not change what is checked.
_CHECKED: dict[Any, Mapping[str, frozenset[str]]] = {}


class _Probe(Classifier):
    """Four stages, so that any usual stage index exists, of layers that every bound has a rule for."""

    def setup(self):
        self.convs = [conv(2, 3, padding=1) for _ in range(4)]
        self.output = nn.Dense(self.num_classes)

    def stages(self):
        return tuple((layer, nn.relu) for layer in self.convs)

    def classifier(self):
        return (flatten, self.output)


@functools.cache
def _probe() -> tuple[nn.Module, Any]:
    module = _Probe(num_classes=_CLASSES)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return module, jax.eval_shape(module.init, key, jax.ShapeDtypeStruct((1, *_SHAPE), jnp.float32))


def validate(method: 'Method') -> Mapping[str, frozenset[str]]:
    """Returns the hyper-parameters that each column of a row reads.

    Raises:
      InputError: a column fails, returns a wrong shape or type, or a hyper-parameter is read by none of them.
    """
    _check_names(method)
    key = (
        *(getattr(method, name) for name in _COLUMNS),
        method.teachers,
        method.peers,
        method.live_teacher,
        tuple(method.schedules.items()),
        tuple((name, record.update, record.shape) for name, record in method.records.items()),
        frozenset(method.hyperparameters),
    )
    if key not in _CHECKED:
        _CHECKED[key] = _reads(method)
    return _CHECKED[key]


def _check_names(method: 'Method') -> None:
    if method.teachers not in _TEACHERS:
        raise InputError(f'teachers={method.teachers!r} of the method must be one of {", ".join(map(repr, _TEACHERS))}')
    for name in method.schedules:
        if name not in method.hyperparameters:
            raise InputError(f'the method schedules {name!r}, which is none of its hyper-parameters')
    if method.features is not None and method.features.weight not in method.hyperparameters:
        raise InputError(
            f'the method matches features with weight {method.features.weight!r}, which is none of its hyper-parameters'
        )


def _reads(method: 'Method') -> Mapping[str, frozenset[str]]:
    reads: dict[str, set[str]] = {}

    def recorded(column: str) -> Hyperparameters:
        return Hyperparameters(method.hyperparameters, reads.setdefault(column, set()).add)

    if method.features is not None:
        reads['features'] = {method.features.weight}
    (module, variables) = _probe()
    count = _TEACHERS[method.teachers]

    def columns(variables: Any, batch: Batch, records: Any) -> dict[str, Any]:
        inputs = _inputs(method, module, count, variables, batch, records)
        results: dict[str, Any] = {}

        def run(name: str, column: Callable[[Inputs], Any], inputs: Inputs) -> Any:
            results[name] = _call(name, column, inputs._replace(hyper=recorded(name)))
            return results[name]

        for name, schedule in method.schedules.items():
            hyper = recorded('schedules')
            _call(f'schedules[{name!r}]', functools.partial(_scale, schedule), inputs._replace(hyper=hyper))
        clean = inputs.outputs
        if method.perturb is not None:
            perturbed = run('perturb', method.perturb, inputs._replace(outputs=None))
            inputs = inputs._replace(perturbed=perturbed)
        if method.gate is not None:
            run('gate', method.gate.keep, inputs)
            if method.gate.next_epoch is not None:
                results['gate.next_epoch'] = _call(
                    'gate.next_epoch', method.gate.next_epoch, inputs._replace(hyper=recorded('gate'))
                )
        inputs = inputs._replace(outputs=clean, kept=batch.valid, mean=lambda values: jnp.mean(values, 0))
        run('loss', method.loss, inputs)
        if method.teacher_weights is not None:
            run('teacher_weights', method.teacher_weights, inputs)
        if method.measures is not None:
            for name, values in run('measures', method.measures, inputs).items():
                results[f'measures[{name!r}]'] = values
        for name, record in method.records.items():
            run(f'records[{name!r}]', record.update, inputs)
        if method.weighting is not None:
            results['weighting'] = _call('weighting', lambda inputs: method.weight(inputs.batch), inputs)
        return results

    records = {
        name: jax.ShapeDtypeStruct((_BATCH, *record.shape), record.dtype) for name, record in method.records.items()
    }
    _check_shapes(method, jax.eval_shape(columns, variables, _abstract_batch(method, count), records))
    unread = method.hyperparameters.keys() - set().union(*reads.values())
    if unread:
        raise InputError(
            f'no column of the method reads the hyper-parameter {", ".join(map(repr, sorted(unread)))}; remove it from '
            'the row, or read it as inputs.hyper.NAME'
        )
    return {column: frozenset(names) for column, names in reads.items()}


def _inputs(method, module: nn.Module, count: int, variables: Any, batch: Batch, records: Any) -> Inputs:
    network = Network(module, variables)
    features = network.features(batch.image)
    adapter = method.adapter((module,) * count, _SHAPE)
    adapted = None if adapter is None else adapter.init_with_output(jax.random.key(0), features)[0]
    live = method.live_teacher or method.matched_features is not None
    return Inputs(
        batch=batch,
        hyper=Hyperparameters(method.hyperparameters),
        student=network,
        teachers=(network,) * count if live else (),
        epoch=jnp.int32(0),
        step=jnp.int32(0),
        keys=jax.random.split(jax.random.key(0), _BATCH),
        outputs=Outputs(network(batch.image), features, adapted),
        records=records,
        group=jnp.stack([network(batch.image)] * 2) if method.peers else None,
    )


def _abstract_batch(method: 'Method', count: int) -> Batch:
    def shape(*sizes: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct((_BATCH, *sizes), dtype)

    aux: dict[str, Any] = {'teacher_logits': shape(count, _CLASSES)} if count else {}
    if method.matched_features is not None:
        aux['teacher_features'] = (shape(*_SHAPE[:2], 2),) * count
    if method.weighting is not None:
        aux['significance'] = shape()
    return Batch(shape(*_SHAPE), shape(dtype=jnp.int32), shape(dtype=jnp.int32), shape(dtype=bool), aux)


def _scale(schedule: 'Schedule', inputs: Inputs) -> Any:
    return schedule(inputs.epoch, inputs.hyper)


def _call(name: str, column: Callable[[Inputs], Any], inputs: Inputs) -> Any:
    try:
        return column(inputs)
    except Exception as error:  # a column is a user's code
        reason = ' '.join(str(error).split()) or type(error).__name__
        kind = '' if isinstance(error, InputError) else f'{type(error).__name__}: '
        raise InputError(f'`{name}` of the method cannot be computed: {kind}{reason}') from error


def _check_shapes(method: 'Method', results: Mapping[str, Any]) -> None:
    expected = {
        'loss': ((_BATCH,), jnp.floating),
        'gate': ((_BATCH,), jnp.bool_),
        'gate.next_epoch': ((_BATCH,), jnp.integer),
        'weighting': ((_BATCH,), jnp.floating),
        'perturb': ((_BATCH, *_SHAPE), jnp.floating),
        **{name: ((_BATCH,), jnp.floating) for name in results if name.startswith('measures[')},
        **{f'records[{name!r}]': ((_BATCH, *r.shape), r.dtype) for name, r in method.records.items()},
    }
    for name, (shape, kind) in expected.items():
        if name not in results:
            continue
        result = results[name]
        found_shape, dtype = getattr(result, 'shape', None), getattr(result, 'dtype', type(result))
        if found_shape != shape or not jnp.issubdtype(dtype, kind):
            wanted = ', '.join(['B', *map(str, shape[1:])])
            raise InputError(
                f'`{name}` of the method must return {jnp.dtype(kind).name if kind in (jnp.bool_,) else kind.__name__} '
                f'[{wanted}]; for a batch of B = {_BATCH} it returns {dtype} {found_shape}'
            )
