"""One image file to pixels of the shape that a network takes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cckd_jax.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')

_MODES = {1: 'L', 3: 'RGB'}
_SIXTEEN_BIT = ('I;16', 'I;16B', 'I;16L')


def find_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images below a folder by their suffixes, and the other files, each in the order of their paths.

    Hidden files, and files in hidden folders such as `.ipynb_checkpoints`, are neither.
    """
    is_hidden = lambda path: any(name.startswith('.') for name in path.relative_to(folder).parts)
    files = sorted(path for path in folder.rglob('*') if not is_hidden(path) and path.is_file())
    is_image = lambda path: path.suffix.lower() in SUFFIXES
    return [path for path in files if is_image(path)], [path for path in files if not is_image(path)]


def decode(path: str | Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Reads an image file, resizes its short side and crops the centre.

    It applies the EXIF orientation, lays transparent pixels over white, scales 16-bit grey to 8 bits, converts colours
    to grey by ITU-R 601, and reads the first frame of an animation. An image of that height and width keeps its pixels.

    Args:
      path: of a file that Pillow reads, such as PNG or JPEG.
      image_shape: `(H, W, C)`, with C = 1 for grey and C = 3 for RGB.

    Returns:
      uint8 `[H, W, C]`.

    Raises:
      InputError: the file cannot be read as an image, its pixels have no known range, or C is neither 1 nor 3.

    >>> decode('missing.png', (28, 28, 1))
    Traceback (most recent call last):
    ...
    cckd_jax.errors.InputError: no image at missing.png
    """
    from PIL import Image, ImageOps  # a run on arrays needs no decoder

    (height, width, channels) = image_shape
    if channels not in _MODES:
        raise InputError(f'cannot decode {path} to {channels} channels; images have 1 (grey) or 3 (RGB)')
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(_eight_bits(file, path))
            # Pillow resizes with a filter as wide as the reduction, so that small images do not alias.
            fitted = ImageOps.fit(image.convert(_MODES[channels]), (width, height), Image.Resampling.BILINEAR)
    except FileNotFoundError:
        raise InputError(f'no image at {path}') from None
    except InputError:
        raise
    except Exception as error:  # a damaged file raises anything, from SyntaxError to struct.error
        raise InputError(f'cannot read {path} as an image ({_reason(error, path)})') from None
    return np.asarray(fitted, np.uint8).reshape(image_shape)


def _eight_bits(image: 'Image.Image', path: str | Path) -> 'Image.Image':
    """The image with 8 bits per channel and without transparency; it keeps its EXIF orientation."""
    from PIL import Image  # see `decode`

    # Pillow reads the 16 bits of a PGM into 32 bits.
    if image.mode in _SIXTEEN_BIT or (image.mode, image.format) == ('I', 'PPM'):
        # Pillow's own conversion clips at 255.
        grey = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
        grey.getexif().update(image.getexif())
        return grey
    if image.mode in ('I', 'F'):
        raise InputError(f'cannot read {path}: its 32-bit pixels have no known range; save it with 8 or 16 bits')
    if not image.has_transparency_data:
        return image
    rgba = image.convert('RGBA')
    opaque = Image.new('RGB', rgba.size, 'white')
    opaque.paste(rgba, mask=rgba)
    opaque.getexif().update(image.getexif())
    return opaque


def _reason(error: Exception, path: str | Path) -> str:
    if type(error).__name__ == 'UnidentifiedImageError':
        return 'it is no image, or of an unknown format'
    if isinstance(error, IsADirectoryError) or Path(path).is_dir():
        return 'it is a folder'
    return ' '.join(str(error).split())[:200] or type(error).__name__
