"""The embedded data set: scikit-learn's 1,797 real handwritten digits as a TFDS builder.

It takes the same path as every other data set, needs no network and no TensorFlow, and is small enough to learn in a
minute. The split is fixed and stratified, 1,437 images to train and 360 to test; the 8x8 images are resized.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SHAPES = ((28, 28, 1), (32, 32, 3))


def config_name(shape: tuple[int, int, int]) -> str:
    """The builder config that holds images of this shape.

    >>> config_name((28, 28, 1))
    '28x28x1'
    """
    return 'x'.join(str(size) for size in shape)


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits, brought to the shape that its config is named after."""

    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [  # noqa: RUF012 - the name and the type are TFDS's
        tfds.core.BuilderConfig(name=config_name(shape)) for shape in SHAPES
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        shape = tuple(int(size) for size in self.builder_config.name.split('x'))
        return tfds.core.DatasetInfo(
            builder=self,
            description='scikit-learn handwritten digits, resized.',
            homepage='https://archive.ics.uci.edu/dataset/80',
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=shape),
                    'label': tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=('image', 'label'),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        # Here, because scikit-learn takes most of a second to import and the digits are made once.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        train, test = train_test_split(
            np.arange(len(digits.target)), test_size=360, stratify=digits.target, random_state=0
        )
        return {
            name: self._generate_examples(digits.images[rows], digits.target[rows])
            for name, rows in (('train', train), ('test', test))
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
        (height, width, channels) = self.info.features['image'].shape
        for key, (image, label) in enumerate(zip(images, labels, strict=True)):
            picture = Image.fromarray((image * (255 / 16)).astype(np.uint8))
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
            # A Pillow image spares TFDS the TensorFlow that it encodes arrays with.
            picture = picture.convert('L' if channels == 1 else 'RGB')
            yield key, {'image': picture, 'label': int(label)}
