"""Export the student of a run to files that need neither its run nor its teacher.

    python launch/export.py --run=runs/digits --formats=onnx,stablehlo,safetensors --int8 --output=exported

Every file is compared with the student on the whole test split before it is kept. card.md has the classes, the shape of
the images, accuracies, sizes and milliseconds per image. It needs pip install '.[export]'.
"""

import argparse
from collections.abc import Sequence

from cckd_jax import cli
from cckd_jax.console import log


def main(arguments: Sequence[str]) -> int:
    """Exports a student and returns the exit status; the program's name is the first argument."""
    return cli.guarded(lambda: _run(_parser(arguments[0]).parse(arguments[1:])))


def _parser(program: str) -> cli.Parser:
    parser = cli.Parser(program, __doc__)
    parser.add_argument('--run', required=True, help='the run directory')
    parser.add_argument('--output', required=True, help='the directory of the files')
    parser.add_argument('--formats', default='onnx,stablehlo,safetensors', help='all of them unless given')
    parser.add_argument('--int8', action='store_true', help='also an ONNX file in int8, calibrated on training images')
    parser.add_argument('--dataset', help='name or path of the data set, if its file has moved since the run')
    parser.add_argument('--data_dir', help='directory of the prepared TFDS data, if it has moved since the run')
    return parser


def _run(options: argparse.Namespace | None) -> None:
    if options is None:
        return
    # Imported when the options are known to be right: the import takes seconds.
    from cckd_jax.export import exporting, formats

    paths = exporting.export(
        options.run,
        options.output,
        formats.parse(options.formats, options.int8),
        int8=options.int8,
        dataset=options.dataset,
        data_dir=options.data_dir,
    )
    log(f'exported {", ".join(path.name for path in paths)} to {options.output}')
