"""The embedded digits as a TFDS builder, so that they take the same path as every other data set.

It needs no network and no TensorFlow. Import it where the digits are loaded, because TFDS takes a second to import.
"""

from collections.abc import Iterator

import tensorflow_datasets as tfds
from PIL import Image

from cckd_jax.data.digits import NUM_CLASSES, SHAPES, config_name, resized_digits
from cckd_jax.data.split import Split


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits in the shape that the config is named after."""

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
                    'label': tfds.features.ClassLabel(num_classes=NUM_CLASSES),
                }
            ),
            supervised_keys=('image', 'label'),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        splits = resized_digits(self.info.features['image'].shape)
        return {name: self._generate_examples(split) for name, split in splits.items()}

    def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict]]:
        for key, (image, label) in enumerate(zip(split.images[:], split.labels, strict=True)):
            # TFDS encodes arrays with TensorFlow, but Pillow images without it.
            yield key, {'image': Image.fromarray(image.squeeze()), 'label': int(label)}
