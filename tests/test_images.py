"""Decoding of image files."""

import numpy as np
import pytest
from PIL import Image

from cckd_jax.data import images
from cckd_jax.errors import InputError

GREY = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)


def saved(tmp_path, image, name='image.png', **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path):
    path = saved(tmp_path, Image.fromarray(GREY))
    np.testing.assert_array_equal(images.decode(path, (28, 28, 1))[..., 0], GREY)
    np.testing.assert_array_equal(images.decode(path, (28, 28, 3)), np.repeat(GREY[..., None], 3, -1))


@pytest.mark.parametrize('size', [(40, 20), (20, 40)])
def test_the_centre_of_the_short_side_is_cropped(tmp_path, size):
    pixels = np.zeros((size[1], size[0]), np.uint8)
    (row, column) = ((size[1] - 20) // 2, (size[0] - 20) // 2)
    pixels[row : row + 20, column : column + 20] = 200
    assert (images.decode(saved(tmp_path, Image.fromarray(pixels)), (20, 20, 1)) == 200).all()
    assert images.decode(tmp_path / 'image.png', (8, 6, 3)).shape == (8, 6, 3)


def test_colours_become_grey_by_their_luminance(tmp_path):
    path = saved(tmp_path, Image.new('RGB', (4, 4), (255, 0, 0)))
    assert (images.decode(path, (4, 4, 1)) == round(0.299 * 255)).all()


@pytest.mark.parametrize('mode', ['LA', 'RGBA'])
def test_transparent_pixels_are_white(tmp_path, mode):
    pixels = np.zeros((4, 4, len(mode)), np.uint8)
    pixels[:2, :, -1] = 255
    decoded = images.decode(saved(tmp_path, Image.fromarray(pixels, mode)), (4, 4, 3))
    assert (decoded[:2] == 0).all()
    assert (decoded[2:] == 255).all()


def test_a_palette_keeps_its_colours_and_a_transparent_entry_is_white(tmp_path):
    image = Image.new('P', (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    decoded = images.decode(saved(tmp_path, image, transparency=1), (1, 2, 3))
    assert decoded.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    pixels = np.array([[0, 257 * 100, 65535]], np.uint16)
    assert images.decode(saved(tmp_path, Image.fromarray(pixels)), (1, 3, 1)).ravel().tolist() == [0, 100, 255]


@pytest.mark.parametrize(('most', 'scale'), [(65535, 257), (1020, 4)])
def test_a_pgm_of_sixteen_bits_is_scaled_to_eight(tmp_path, most, scale):
    pixels = np.array([0, 100 * scale, most], '>u2')
    path = tmp_path / 'image.pgm'
    path.write_bytes(f'P5 3 1 {most}\n'.encode() + pixels.tobytes())
    assert images.decode(path, (1, 3, 1)).ravel().tolist() == [0, 100, 255]


def test_the_orientation_of_a_camera_is_applied(tmp_path):
    for image in (Image.fromarray(GREY), Image.fromarray(GREY).convert('RGBA'), Image.fromarray(GREY.astype('u2'))):
        upside_down = image.getexif()
        upside_down[0x0112] = 3
        path = saved(tmp_path, image, exif=upside_down)
        decoded = images.decode(path, (28, 28, 1))[..., 0]
        expected = images.decode(saved(tmp_path, image, 'plain.png', exif=b''), (28, 28, 1))[..., 0]
        np.testing.assert_array_equal(decoded, expected[::-1, ::-1])


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    (first, second) = (Image.new('L', (4, 4), grey) for grey in (10, 200))
    path = saved(tmp_path, first, 'image.gif', save_all=True, append_images=[second])
    assert (images.decode(path, (4, 4, 1)) == 10).all()


def test_a_file_that_is_no_image_is_one_line(tmp_path):
    (text, truncated, wide) = (tmp_path / 'text.png', tmp_path / 'truncated.png', tmp_path / 'wide.tiff')
    text.write_text('no image')
    whole = saved(tmp_path, Image.fromarray(GREY)).read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(wide)
    for path, words in (
        (text, 'it is no image, or of an unknown format'),
        (truncated, 'truncated'),
        (wide, '32-bit pixels'),
        (tmp_path, 'it is a folder'),
        (tmp_path / 'missing.png', 'no image at'),
    ):
        with pytest.raises(InputError, match=words) as error:
            images.decode(path, (28, 28, 1))
        assert str(path) in str(error.value)
        assert '\n' not in str(error.value)
    with pytest.raises(InputError, match='2 channels'):
        images.decode(text, (28, 28, 2))
