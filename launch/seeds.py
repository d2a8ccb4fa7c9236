"""Run a config with several seeds and print means and 95 % confidence intervals.

    python launch/seeds.py --seeds=5 --config=configs/mnist_lenet.py --workdir=runs/mnist_5 [--config.NAME=VALUE ...]

Every seed is an ordinary run in WORKDIR/seed_N, several at a time (--at_once), each on its share of the cores; the same
command resumes. The summary is in WORKDIR/seeds.json.
"""

import argparse
import sys
from pathlib import Path

from cckd_jax.errors import InputError
from cckd_jax.experiment import seeds


def main() -> int:
    """Runs the seeds; what it does not know goes to `launch/main.py`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('--seeds', type=int, default=5, help='how many: 0, 1, ...')
    parser.add_argument('--workdir', required=True)
    parser.add_argument('--at_once', type=int, default=seeds.default_at_once(), help='runs at a time')
    (arguments, rest) = parser.parse_known_args()
    try:
        for name in ('seeds', 'at_once'):
            if getattr(arguments, name) < 1:
                raise InputError(f'--{name}={getattr(arguments, name)} must be above 0')
        if any(argument.startswith('--config.seed') for argument in rest):
            raise InputError('--config.seed is what --seeds=N sets; leave it out')
        command = [sys.executable, str(Path(__file__).with_name('main.py')), *rest]
        found = seeds.run(command, Path(arguments.workdir), range(arguments.seeds), at_once=arguments.at_once)
    except (InputError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('stopped; the same command resumes', file=sys.stderr)
        return 130
    print(seeds.table(found))
    return 0


if __name__ == '__main__':
    sys.exit(main())
