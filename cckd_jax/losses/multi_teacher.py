"""Distillation from K teachers, weighted equally (AVER), by entropy (EBKD) or by their loss on the label (CA-MKD).

AEKD is in `aekd.py`, feature matching in `feature_maps.py`. All follow the code of CA-MKD (Zhang, Chen and Wang,
arXiv:2201.00007): Kullback-Leibler divergences times tau^2, to which the methods add the cross entropy of the label.
Teacher logits are `[K, B, C]`.
"""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_hyperparameters, check_teachers
from cckd_jax.losses.distillation import cross_entropy
from cckd_jax.losses.divergence import kl_divergence


def distillation_kl(
    student_logits: chex.Array, teacher_logits: chex.Array, *, temperature: chex.Numeric = 4.0
) -> chex.Array:
    r"""The divergence of each teacher from the student, times tau^2.

    $D_{kb} = \tau^2 \, \mathrm{KL}(\mathrm{softmax}(z_{T_k} / \tau)_b \,\|\, \mathrm{softmax}(z_S / \tau)_b)$

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`; no gradient flows into it.
      temperature: tau, in [0.001, 10000].

    Returns:
      float32 `[K, B]`, in nats times tau^2.

    Raises:
      InputError: the temperature is out of range.

    Source: Hinton et al. (arXiv:1503.02531), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> distillation_kl(jnp.zeros((1, 2)), jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]])), temperature=1.0).tolist()
    [[0.1308], [0.0]]
    """
    check_teachers(teacher_logits, student_logits)
    check_hyperparameters(temperature=temperature)
    from_teacher = lambda logits: kl_divergence(student_logits, logits, temperature=temperature)
    return temperature**2 * jax.vmap(from_teacher)(jax.lax.stop_gradient(teacher_logits))


def aver(student_logits: chex.Array, teacher_logits: chex.Array, *, temperature: chex.Numeric = 4.0) -> chex.Array:
    r"""AVER: the mean over teachers.

    $L_b = \frac{1}{K} \sum_k D_{kb}$ with D from `distillation_kl`.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`; no gradient flows into it.
      temperature: tau, in [0.001, 10000].

    Returns:
      float32 `[B]`, in nats times tau^2.

    Raises:
      InputError: the temperature is out of range.

    Source: You et al. (KDD 2017), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> aver(jnp.zeros((1, 2)), jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]])), temperature=1.0).tolist()
    [0.0654]
    """
    return jnp.mean(distillation_kl(student_logits, teacher_logits, temperature=temperature), axis=0)


def ebkd_weights(teacher_logits: chex.Array) -> chex.Array:
    r"""Weights from the teachers' entropies: the lower the entropy, the larger the weight, right or wrong.

    $w_{kb} = 1 - H_{kb} / \sum_j H_{jb}$, with H the entropy of the teacher's distribution at temperature 1. The
    weights sum to K - 1 over the teachers.

    Args:
      teacher_logits: float `[K, B, C]`, K >= 2; no gradient flows into it.

    Returns:
      float32 `[K, B]`, in [0, 1]; (K - 1) / K each if every entropy is zero.

    Raises:
      InputError: there is only one teacher.

    Source: Kwon et al. (ICASSP 2020), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> ebkd_weights(jnp.array([[[0.0, 0.0]], [[90.0, 0.0]], [[0.0, 0.0]]])).tolist()
    [[0.5], [1.0], [0.5]]
    """
    check_teachers(teacher_logits, at_least=2)
    log_teachers = jax.nn.log_softmax(jax.lax.stop_gradient(teacher_logits).astype(jnp.float32))
    # Above zero, so that teachers without entropy get equal weights.
    entropy = 1e-30 - jnp.sum(jnp.exp(log_teachers) * log_teachers, axis=-1)
    return 1.0 - entropy / jnp.sum(entropy, axis=0, keepdims=True)


def ebkd(student_logits: chex.Array, teacher_logits: chex.Array, *, temperature: chex.Numeric = 4.0) -> chex.Array:
    r"""EBKD: teachers weighted by their entropy, per sample.

    $L_b = \frac{1}{K} \sum_k w_{kb} D_{kb}$ with w from `ebkd_weights` and D from `distillation_kl`.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`, K >= 2; no gradient flows into it.
      temperature: tau of D, in [0.001, 10000]; the weights are computed at 1.

    Returns:
      float32 `[B]`, in nats times tau^2.

    Raises:
      InputError: there is only one teacher, or the temperature is out of range.

    Source: Kwon et al. (ICASSP 2020), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> ebkd(jnp.zeros((1, 2)), jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]])), temperature=1.0).tolist()
    [0.0361]
    """
    weights = ebkd_weights(teacher_logits)
    return jnp.mean(weights * distillation_kl(student_logits, teacher_logits, temperature=temperature), axis=0)


def ca_mkd_weights(teacher_logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""Weights from the teachers' cross entropies: the lower a teacher's loss on the label, the larger its weight.

    $w_{kb} = \frac{1}{K - 1} (1 - \mathrm{softmax}_k(\mathrm{CE}(z_{T_k}, y)_b))$, all at temperature 1. The weights
    sum to 1 over the teachers, none exceeds 1 / (K - 1), and equal teachers get 1 / K each.

    Args:
      teacher_logits: float `[K, B, C]`, K >= 2; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float32 `[K, B]`, in [0, 1 / (K - 1)].

    Raises:
      InputError: there is only one teacher, or a label is out of range.

    Source: equations 1 and 2 of CA-MKD (arXiv:2201.00007).

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[[50.0, 0.0]], [[0.0, 50.0]], [[0.0, 50.0]]])
    >>> ca_mkd_weights(logits, jnp.array([0])).tolist()
    [[0.5], [0.25], [0.25]]
    """
    return cross_entropy_weights(jax.lax.stop_gradient(teacher_logits), labels)


def cross_entropy_weights(logits: chex.Array, labels: chex.Array) -> chex.Array:
    """`ca_mkd_weights` with a gradient, for logits that depend on the student."""
    check_teachers(logits, at_least=2)
    errors = jax.vmap(cross_entropy, (0, None))(logits, labels)
    return (1.0 - jax.nn.softmax(errors, axis=0)) / (len(logits) - 1)


def ca_mkd_logits(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 4.0,
    reduction: str = 'official',
) -> chex.Array:
    r"""CA-MKD on logits: teachers weighted by their loss on the label, per sample.

    With w from `ca_mkd_weights` and D from `distillation_kl`, `official` is $L_b = \frac{1}{K} \sum_k w_{kb} D_{kb}$,
    and `paper` is
    $L_b = -\sum_k w_{kb} \sum_c \mathrm{softmax}(z_{T_k} / \tau)_{bc} \log \mathrm{softmax}(z_S / \tau)_{bc}$, whose
    gradient is that of `official` times K / tau^2. For equal teachers, `official` equals `aver` / K.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`, K >= 2; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau of the matched distributions, in [0.001, 10000]; the weights are computed at 1.
      reduction: `official`, the factors of the paper's code, or `paper`, those of its text.

    Returns:
      float32 `[B]`, in nats; times tau^2 for `official`.

    Raises:
      InputError: there is only one teacher, or a hyper-parameter or a label is out of range.

    Source: equation 3 of CA-MKD (arXiv:2201.00007); the factors of `official` are from its code.

    >>> import jax.numpy as jnp
    >>> ca_mkd_logits(jnp.zeros((1, 2)), jnp.zeros((2, 1, 2)), jnp.array([0]), reduction='paper').tolist()
    [0.6931]
    """
    check_teachers(teacher_logits, student_logits)
    check_hyperparameters(temperature=temperature, reduction=reduction)
    weights = ca_mkd_weights(teacher_logits, labels)
    if reduction == 'official':
        return jnp.mean(weights * distillation_kl(student_logits, teacher_logits, temperature=temperature), axis=0)
    targets = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits).astype(jnp.float32) / temperature)
    log_student = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
    return -jnp.sum(weights * jnp.sum(targets * log_student[None], axis=-1), axis=0)
