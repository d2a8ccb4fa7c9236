r"""Distillation from metadata: images whose activations replay the teacher's activation records.

For an image of class y, outputs of each recorded layer are drawn from their Gaussian, and the image minimizes

$\sum_l \frac{1}{n_l} \| \mathrm{relu}(\mu_{l,y} + L_{l,y} \epsilon_l) - \mathrm{relu}(h_l(x)) \|^2$

with logits divided by the temperature. `layers=top` has the term of the logits alone.

Source: Lopes, Fenu and Starner, "Data-Free Knowledge Distillation for Deep Neural Networks" (arXiv:1710.07535), the top
layer by its published code, all layers by the paper's description, for which the code runs on dense networks alone.
Readings of ours: noise is multiplied by the Cholesky factor, as in the paper, where the last version of the code has
the covariance; hidden layers are recorded before their activation function, like the logits, and feature maps unit by
unit; images start from noise with mean and deviation of the training pixels, and pixels are clipped to [0, 1] after
each step; a batch holds all classes. The paper's filters and spectral variants are left out.
"""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cckd_jax.errors import InputError, lookup
from cckd_jax.models import Network, init
from cckd_jax.synthesis import records
from cckd_jax.synthesis.inputs import make_input_optimizer, optimise_in_batches
from cckd_jax.synthesis.system import Preparation, Problem, Request, Samples, System

FILE = 'activation_records.npz'
# Whether hidden layers are recorded and replayed.
_LAYERS = {'top': False, 'all': True}


def prepare(preparation: Preparation) -> dict[str, np.ndarray]:
    """Reads the records that the settings name or the run has, or measures and stores them."""
    settings, teacher, train = preparation.settings, preparation.teacher, preparation.train
    hidden = _LAYERS[settings['layers']]
    path = preparation.files['records'] or preparation.workdir / FILE
    if not path.exists():
        measured = records.measure(teacher, train, preparation.num_classes, hidden=hidden)
        records.save(path, measured, preparation.digest)
    shapes = {
        layer: (preparation.num_classes, *values.shape[1:])
        for layer, values in _output_shapes(Request(teacher.module, train, preparation.num_classes, settings)).items()
    }
    return records.load(path, preparation.digest, shapes)


def replay_loss(
    outputs: Mapping[str, chex.Array], drawn: Mapping[str, chex.Array], *, temperature: float
) -> chex.Array:
    """The mean square difference of rectified outputs, summed over the layers.

    Args:
      outputs: float `[B, ...]` by layer, of the images.
      drawn: float `[B, ...]` by layer, from the records.
      temperature: divides both logits.

    Returns:
      float `[B]`.

    Source: Lopes et al. (arXiv:1710.07535), the objectives of the top layer and of all layers.

    >>> outputs, drawn = {'logits': jnp.array([[4.0, -9.0]])}, {'logits': jnp.array([[2.0, -1.0]])}
    >>> replay_loss(outputs, drawn, temperature=2.0).tolist()
    [0.5]
    """
    total = jnp.zeros(())
    for layer, values in outputs.items():
        scale = 1 / temperature if layer == records.LOGITS else 1.0
        difference = jax.nn.relu(drawn[layer] * scale) - jax.nn.relu(values * scale)
        total += jnp.square(difference).reshape(len(values), -1).mean(1)
    return total


def generate(problem: Problem) -> Samples:
    """Images that replay the records, batch by batch; classes take turns."""
    settings = problem.settings
    (noise_key, draw_key) = jax.random.split(problem.key)
    labels = (np.arange(settings['images']) % problem.num_classes).astype(np.int32)
    recorded = jax.tree.map(jnp.asarray, dict(problem.real))
    (mean, deviation) = recorded.pop('pixels')
    (module, hidden, temperature) = (problem.teacher.module, _LAYERS[settings['layers']], settings['temperature'])

    def loss(constants: Any, images: chex.Array) -> chex.Array:
        (variables, drawn) = constants
        outputs = records.layer_outputs(Network(module, variables), images, hidden=hidden)
        return jnp.sum(replay_loss(outputs, drawn, temperature=temperature))

    draw = jax.jit(records.draw)

    def batch(rows: np.ndarray, start: int) -> tuple[Any, chex.Array]:
        noise = jax.random.normal(jax.random.fold_in(noise_key, start), (len(rows), *problem.image_shape))
        drawn = draw(jax.random.fold_in(draw_key, start), recorded, labels[rows])
        images = mean.reshape(1, 1, 1, -1) + deviation.reshape(1, 1, 1, -1) * noise
        return (problem.teacher.variables, drawn), images.clip(0, 1)

    optimise = make_input_optimizer(loss, steps=settings['steps'], learning_rate=settings['learning_rate'])
    return Samples(optimise_in_batches(problem, optimise, batch, title='replayed images'), labels)


def check(request: Request) -> None:
    """Raises InputError for unknown layers, or for a teacher without hidden layers if they are to be replayed."""
    lookup(_LAYERS, request.settings['layers'], 'transfer.layers')
    if _LAYERS[request.settings['layers']] and len(_output_shapes(request)) == 1:
        raise InputError(
            f'transfer.layers=all replays hidden dense and convolutional layers of Flax, and '
            f'{type(request.module).__name__} has none; set --config.transfer.layers=top'
        )


def _output_shapes(request: Request) -> dict[str, Any]:
    """Shapes `[1, ...]` of the layers that the settings replay; only shapes are evaluated."""
    hidden = _LAYERS[request.settings['layers']]

    def outputs(images: chex.Array) -> dict[str, chex.Array]:
        variables = init(request.module, jax.random.key(0), images)
        return records.layer_outputs(Network(request.module, variables), images, hidden=hidden)

    shapes: dict[str, Any] = jax.eval_shape(outputs, jax.ShapeDtypeStruct((1, *request.image_shape), jnp.float32))
    return shapes


METADATA = System(
    generate,
    {
        'images': 64_000,
        'steps': 1000,
        'batch_size': 64,
        'learning_rate': 0.07,
        'temperature': 8.0,
        'layers': 'all',
        'records': '',
    },
    real_data='statistics',
    labels=('nominal', 'teacher'),
    check=check,
    prepare=prepare,
    files=('records',),
)
