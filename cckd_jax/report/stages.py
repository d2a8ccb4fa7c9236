"""The stages of a run by number and name, and an estimate of the time left for all of them."""

from collections.abc import Sequence
from typing import NamedTuple

from cckd_jax.console import log

# Names of the stages without epochs.
TEACHER_OUTPUTS = 'teacher outputs'
TRANSFER_SET = 'transfer set'
EVALUATION = 'evaluation'
REPORT = 'report'


class Stage(NamedTuple):
    """One stage.

    Attributes:
      name: of a network that trains, the name of its folder and hence of its TensorBoard run.
      detail: in the list of stages, such as `20 epochs`.
      images: number of images that it presents in training.
      cost: work per image, in a unit that all stages share; 0 for a stage of seconds, and None for one whose duration
        the speed of the others does not tell.
    """

    name: str
    detail: str = ''
    images: int = 0
    cost: float | None = 0.0


class Stages:
    """The stages of a run, in order.

    >>> stages = Stages([Stage('teacher', images=100, cost=2.0), Stage('student', images=300, cost=1.0)])
    >>> stages.label('student')
    '[2/2] student'
    >>> stages.left('teacher', images=50, seconds_per_image=4.0)
    'about 13:20 left'
    """

    def __init__(self, stages: Sequence[Stage] = ()):
        self.stages = tuple(stages)
        self._indices = {stage.name: index for index, stage in enumerate(stages)}
        self._seconds_per_work: float | None = None

    def announce(self) -> None:
        """Prints the list of stages."""
        texts = [
            f'{number} {stage.name}' + (f' ({stage.detail})' if stage.detail else '')
            for number, stage in enumerate(self.stages, start=1)
        ]
        log(f'stages: {", ".join(texts)}')

    def label(self, name: str) -> str:
        """The name with its number; the name alone if the run has no such stage."""
        if name not in self._indices:
            return name
        return f'[{self._indices[name] + 1}/{len(self.stages)}] {name}'

    def begin(self, name: str, action: str = '') -> None:
        """Prints that a stage without epochs begins, and what it does, if the run has such a stage."""
        if name in self._indices:
            log(f'{self.label(name)}: {action}' if action else self.label(name))

    def left(self, name: str, *, images: int, seconds_per_image: float) -> str:
        """The time left for the run, in words.

        Training stages to come are assumed to need as much time per work as the last that was measured. A stage of
        unknown cost is not counted, so that the sum is a lower bound.

        Args:
          name: of the current stage.
          images: that it has yet to present.
          seconds_per_image: as measured in it.
        """
        seconds = images * seconds_per_image
        later: Sequence[Stage] = ()
        if name in self._indices:
            index = self._indices[name]
            later = self.stages[index + 1 :]
            cost = self.stages[index].cost
            if cost:
                self._seconds_per_work = seconds_per_image / cost
        seconds += sum(stage.images * (stage.cost or 0.0) * (self._seconds_per_work or 0.0) for stage in later)
        unknown = any(stage.cost is None or (stage.cost and self._seconds_per_work is None) for stage in later)
        return f'{"at least" if unknown else "about"} {clock(seconds)} left'


def clock(seconds: float) -> str:
    """A duration in minutes and seconds, from an hour on with hours.

    >>> clock(125.5), clock(3725.5)
    ('2:05', '1:02:05')
    """
    whole = int(seconds)
    minutes = f'{whole // 60}' if whole < 3600 else f'{whole // 3600}:{whole // 60 % 60:02}'
    return f'{minutes}:{whole % 60:02}'
