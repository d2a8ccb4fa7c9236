"""The embedded data set: scikit-learn's 1,797 handwritten digits, resized.

The split is fixed and stratified: 1,437 images to train and 360 to test.
"""

import numpy as np

from cckd_jax.data.split import Split

SHAPES = ((28, 28, 1), (32, 32, 3))
NUM_CLASSES = 10


def config_name(shape: tuple[int, int, int]) -> str:
    """The config of the TFDS builder for images of this shape.

    >>> config_name((28, 28, 1))
    '28x28x1'
    """
    return 'x'.join(str(size) for size in shape)


def resized_digits(shape: tuple[int, int, int]) -> dict[str, Split]:
    """The splits train and test with images of a shape of `SHAPES`, made in memory."""
    # scikit-learn takes most of a second to import, and the digits are made once.
    from PIL import Image
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    (height, width, channels) = shape
    digits = load_digits()
    images = np.empty((len(digits.images), *shape), np.uint8)
    for index, image in enumerate(digits.images):
        picture = Image.fromarray((image * (255 / 16)).astype(np.uint8))
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        images[index] = np.asarray(picture.convert('L' if channels == 1 else 'RGB')).reshape(shape)
    split = Split(images, digits.target.astype(np.int32))
    (train, test) = train_test_split(np.arange(len(split)), test_size=360, stratify=split.labels, random_state=0)
    return {'train': split.take(train), 'test': split.take(test)}
