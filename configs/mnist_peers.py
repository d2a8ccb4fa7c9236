"""MNIST, two LeNet-5-Half that teach each other by CCKD among students, without a teacher.

Not run at full length yet. In short runs it is below DML (docs/peers.md).

python launch/main.py --config=configs/mnist_peers.py --config.dataset.data_dir=DIR --workdir=runs/mnist_peers

Other methods are --config.method=dml, kdcl_naive, kdcl_minlogit, kdcl_linear, cckd_online_l and cckd_online_t_reg. With
--config.num_teachers=1 a frozen teacher joins the students. A student is changed by its index, counted from 0:
--config.students.1.model=lenet5.
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.method = 'cckd_online_t'
    config.dataset.name = 'mnist'
    config.validation_fraction = 0.1
    config.num_teachers = 0
    config.num_students = 2
    config.alpha = 0.01
    config.teacher.epochs = 200
    config.student.epochs = 200
    config.attack.epsilon = 0.15
    config.attack.samples = 30_000
    return base.variant(config, variant)
