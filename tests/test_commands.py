"""The command `cckd-jax`: its subcommands, lists and descriptions."""

import subprocess
import sys
from pathlib import Path

import pytest

from cckd_jax import __main__ as command, cli, config, interrupt, settings_help
from cckd_jax.cli import commands, config_flags, describe, listing
from cckd_jax.methods import METHODS
from cckd_jax.models import MODELS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _keep_the_handler_of_pytest(monkeypatch):
    monkeypatch.setattr(interrupt, 'exit_at_once', lambda: None)


@pytest.mark.parametrize(
    'name',
    list(commands.COMMANDS),
)
def test_every_command_has_help(name, capsys):
    assert command.main([name, '--help']) == 0
    assert capsys.readouterr().out


def test_help_names_every_command(capsys):
    assert command.main([]) == 0
    usage = capsys.readouterr().out
    assert command.main(['--help']) == 0
    assert capsys.readouterr().out == usage
    assert all(f'cckd-jax {name}' in usage for name in commands.COMMANDS)
    assert all(kind in usage for kind in listing.KINDS)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['destil'], "unknown command 'destil' (did you mean 'distil'?); there are: distil, study"),
        (['list'], 'cckd-jax list needs one of: methods, networks'),
        (['list', 'method'], "unknown list 'method' (did you mean 'methods'?)"),
        (['describe'], 'cckd-jax describe needs one config'),
        (['describe', 'digits_lenets'], "unknown config 'digits_lenets' (did you mean 'digits_lenet'?)"),
        (['distil', '--config=digits_lenet'], '--workdir is missing'),
    ],
)
def test_a_wrong_command_is_one_line(arguments, message, capsys):
    assert command.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {message}')


@pytest.mark.parametrize('kind', listing.KINDS)
def test_every_kind_is_listed(kind, capsys):
    assert command.main(['list', kind]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    expected = {'methods': METHODS, 'networks': MODELS, 'configs': config_flags.config_names()}
    assert names >= set(expected.get(kind, ()))


def test_a_list_may_be_cut_short():
    arguments = [sys.executable, '-m', 'cckd_jax', 'list', 'configs']
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.close()
        assert process.stderr.read() == b''
    assert process.returncode == 0


def test_a_closed_stderr_changes_no_status():
    script = '"$0" -m cckd_jax describe digits_lenets 2>&-; echo $?'
    output = subprocess.run(['sh', '-c', script, sys.executable], cwd=ROOT, capture_output=True, text=True).stdout
    assert output == '2\n'


def test_a_config_by_name_is_the_config_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name = cli.load('digits_lenet:smoke')
    assert by_name.to_dict() == cli.load(f'{ROOT}/configs/digits_lenet.py:smoke').to_dict()


def test_a_description_tells_where_values_come_from(capsys):
    settings = ['--config.seed=3', '--config.teachers.1.model=alexnet']
    rows = {name: (value, origin) for name, value, origin, _ in describe.table('digits_lenet', settings)}
    assert rows['seed'] == ('3', 'command line')
    assert rows['teachers.1.model'] == ('alexnet', 'command line')
    assert rows['batch_size'] == ('64', 'config')
    assert rows['temperature'] == ('20.0', 'method')
    assert rows['hard_weight'] == ('', 'unused')
    assert rows['precision'] == ('float32', 'default')
    assert command.main(['describe', 'digits_lenet']) == 0
    output = capsys.readouterr().out
    assert 'LeNet-5 to LeNet-5-Half' in output
    assert settings_help.SETTINGS['batch_size'] in output


def test_every_setting_has_a_meaning():
    names = set(config_flags.names(config.default()))
    assert names - settings_help.HYPERPARAMETERS.keys() == settings_help.SETTINGS.keys()
    assert names >= settings_help.HYPERPARAMETERS.keys()
    hyperparameters = {name for method in METHODS.values() for name in method.hyperparameters}
    assert hyperparameters <= settings_help.HYPERPARAMETERS.keys()


def test_networks_are_listed_without_addresses(capsys):
    assert command.main(['list', 'networks']) == 0
    assert ' at 0x' not in capsys.readouterr().out
