"""The commit that a result names is that of this code."""

import subprocess

from cckd_jax import provenance


def test_the_commit_of_another_repository_is_not_reported(tmp_path):
    git = ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@example.org']
    subprocess.run([*git, 'init', '--quiet'], check=True)
    subprocess.run([*git, 'commit', '--quiet', '--allow-empty', '--message=first'], check=True)
    installed = tmp_path / 'venv'
    installed.mkdir()
    assert len(provenance.commit(tmp_path)) == 40
    assert provenance.commit(installed) is None
