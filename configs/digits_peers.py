"""The embedded digits, two LeNet-5-Half that teach each other by CCKD among students, without a teacher.

Measured with seed 0: students .9806 and .9778, and .9806 for the first of them alone; docs/peers.md has more
seeds. One minute on 2 busy cores of an AMD EPYC VM.

python launch/main.py --config=configs/digits_peers.py --workdir=runs/digits_peers

Other methods are --config.method=dml, kdcl_naive, kdcl_minlogit, kdcl_linear, cckd_online_l and cckd_online_t_reg. With
--config.num_teachers=1 a frozen teacher joins the students. A student is changed by its index, counted from 0:
--config.students.1.model=lenet5.
"""

from cckd_jax import config as base


def get_config(variant: str = ''):
    config = base.default()
    config.method = 'cckd_online_t'
    config.batch_size = 64
    config.validation_fraction = 0.1
    config.num_teachers = 0
    config.num_students = 2
    config.student.epochs = 60
    config.attack.samples = 1000
    return base.variant(config, variant)
