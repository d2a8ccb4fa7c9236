"""Temperature scaling: calibrate a network with one parameter, fitted on validation data."""

import numpy as np
import scipy.optimize
import scipy.special

from cckd_jax.errors import InputError

# The likelihood has no maximum inside the range if all validation examples are correct, or if the logits are useless.
_RANGE = (1e-2, 1e3)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    r"""The temperature that maximises the likelihood of the validation labels.

    $\arg\min_T -\sum_i \log \mathrm{softmax}(z_i / T)_{y_i}$ for T in [0.01, 1000]; the objective is convex in 1 / T.
    Dividing test logits by T changes confidences and no predicted class.

    Args:
      logits: float `[N, C]` of validation examples, which are used neither for training nor for the final test; N > 0.
      labels: int `[N]`.

    Returns:
      T > 0. It is close to 0.01 if every example is correct, and close to 1000 if the logits carry no information.

    Raises:
      InputError: a shape is wrong, or there are no examples.

    Source: equation 9 of Guo et al. (arXiv:1706.04599).

    >>> logits = np.log([[0.9, 0.1]] * 4)  # three of four are correct: the odds are 9 and should be 3
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 3)
    2.0
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise InputError(f'logits must be [N, C] and labels [N], N > 0; they are {logits.shape} and {labels.shape}')
    differences = logits - logits[np.arange(len(labels)), labels][:, None]
    loss = lambda log_temperature: scipy.special.logsumexp(differences * np.exp(-log_temperature), axis=-1).mean()
    result = scipy.optimize.minimize_scalar(loss, bounds=np.log(_RANGE), method='bounded', options={'xatol': 1e-6})
    return float(np.exp(result.x))
