"""Recipes that several config files share, so that each file shows only what is its own."""

from ml_collections import ConfigDict

from cckd_jax import config as base

# Students that CRD's code trains at 0.01, where all others have 0.05.
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
    """CIFAR-100 as the code of CA-MKD trains on it (arXiv:2201.00007, https://github.com/Rorozhl/CA-MKD).

    240 epochs of batches of 64; SGD with momentum 0.9, a tenth of the rate after 150, 180 and 210 epochs, weight decay
    5e-4; random crops of images with 4 pixels around them, and flips. Not as there: pixels are x/255 and no more,
    teachers have Nesterov's momentum too, and the last epoch's weights are used, not the best on the test set. There is
    no attack there: CIFAR-10's of the CCKD paper is used.

    Args:
      teacher: a key of `cckd_jax.models.MODELS`.
      student: another.
      variant: nothing, or `smoke`.

    Raises:
      InputError: there is no such variant.

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
    config.student.model = student
    config.student.epochs = 240
    config.student.learning_rate = config.separate.learning_rate = 0.01 if student in _SLOW else 0.05
    config.attack.epsilon = 0.15
    config.attack.samples = 2500
    _set_teachers(config, teacher)
    config = base.variant(config, variant)
    if variant == 'smoke':
        for part in (config.teacher, config.student):
            part.options.update(_NARROW[part.model])
    return config


def faithful(dataset: str, attack_epsilon: float, variant: str = '') -> ConfigDict:
    """LeNet-5, trained so that intervals certify it within 0.1 of a pixel, teaches LeNet-5-Half against a certificate.

    A reading of Faithful KD (arXiv:2306.04431), whose body could not be had: the settings are ours.

    Args:
      dataset: of 28x28 images, by its name in TFDS.
      attack_epsilon: of the transferred attack, as the CCKD paper has it on that data set.
      variant: nothing, or `smoke`.

    Raises:
      InputError: there is no such variant.

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


def _set_teachers(config: ConfigDict, model: str) -> None:
    # The paper's three teachers differ by seed.
    config.method = 'ca_mkd'
    config.num_teachers = 3
    config.teacher.model = model
    config.teacher.epochs = 240
    config.teacher.learning_rate = 0.05
