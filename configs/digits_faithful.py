"""Faithful distillation on the embedded digits: a robust teacher, and everything that is measured around the images.

LeNet-5, trained so that intervals certify it, teaches LeNet-5-Half against a certified bound of the gap between them.
No paper has numbers for this; three minutes on two cores.

python launch/main.py --config=configs/digits_faithful.py --workdir=runs/digits_faithful
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.method = 'faithful_certified'
    config.epsilon = 0.03
    config.batch_size = 64
    config.validation_fraction = 0.1
    config.teacher.robust = 'ibp'
    config.teacher.epsilon = 0.03
    config.teacher.epochs = 40
    config.student.epochs = 40
    config.attack.samples = 1000
    config.evaluate.robustness = True
    config.evaluate.faithfulness = True
    config.evaluate.epsilons = (0.01, 0.03)
    config.evaluate.samples = 200
    return base.variant(config, variant)
