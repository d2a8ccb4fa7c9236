"""Train a teacher, distil a student, evaluate and report; the same as `cckd-jax distil`.

python launch/main.py --config=configs/digits_lenet.py --workdir=runs/digits
"""

import sys

from cckd_jax import interrupt

if __name__ == '__main__':
    interrupt.exit_at_once()
    # Imported after the handler of Ctrl-C is installed.
    from cckd_jax.cli import distil

    sys.exit(distil.main(['python launch/main.py', *sys.argv[1:]]))
