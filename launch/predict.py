"""Classify images with the student of a run: `python launch/predict.py --help`."""

import sys

from cckd_jax import interrupt

if __name__ == '__main__':
    interrupt.exit_at_once()
    # Imported after the handler of Ctrl-C is installed.
    from cckd_jax.export import predict

    sys.exit(predict.main(['python launch/predict.py', *sys.argv[1:]]))
