"""Several seeds of a config: their networks train together in one program, before each run goes on by itself."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import jax
import numpy as np
from ml_collections import ConfigDict

from cckd_jax import training
from cckd_jax.console import log
from cckd_jax.experiment import network_training, networks, students, teachers
from cckd_jax.experiment.network_training import Plan, Prepared
from cckd_jax.experiment.run import Pretrained, begin, check, plan_baseline, trains_baseline
from cckd_jax.experiment.workdir import lock_workdir
from cckd_jax.methods import Method
from cckd_jax.paths import expand


def train_seeds(
    configs: Sequence[ConfigDict],
    workdirs: Sequence[str | Path],
    *,
    devices: Sequence[jax.Device] | None = None,
    form: str | None = None,
) -> None:
    """Trains the networks of configs that differ in their seed together, into the run directories.

    `run` on each config then finds its networks trained, and evaluates them. A network that cannot train together with
    those of the other seeds is left to it, with a line that says why.

    Args:
      configs: of the runs.
      workdirs: their run directories.
      devices: those of this process when None.
      form: of `cckd_jax.training.make_seeds_step`; `map` on CPUs and `vmap` on accelerators when None.

    Raises:
      InputError: a value cannot be used, or training diverged for one of the seeds.
    """
    devices = list(devices or jax.local_devices())
    # The fastest of the benchmark suite `seeds` on a CPU; no accelerator has run it.
    form = form or ('map' if devices[0].platform == 'cpu' else 'vmap')
    folders = [expand(workdir) for workdir in workdirs]
    with contextlib.ExitStack() as stack:
        runs = []
        for config, folder in zip(configs, folders, strict=True):
            method = check(config)
            stack.enter_context(lock_workdir(folder, config))
            runs.append(begin(config, folder, devices, method))
        _train_networks(runs, method, form)


def _train_networks(runs: Sequence[tuple[networks.Run, Pretrained]], method: Method, form: str) -> None:
    first = runs[0][1]
    for index, loaded in enumerate(first.teachers):
        if loaded is None:
            _train_together([teachers.plan(run, index) for run, _ in runs], form)
    trained = [teachers.train_teachers(run, pretrained.teachers) for run, pretrained in runs]
    config = runs[0][0].config
    # Their samples differ by seed, or several students already train together.
    if config.transfer.name is None and method.weighting is None and config.num_students == 1:
        plans = []
        for (run, _), own in zip(runs, trained, strict=True):
            (aux, live) = teachers.student_aux(run, method, own)
            plans.append(students.plan(run, method, method_name=run.config.method, aux=aux, live_teachers=live))
        _train_together(plans, form)
    if trains_baseline(*runs[0]):
        _train_together([plan_baseline(run) for run, _ in runs], form)


def _train_together(plans: Sequence[Plan], form: str) -> None:
    """Trains one network of each run to its last epoch, where its own run will find it."""
    first = plans[0]
    prepared = [network_training.prepare(plan) for plan in plans]
    reason = _obstacle(plans, prepared)
    if reason is not None:
        log(f'{first.name}: the seeds train one after the other, because {reason}')
        return
    common = prepared[0]
    step = training.make_seeds_step(
        first.method,
        common.module,
        common.teachers,
        common.optimizer,
        devices=first.run.devices,
        augment=network_training.create_augmentation(first.run),
        scan=common.schedule.steps_per_call > 1,
        form=form,
    )
    seeds = tuple(cast(int, own.schedule.seed) for own in prepared)
    folders = [plan.run.workdir / plan.name for plan in plans]
    checkpoints: training.PeerCheckpoints[training.SeedsState]
    checkpoints = training.PeerCheckpoints(folders, [own.facts for own in prepared])
    network_training.train_to_end(
        first.run,
        f'{first.name} of {len(plans)} seeds',
        step,
        training.SeedsState.stack([own.state for own in prepared]),
        training.stack_data([own.data for own in prepared]),
        common.schedule._replace(seed=seeds),
        checkpoints=checkpoints,
        writers=[
            students.OwnRows(index, writer)
            for index, plan in enumerate(plans)
            for writer in network_training.create_writers(plan.run, plan.name)
        ],
        measures=lambda state: {},
        totals=lambda: training.PeerTotals(len(plans)),
    )


def _obstacle(plans: Sequence[Plan], prepared: Sequence[Prepared]) -> str | None:
    """Why networks cannot train in one program, or None."""
    (first, common) = (plans[0], prepared[0])
    if first.method.skips_samples:
        return 'the gate lets samples skip epochs, which differ by seed'
    if first.run.dataset.train.is_stored:
        return 'their images stay on the disk'
    if len(first.run.dataset.validation):
        return 'each has a validation split of its own'
    if any(plan.labels is not None for plan in plans):
        return 'the labels of each have a noise of their own'
    epochs = [
        {int(step.name) for step in (plan.run.workdir / plan.name / 'checkpoints').glob('*') if step.name.isdecimal()}
        for plan in plans
    ]
    # From a common epoch, checkpoints of later ones would be deleted.
    if any(epochs) and not set.intersection(*epochs):
        return 'they have no checkpoint of the same epoch'
    shapes = lambda own: jax.tree.map(np.shape, (own.state.params, own.data.aux, own.data.teachers))
    for plan, own in zip(plans[1:], prepared[1:], strict=True):
        (mine, theirs) = (plan.run.config, first.run.config)
        same = (
            plan.method == first.method,
            (own.module, own.teachers) == (common.module, common.teachers),
            (mine.optimizer, mine.augmentation, mine.batch_size)
            == (theirs.optimizer, theirs.augmentation, theirs.batch_size),
            plan.network_config.epochs == first.network_config.epochs,
            np.array_equal(own.schedule.subset, common.schedule.subset),
            plan.run.dataset.train.fingerprint() == first.run.dataset.train.fingerprint(),
            shapes(own) == shapes(common),
        )
        if not all(same):
            return 'they differ in more than their seed'
    return None
