"""Distillation from K teachers: equally (AVER), or weighted by how sure (EBKD) or how right (CA-MKD) each one is.

AEKD, which weighs by how far the teachers' gradients agree, is in `agreement.py`; matching feature maps in
`feature_maps.py`. All are as the code of CA-MKD (Zhang, Chen and Wang, arXiv:2201.00007) has them: Kullback-Leibler
divergences times tau^2, to which the methods add the label's cross entropy. Teacher logits are `[K, B, C]`.
"""

import chex
import jax
import jax.numpy as jnp

from cckd_jax.checks import check_labels, check_positive, check_reduction, check_teachers
from cckd_jax.losses.divergence import divergence


def divergences(
    student_logits: chex.Array, teacher_logits: chex.Array, *, temperature: chex.Numeric = 4.0
) -> chex.Array:
    r"""How far the student is from each teacher.

    $D_{kb} = \tau^2 \, \mathrm{KL}(\mathrm{softmax}(z_{T_k} / \tau)_b \,\|\, \mathrm{softmax}(z_S / \tau)_b)$

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`; no gradient flows into it.
      temperature: tau > 0.

    Returns:
      float32 `[K, B]`, in nats times tau^2.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: the temperature is not above 0.

    Source: Hinton et al. (arXiv:1503.02531), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> divergences(jnp.zeros((1, 2)), jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]])), temperature=1.0).tolist()
    [[0.1308], [0.0]]
    """
    check_teachers(teacher_logits, student_logits)
    check_positive(temperature=temperature)
    of_one = lambda logits: divergence(student_logits, logits, temperature=temperature)
    return temperature**2 * jax.vmap(of_one)(jax.lax.stop_gradient(teacher_logits))


def aver(student_logits: chex.Array, teacher_logits: chex.Array, *, temperature: chex.Numeric = 4.0) -> chex.Array:
    r"""AVER: all teachers count the same.

    $L_b = \frac{1}{K} \sum_k D_{kb}$ with D of `divergences`.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`; no gradient flows into it.
      temperature: tau > 0.

    Returns:
      float32 `[B]`, in nats times tau^2.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: the temperature is not above 0.

    Source: You et al. (KDD 2017), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> aver(jnp.zeros((1, 2)), jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]])), temperature=1.0).tolist()
    [0.0654]
    """
    return jnp.mean(divergences(student_logits, teacher_logits, temperature=temperature), axis=0)


def ebkd_weights(teacher_logits: chex.Array) -> chex.Array:
    r"""The weight of each teacher by its entropy: the surer, the more; whether it is right is not asked.

    $w_{kb} = 1 - H_{kb} / \sum_j H_{jb}$, H the entropy of the teacher's distribution at temperature 1. They sum to
    K - 1 over the teachers.

    Args:
      teacher_logits: float `[K, B, C]`, K >= 2; no gradient flows into it.

    Returns:
      float32 `[K, B]`, in [0, 1]; of teachers without any entropy (K - 1) / K each.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: there is one teacher alone.

    Source: Kwon et al. (ICASSP 2020), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> ebkd_weights(jnp.array([[[0.0, 0.0]], [[90.0, 0.0]], [[0.0, 0.0]]])).tolist()
    [[0.5], [1.0], [0.5]]
    """
    check_teachers(teacher_logits, at_least=2)
    log_teachers = jax.nn.log_softmax(jax.lax.stop_gradient(teacher_logits).astype(jnp.float32))
    # Not zero, so that teachers that are all certain count the same.
    entropy = 1e-30 - jnp.sum(jnp.exp(log_teachers) * log_teachers, axis=-1)
    return 1.0 - entropy / jnp.sum(entropy, axis=0, keepdims=True)


def ebkd(student_logits: chex.Array, teacher_logits: chex.Array, *, temperature: chex.Numeric = 4.0) -> chex.Array:
    r"""EBKD: the teachers that are surer of a sample count more for it.

    $L_b = \frac{1}{K} \sum_k w_{kb} D_{kb}$ with w of `ebkd_weights` and D of `divergences`.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`, K >= 2; no gradient flows into it.
      temperature: tau > 0, of the divergences; the weights are at 1.

    Returns:
      float32 `[B]`, in nats times tau^2.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: there is one teacher alone, or the temperature is not above 0.

    Source: Kwon et al. (ICASSP 2020), as in CA-MKD's code.

    >>> import jax.numpy as jnp
    >>> ebkd(jnp.zeros((1, 2)), jnp.log(jnp.array([[[3.0, 1.0]], [[1.0, 1.0]]])), temperature=1.0).tolist()
    [0.0361]
    """
    weights = ebkd_weights(teacher_logits)
    return jnp.mean(weights * divergences(student_logits, teacher_logits, temperature=temperature), axis=0)


def ca_mkd_weights(teacher_logits: chex.Array, labels: chex.Array) -> chex.Array:
    r"""The weight of each teacher by its cross entropy with the label: the nearer to the truth, the more.

    $w_{kb} = \frac{1}{K - 1} (1 - \mathrm{softmax}_k(\mathrm{CE}(z_{T_k}, y)_b))$, all at temperature 1. They sum to 1
    over the teachers, none exceeds 1 / (K - 1), and equal teachers have 1 / K each.

    Args:
      teacher_logits: float `[K, B, C]`, K >= 2; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.

    Returns:
      float32 `[K, B]`, in [0, 1 / (K - 1)].

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: there is one teacher alone.

    Source: equations 1 and 2 of CA-MKD (arXiv:2201.00007).

    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[[50.0, 0.0]], [[0.0, 50.0]], [[0.0, 50.0]]])
    >>> ca_mkd_weights(logits, jnp.array([0])).tolist()
    [[0.5], [0.25], [0.25]]
    """
    return weights_by_label(jax.lax.stop_gradient(teacher_logits), labels)


def weights_by_label(logits: chex.Array, labels: chex.Array) -> chex.Array:
    """`ca_mkd_weights` through which a gradient flows: for logits that depend on the student."""
    check_teachers(logits, at_least=2)
    check_labels(labels, logits[0])
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    error = -jnp.take_along_axis(log_probabilities, labels[None, :, None], axis=-1)[..., 0]
    return (1.0 - jax.nn.softmax(error, axis=0)) / (len(logits) - 1)


def ca_mkd_logits(
    student_logits: chex.Array,
    teacher_logits: chex.Array,
    labels: chex.Array,
    *,
    temperature: chex.Numeric = 4.0,
    reduction: str = 'official',
) -> chex.Array:
    r"""CA-MKD on logits: the teachers that are nearer to a sample's label count more for it.

    With w of `ca_mkd_weights`, `official`: $L_b = \frac{1}{K} \sum_k w_{kb} D_{kb}$, D of `divergences`. `paper`:
    $L_b = -\sum_k w_{kb} \sum_c \mathrm{softmax}(z_{T_k} / \tau)_{bc} \log \mathrm{softmax}(z_S / \tau)_{bc}$, whose
    gradient is that of `official` times K / tau^2. For equal teachers `official` is `aver` / K.

    Args:
      student_logits: float `[B, C]`.
      teacher_logits: float `[K, B, C]`, K >= 2; no gradient flows into it.
      labels: int `[B]`, in `[0, C)`.
      temperature: tau > 0, of the distributions matched; the weights are at 1.
      reduction: `official`, as the paper's code, or `paper`, as its text.

    Returns:
      float32 `[B]`, in nats; times tau^2 where `official`.

    Raises:
      AssertionError: shapes or types are wrong.
      ValueError: there is one teacher alone, the temperature is not above 0, or there is no such reduction.

    Source: equation 3 of CA-MKD (arXiv:2201.00007); the factors of `official` are its code's.

    >>> import jax.numpy as jnp
    >>> ca_mkd_logits(jnp.zeros((1, 2)), jnp.zeros((2, 1, 2)), jnp.array([0]), reduction='paper').tolist()
    [0.6931]
    """
    check_reduction(reduction)
    weights = ca_mkd_weights(teacher_logits, labels)
    if reduction == 'official':
        return jnp.mean(weights * divergences(student_logits, teacher_logits, temperature=temperature), axis=0)
    check_teachers(teacher_logits, student_logits)
    check_positive(temperature=temperature)
    teachers = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits).astype(jnp.float32) / temperature)
    log_student = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
    return -jnp.sum(weights * jnp.sum(teachers * log_student[None], axis=-1), axis=0)
