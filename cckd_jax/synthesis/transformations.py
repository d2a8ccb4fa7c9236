"""The transformations under which ZSKD shows its impressions: 106 for each image, drawn at random here.

Source: the published code of ZSKD (https://github.com/vcl-iisc/ZSKD), which appends all 106 versions of each image to
its batch. Here each presentation draws one of them, so that an epoch is as long as without them. A composition is one
interpolation here and two there; the corners that a rotation uncovers are black.
"""

import zlib

import chex
import jax
import jax.numpy as jnp
import numpy as np

# Separates these draws from others with the same keys.
_STREAM = zlib.crc32(b'impressions')
_SCALES = (0.9, 0.75, 0.6)
_SHIFTS = ((0.2, 0.0), (-0.2, 0.0), (0.0, 0.2), (0.0, -0.2))
_ANGLES = np.linspace(-90.0, 90.0, 10)
_PEPPERED, _SALT = 0.004, 0.2
_NOISE = 0.25


def transformations() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All transformations, as three arrays.

    Returns:
      maps: float32 `[106, 2, 3]`, from a position (row, column) in the result to one in the image, both in [-1, 1].
      fill: float32 `[106]`, the pixel value outside of the image: white for shifts, as in the published code.
      noise: bool `[106, 2]`, whether Gaussian noise, and then salt and pepper, is added.

    >>> len(transformations()[0])
    106
    """
    identity = np.eye(3)
    scales = [_linear(np.eye(2) * scale) for scale in _SCALES]
    shifts = [_shift(*shift) for shift in _SHIFTS]
    rotations = [_linear(_rotation(angle)) for angle in _ANGLES]
    flips = [_linear(np.diag(signs)) for signs in ((1, -1), (-1, 1))] + [_linear(np.eye(2)[::-1])]
    # `A @ B` looks up position A first: the image is first changed by B.
    shifted_and_scaled = [shift @ scale for shift in shifts for scale in scales]
    rotated_shifts = [shift @ rotation for shift in shifts for rotation in rotations]
    rotated_scales = [scale @ rotation for scale in scales for rotation in rotations]
    black = [identity, *scales, *rotations, *flips, *rotated_scales, identity, identity, identity]
    white = [*shifts, *shifted_and_scaled, *rotated_shifts]
    noise = np.zeros((len(black) + len(white), 2), bool)
    noise[len(black) - 3 : len(black)] = [(True, False), (False, True), (True, True)]
    maps = np.stack([*black, *white])[:, :2]
    return maps.astype(np.float32), np.repeat([0.0, 1.0], [len(black), len(white)]).astype(np.float32), noise


def augment(keys: chex.Array, images: chex.Array) -> chex.Array:
    """Changes each image by one of the 106 transformations.

    Args:
      keys: typed PRNG keys `[B]`.
      images: float `[B, H, W, C]` in [0, 1].

    Returns:
      Images of the same shape.

    >>> augment(jax.random.split(jax.random.key(0), 2), jnp.ones((2, 8, 8, 1))).shape
    (2, 8, 8, 1)
    """
    (maps, fills, noises) = map(jnp.asarray, transformations())

    def change(key: chex.PRNGKey, image: chex.Array) -> chex.Array:
        (choice, *keys) = jax.random.split(jax.random.fold_in(key, _STREAM), 4)
        index = jax.random.randint(choice, (), 0, len(maps))
        image = warp(image, maps[index], fills[index])
        blend = (1 - _NOISE) * image + _NOISE * jax.random.normal(keys[0], image.shape)
        image = jnp.where(noises[index, 0], jnp.clip(blend, 0, 1), image)
        peppered = jax.random.bernoulli(keys[1], _PEPPERED, image.shape)
        salt = jax.random.bernoulli(keys[2], _SALT, image.shape).astype(image.dtype)
        return jnp.where(noises[index, 1] & peppered, salt, image)

    return jax.vmap(change)(keys, images)


def warp(image: chex.Array, mapping: chex.Array, fill: chex.Numeric) -> chex.Array:
    """Looks up each pixel of the result in an image, with bilinear interpolation.

    Args:
      image: float `[H, W, C]`.
      mapping: float `[2, 3]`, from (row, column, 1) in the result to (row, column), both in [-1, 1].
      fill: value outside of the image.

    >>> flip = jnp.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    >>> warp(jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]]), flip, 0.0)[..., 0].tolist()
    [[2.0, 1.0], [4.0, 3.0]]
    """
    (height, width, channels) = image.shape
    half = jnp.array([(height - 1) / 2, (width - 1) / 2])
    (rows, columns) = jnp.meshgrid(jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing='ij')
    position = jnp.stack([rows, columns, jnp.ones_like(rows)])
    source = (jnp.einsum('ij,jhw->ihw', mapping, position, precision='highest') + 1) * half[:, None, None]
    # Rounding must not push a corner of the image outside of it.
    source = jnp.where(jnp.abs(source - jnp.rint(source)) < 1e-4, jnp.rint(source), source)
    lookup = lambda channel: jax.scipy.ndimage.map_coordinates(channel, list(source), order=1, mode='constant')
    warped = jnp.stack([lookup(image[..., channel]) for channel in range(channels)], -1)
    inside = lookup(jnp.ones((height, width)))[..., None]
    return warped + (1 - inside) * fill


def _linear(matrix: np.ndarray) -> np.ndarray:
    result = np.eye(3)
    result[:2, :2] = matrix
    return result


def _shift(rows: float, columns: float) -> np.ndarray:
    """Moves by a fraction of the image, whose side is 2 in these coordinates."""
    result = np.eye(3)
    result[:2, 2] = -2 * rows, -2 * columns
    return result


def _rotation(degrees: float) -> np.ndarray:
    (sine, cosine) = (np.sin(np.radians(degrees)), np.cos(np.radians(degrees)))
    return np.array([[cosine, -sine], [sine, cosine]])
