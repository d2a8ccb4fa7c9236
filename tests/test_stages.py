"""The stages of a run, and the time left for all of them."""

import json

import jax
import pytest
from helpers import tiny_config

from cckd_jax import config as settings
from cckd_jax.evaluators import TrainedNetwork
from cckd_jax.experiment import stages
from cckd_jax.experiment.networks import Run
from cckd_jax.experiment.results import summary
from cckd_jax.experiment.run import Pretrained, check, trains_baseline
from cckd_jax.report.stages import Stage, Stages
from cckd_jax.training.teacher_outputs import TeacherOutputs

# 100 operations per image, 50 of the students; 1000 images each.
TRAINING = [Stage('teacher', images=1000, cost=100.0), Stage('student', images=1000, cost=50.0)]


def planned(digits, loaded=None, **fields):
    """Names of the stages of a run whose teachers were loaded, or train if None."""
    config = tiny_config(**fields)
    run = Run(config, None, digits, jax.devices()[:1])
    pretrained = Pretrained([loaded] * len(run.teachers), None, None)
    trained_alone = trains_baseline(run, pretrained)
    plan = stages.plan(run, check(config), pretrained.teachers, trains_baseline=trained_alone)
    return [stage.name for stage in plan.stages]


def test_a_run_has_the_stages_of_its_settings(digits):
    (network, logits) = (TrainedNetwork(None, {}, [], None), TeacherOutputs(None, None))
    last = ['evaluation', 'report']
    assert planned(digits) == ['teacher', 'teacher outputs', 'student', 'separate', *last]
    assert planned(digits, network) == ['teacher outputs', 'student', 'separate', *last]
    assert planned(digits, logits) == ['student', 'separate', *last]
    assert planned(digits, method='separate', num_teachers=0) == ['student', *last]
    assert planned(digits, method='separate', num_teachers=0, **{'separate.learning_rate': 0.1}) == [
        *('student', 'separate'),
        *last,
    ]
    assert planned(digits, method='dml', num_students=2, num_teachers=2, **{'separate.enabled': False}) == [
        *('teacher_0', 'teacher_1', 'teacher outputs', '2 students'),
        *last,
    ]
    assert planned(digits, method='teacher_only', **{'transfer.name': 'noise'}) == [
        *('teacher', 'teacher outputs', 'transfer set', 'student', 'separate'),
        *last,
    ]


def test_the_work_of_a_stage_counts_the_operations_of_its_network(digits):
    config = settings.default()
    run = Run(config, None, digits, jax.devices()[:1])
    plan = stages.plan(run, check(config), [None], trains_baseline=True)
    (teacher, _, student, separate, *_) = plan.stages
    # Two operations for each multiplication of LeNet-5's layers, and a few for the rest. On a CPU, a patch of 6x8
    # pixels gives the eight pixels of two pools in the first layer.
    multiplications = 14 * 7 * 48 * 48 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    assert teacher.images == 200 * 1437
    assert teacher.cost == pytest.approx(2 * multiplications, rel=0.05)
    assert student.cost == separate.cost < 0.6 * teacher.cost


def test_the_time_left_is_that_of_all_stages_in_proportion_to_their_work():
    run = Stages([*TRAINING, Stage('evaluation')])
    # 500 images of 0.2 s, and 1000 images with half of the work.
    assert run.left('teacher', images=500, seconds_per_image=0.2) == 'about 3:20 left'
    # The measured student replaces the assumption about it.
    assert run.left('student', images=1000, seconds_per_image=0.01) == 'about 0:10 left'


def test_a_stage_of_unknown_duration_makes_the_time_a_lower_bound():
    run = Stages([*TRAINING, Stage('evaluation', cost=None)])
    assert run.left('student', images=100, seconds_per_image=1.0) == 'at least 1:40 left'


def test_the_speed_of_a_stage_with_a_search_tells_nothing_about_the_others():
    searching = Stage('student', images=1000, cost=None)
    separate = Stage('separate', images=1000, cost=50.0)
    run = Stages([TRAINING[0], searching, separate])
    assert run.left('teacher', images=0, seconds_per_image=0.1) == 'at least 0:50 left'
    assert run.left('student', images=100, seconds_per_image=1.0) == 'about 2:30 left'
    assert Stages([searching, separate]).left('student', images=100, seconds_per_image=1.0) == 'at least 1:40 left'


def test_a_network_outside_a_run_has_no_number():
    assert Stages().label('teacher') == 'teacher'
    assert Stages().left('teacher', images=60, seconds_per_image=1.0) == 'about 1:00 left'


def test_the_summary_tells_the_seconds_saved_after_the_epochs_that_compiled(tmp_path):
    for name, seconds in (('student', (9.0, 1.0, 1.0)), ('separate', (5.0, 3.0, 4.0))):
        lines = [json.dumps({'epoch': epoch, 'epoch_seconds': value}) for epoch, value in enumerate(seconds)]
        (tmp_path / name).mkdir()
        (tmp_path / name / 'metrics.jsonl').write_text('\n'.join(lines))
    student = {'model': 'a', 'test_accuracy': 0.5, 'share_used': 0.125, 'seconds': 11.0, 'epochs': 3}
    results = {'teacher': {'model': None}, 'student': student, 'separate': {'test_accuracy': 0.25, 'epochs': 3}}
    lines = summary(tmp_path, results).splitlines()
    assert lines[1:3] == [
        'student          50.00%        12.50%      11 s',
        'separate         25.00%       100.00%      12 s',
    ]
    assert lines[3] == 'The student trained 5 s less than separate, which has no teacher and no gate.'
    results['student'] = {**student, 'epochs': 4}
    assert 'less than' not in summary(tmp_path, results)
