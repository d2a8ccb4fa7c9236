"""Recipes that several config files share."""

from ml_collections import ConfigDict

from cckd_jax import config as base

# Students that CRD's code trains at a learning rate of 0.01; it trains all others at 0.05.
_SLOW = ('mobilenetv2', 'shufflenetv1', 'shufflenetv2')
# Options that make a network small enough for `smoke`.
_NARROW = {
    'resnet56': {'width': 0.5, 'blocks': (1, 1, 1)},
    'resnet8x4': {'width': 0.125, 'blocks': (1, 1, 1)},
    'resnet32x4': {'width': 0.125, 'blocks': (1, 1, 1)},
    'wrn40_2': {'width': 0.25, 'blocks': (1, 1, 1)},
    'vgg8': {'width': 0.0625, 'blocks': (1, 1, 1, 1, 1)},
    'vgg13': {'width': 0.0625, 'blocks': (1, 1, 1, 1, 1)},
    'mobilenetv2': {'width': 0.25, 'blocks': (1, 0, 1, 1, 0, 1, 0)},
    'shufflenetv1': {'width': 0.125, 'blocks': (1, 1, 1)},
    'shufflenetv2': {'width': 0.125, 'blocks': (1, 1, 1)},
}


def ca_mkd(teacher: str, student: str, variant: str = '') -> ConfigDict:
    """CIFAR-100 with the recipe of CA-MKD's code (arXiv:2201.00007, https://github.com/Rorozhl/CA-MKD).

    240 epochs with batches of 64; SGD with momentum 0.9 and weight decay 5e-4; the learning rate is divided by 10 after
    150, 180 and 210 epochs; random crops from images padded by 4 pixels, and flips. Differences from that code: pixels
    are scaled to [0, 1] and not normalized further, teachers also train with Nesterov's momentum, and the weights of
    the last epoch are used, not those with the best test accuracy. That code has no attack; the attack is the one of
    the CCKD paper for CIFAR-10.

    Args:
      teacher: a key of `cckd_jax.models.MODELS`; three teachers differ by seed.
      student: a key of `cckd_jax.models.MODELS`.
      variant: empty, or `smoke`.

    Returns:
      The config.

    Raises:
      InputError: the variant is unknown.

    >>> ca_mkd('resnet32x4', 'vgg8').student.learning_rate
    0.05
    """
    config = base.default()
    config.dataset.name = 'cifar100'
    config.dataset.image_shape = (32, 32, 3)
    config.augmentation.crop = 4
    config.augmentation.flip = True
    config.batch_size = 64
    config.optimizer.name = 'sgd'
    config.optimizer.schedule = 'step'
    config.optimizer.weight_decay = 5e-4
    config.method = 'ca_mkd'
    config.num_teachers = 3
    config.teacher.model = teacher
    config.teacher.epochs = 240
    config.teacher.learning_rate = 0.05
    config.student.model = student
    config.student.epochs = 240
    config.student.learning_rate = config.separate.learning_rate = 0.01 if student in _SLOW else 0.05
    config.attack.epsilon = 0.15
    config.attack.samples = 2500
    config = base.variant(config, variant)
    if variant == 'smoke':
        for network_config in (config.teacher, config.student):
            network_config.options.update(_NARROW[network_config.model])
    return config


def faithful(dataset: str, attack_epsilon: float, variant: str = '') -> ConfigDict:
    """LeNet-5 with certified training teaches LeNet-5-Half against a certified bound of their confidence gap.

    This is our interpretation of Faithful KD (arXiv:2306.04431). Only its abstract was available, and the settings are
    ours: both networks train with interval bounds at epsilon = 0.1.

    Args:
      dataset: name in TFDS of a data set of 28x28 images.
      attack_epsilon: radius of the transferred attack, the CCKD paper's value for the data set.
      variant: empty, or `smoke`.

    Returns:
      The config.

    Raises:
      InputError: the variant is unknown.

    >>> faithful('mnist', 0.15).teacher.robust
    'ibp'
    """
    config = base.default()
    config.dataset.name = dataset
    config.method = 'faithful_certified'
    config.epsilon = 0.1
    config.batch_size = 128
    config.validation_fraction = 0.1
    config.teacher.robust = 'ibp'
    config.teacher.epsilon = 0.1
    config.teacher.epochs = 60
    config.student.epochs = 60
    config.attack.epsilon = attack_epsilon
    config.attack.samples = 30_000
    config.evaluate.robustness = True
    config.evaluate.faithfulness = True
    config.evaluate.epsilons = (0.02, 0.05, 0.1)
    return base.variant(config, variant)
