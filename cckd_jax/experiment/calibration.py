"""How well networks know what they know, and how close a student's confidences are to its teacher's."""

from typing import Any

import chex
import jax
import numpy as np
import scipy.special

from cckd_jax import evaluation
from cckd_jax.experiment.judged import Judged
from cckd_jax.experiment.networks import Run
from cckd_jax.reporting import calibration as pictures

_ERRORS = {
    'expected_calibration_error': evaluation.expected_calibration_error,
    'adaptive_calibration_error': evaluation.adaptive_calibration_error,
    'negative_log_likelihood': evaluation.negative_log_likelihood,
    'brier_score': evaluation.brier_score,
}


def measure(this: Run, found: Judged) -> dict[str, Any]:
    """Calibration of each network on the test split, and of the students relative to the teacher; draws its figure.

    Where there is a validation split, a temperature is fitted on it for each network that was trained on the rest, and
    its errors at that temperature are beside those at 1.
    """
    labels = this.dataset.test.labels
    networks = {name: _network(this, found, name, logits, labels) for name, logits in found.logits.items()}
    relative = {}
    if 'teacher' in found.logits:
        imitation = jax.jit(evaluation.imitation)
        relative = {
            name: jax.tree.map(float, imitation(found.logits['teacher'], found.logits[name], labels)._asdict())
            for name in found.students()
        }
    reliability = jax.jit(evaluation.reliability)
    diagrams = {name: reliability(logits.astype(np.float32), labels) for name, logits in found.logits.items()}
    sure = {name: _on_label(logits, labels) for name, logits in found.logits.items()}
    pictures.reliability(this.workdir / 'figures' / 'reliability.png', diagrams, sure)
    return {'networks': networks, 'relative': relative, 'validation_examples': len(this.dataset.validation)}


def _network(this: Run, found: Judged, name: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    temperature = scaled = None
    validation = this.dataset.validation
    if len(validation) and name in found.of_this_split:
        held_out = evaluation.predict(found.networks[name], validation.images, devices=this.devices)
        temperature = evaluation.fit_temperature(held_out, validation.labels)
        scaled = _errors(logits / temperature, labels)
    return {**_errors(logits, labels), 'temperature': temperature, 'at_temperature': scaled}


def _errors(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return jax.tree.map(float, _all_errors(logits.astype(np.float32), labels))


@jax.jit
def _all_errors(logits: chex.Array, labels: chex.Array) -> dict[str, chex.Array]:
    return {name: error(logits, labels) for name, error in _ERRORS.items()}


def _on_label(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return scipy.special.softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels]
