"""Predictions of image files from the command line."""

import json

import numpy as np
import pytest
from PIL import Image

import cckd_jax
from cckd_jax import __main__ as command, interrupt


@pytest.fixture(autouse=True)
def _keep_the_handler_of_pytest(monkeypatch):
    monkeypatch.setattr(interrupt, 'exit_at_once', lambda: None)


@pytest.fixture
def folder(tmp_path, digits):
    """Five digits as files of two formats and sizes, in a folder with other files."""
    folder = tmp_path / 'images'
    (folder / 'more').mkdir(parents=True)
    (folder / 'notes.txt').write_text('no image')
    (folder / '.ipynb_checkpoints').mkdir()
    (folder / '.ipynb_checkpoints' / '0-checkpoint.png').write_bytes(b'')
    for index, image in enumerate(digits.test.images[:5]):
        picture = Image.fromarray(image[..., 0])
        name = folder / ('more' if index % 2 else '') / str(index)
        if index == 4:
            picture.convert('RGB').resize((56, 56)).save(name.with_suffix('.JPG'), quality=95)
        else:
            picture.save(name.with_suffix('.png'))
    return folder


def test_a_line_per_image(trained, folder, digits, capsys):
    assert command.main(['predict', f'--run={trained}', str(folder), str(folder / '0.png')]) == 0
    rows = [line.split('\t') for line in capsys.readouterr().out.splitlines()]
    names = ['0.png', '2.png', '4.JPG', 'more/1.png', 'more/3.png', '0.png']
    assert [row[0] for row in rows] == [str(folder / name) for name in names]
    logits = cckd_jax.export.load(trained)(digits.test.images[:5])
    probabilities = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    for (_, name, probability), index in zip(rows, (0, 2, 4, 1, 3, 0), strict=True):
        assert name == str(logits[index].argmax())
        assert float(probability) == pytest.approx(probabilities[index].max(), abs=0.05 if index == 4 else 1e-3)


def test_json_for_machines(trained, folder, capsys):
    assert command.main(['predict', f'--run={trained}', '--json', str(folder / '0.png')]) == 0
    prediction = json.loads(capsys.readouterr().out)
    assert prediction.keys() == {'path', 'class', 'probability'}
    assert 0.1 <= prediction['probability'] <= 1


def test_images_that_cannot_be_read_leave_the_others(trained, folder, capsys):
    (folder / 'damaged.png').write_bytes((folder / '0.png').read_bytes()[:60])
    assert command.main(['predict', f'--run={trained}', str(folder), 'missing.png']) == 2
    (out, err) = capsys.readouterr()
    assert len(out.splitlines()) == 5
    (first, second) = err.splitlines()
    assert first.startswith(f'error: cannot read {folder / "damaged.png"} as an image')
    assert second == 'error: no image at missing.png'


def test_a_folder_without_images_is_one_line(trained, tmp_path, capsys):
    assert command.main(['predict', f'--run={trained}', str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f'error: no images in {tmp_path}; their names end in .bmp')
