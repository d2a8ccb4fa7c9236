"""The style of all figures: colours, labels, axes, and how a figure is written."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# The palette of Okabe and Ito, whose colours stay distinct with any colour vision.
COLORS = {'teacher': '#0072B2', 'student': '#D55E00', 'separate': '#009E73', 'threshold': '#555555'}
# Students that train together; the first has the colour of a single student.
STUDENT_COLORS = ('#D55E00', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#F0E442', '#999999', '#005A3C')
TEACHER_COLORS = ('#0072B2', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#F0E442', '#999999', '#005A3C')
LABELS = {'teacher': 'teacher', 'student': 'student', 'separate': 'student alone'}


def color(name: str) -> str:
    """The colour of a network: `teacher`, `teacher_2`, `student`, `student_2` or `separate`.

    >>> color('teacher_1')
    '#CC79A7'
    """
    if name in COLORS:
        return COLORS[name]
    (kind, _, index) = name.partition('_')
    colors = STUDENT_COLORS if kind == 'student' else TEACHER_COLORS
    return colors[int(index) % len(colors)]


def label(name: str) -> str:
    """The name of a network in tables and legends.

    >>> label('separate'), label('teacher_1')
    ('student alone', 'teacher 1')
    """
    return LABELS.get(name, name.replace('_', ' '))


def clean(axes: Axes) -> None:
    """Leaves two sides of the frame and a faint grid."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)


def epoch_axis(axes: Axes) -> None:
    """Labels the horizontal axis `epoch`, with ticks at whole numbers."""
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def displayed(image: np.ndarray) -> np.ndarray:
    """An image `[H, W, C]` as matplotlib draws it: RGB, or the mean of any other number of channels.

    >>> displayed(np.zeros((4, 5, 2))).shape
    (4, 5)
    """
    return image if image.shape[-1] == 3 else image.mean(-1)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG through a temporary name, so that a reader never sees half a file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}')
    figure.savefig(temporary, dpi=130, format='png')
    temporary.replace(path)
