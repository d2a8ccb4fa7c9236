"""CCKD-T with self-regulation on the embedded digits, from the pure functions alone: `python examples/minimal.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cckd_jax import cpu, data, losses, models, selection

ALPHA, TEMPERATURE, BATCH = 0.03, 20.0, 64


def train(network, loss, *, learning_rate, epochs, seed):
    """Returns the trained variables, and the share of presentations that trained them."""
    digits = data.load('digits').train
    images, labels = jnp.asarray(data.to_unit(digits.images)), jnp.asarray(digits.labels)
    variables = network.init(jax.random.key(seed), images[:1])
    state = (optimizer := optax.adam(learning_rate)).init(variables)

    @jax.jit
    def step(variables, state, batch, epoch):
        def mean_loss(variables):
            per_example, keep = loss(network.apply(variables, images[batch]), labels[batch], batch, epoch)
            return jnp.sum(per_example, where=keep) / jnp.maximum(keep.sum(), 1), keep.sum()

        gradients, kept = jax.grad(mean_loss, has_aux=True)(variables)
        updates, new_state = optimizer.update(gradients, state)
        updated = optax.apply_updates(variables, updates), new_state
        # A batch without a kept sample changes nothing, not even the moments of Adam.
        return *jax.tree.map(lambda new, old: jnp.where(kept > 0, new, old), updated, (variables, state)), kept

    random, used, presented = np.random.default_rng(seed), 0, 0
    for epoch in range(epochs):
        for batch in np.split(random.permutation(len(labels)), range(BATCH, len(labels), BATCH)):
            variables, state, kept = step(variables, state, batch, epoch)
            used, presented = used + int(kept), presented + len(batch)
    return variables, used / presented


def main(epochs=(20, 60)):
    """Prints, and returns, the student's test accuracy and the share of presentations that trained it."""
    cpu.tune()
    teacher, student = models.create('lenet5'), models.create('lenet5_half')
    label_loss = lambda logits, labels, batch, epoch: (losses.cross_entropy(logits, labels), jnp.ones(len(batch), bool))
    weights, _ = train(teacher, label_loss, learning_rate=1e-3, epochs=epochs[0], seed=0)
    teacher_logits = teacher.apply(weights, data.to_unit(data.load('digits').train.images))

    def cckd_t(logits, labels, batch, epoch):
        keep = selection.self_regulate(logits, labels, epoch, alpha=ALPHA, temperature=TEMPERATURE)
        return losses.cckd_t(logits, teacher_logits[batch], labels, temperature=TEMPERATURE), keep

    trained, share = train(student, cckd_t, learning_rate=1e-2, epochs=epochs[1], seed=1)
    test = data.load('digits').test
    accuracy = float((student.apply(trained, data.to_unit(test.images)).argmax(-1) == test.labels).mean())
    print(f'The student reaches {accuracy:.2%}, trained by {share:.2%} of the presentations.')
    return accuracy, share


if __name__ == '__main__':
    main()
