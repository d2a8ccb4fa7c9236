"""Temperature scaling: the one number that makes a network as sure as it is right, fitted on validation data."""

import numpy as np
import scipy.optimize
import scipy.special

from cckd_jax.errors import InputError

# Beyond these no network is: they are met where validation examples are all right, or random.
_RANGE = (1e-2, 1e3)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    r"""The temperature at which the likelihood of validation labels is largest.

    $\arg\min_T -\sum_i \log \mathrm{softmax}(z_i / T)_{y_i}$, which is convex in 1 / T; T in [0.01, 1000]. Dividing
    test logits by it changes no choice, only how sure it is.

    Args:
      logits: float `[N, C]` of examples that the network was not trained on, nor will be judged by; N > 0.
      labels: int `[N]`, in `[0, C)`.

    Returns:
      T > 0. Near 0.01 where every example is right, near 1000 where logits say nothing of labels.

    Raises:
      InputError: shapes are wrong, or there are no examples.

    Source: equation 9 of Guo et al. (arXiv:1706.04599).

    >>> logits = np.log([[0.9, 0.1]] * 4)  # right three times of four: odds of 9 that should be 3
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 3)
    2.0
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise InputError(f'logits must be [N, C] and labels [N], N > 0; they are {logits.shape} and {labels.shape}')
    over = logits - logits[np.arange(len(labels)), labels][:, None]
    loss = lambda log_temperature: scipy.special.logsumexp(over * np.exp(-log_temperature), axis=-1).mean()
    found = scipy.optimize.minimize_scalar(loss, bounds=np.log(_RANGE), method='bounded', options={'xatol': 1e-6})
    return float(np.exp(found.x))
