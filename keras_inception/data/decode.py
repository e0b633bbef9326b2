"""An image file to an array, by Pillow: the one way for training, evaluation and prediction."""

import io
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from keras_inception.errors import DataError

#: Endings of the files that count as images, in lower case.
ENDINGS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_TRANSPOSE = Image.Transpose
# EXIF orientation to what turns the image upright.
_UPRIGHT = {
    2: _TRANSPOSE.FLIP_LEFT_RIGHT,
    3: _TRANSPOSE.ROTATE_180,
    4: _TRANSPOSE.FLIP_TOP_BOTTOM,
    5: _TRANSPOSE.TRANSPOSE,
    6: _TRANSPOSE.ROTATE_270,
    7: _TRANSPOSE.TRANSVERSE,
    8: _TRANSPOSE.ROTATE_90,
}
# warnings.catch_warnings changes the whole process, and the pipeline decodes in many threads.
_WARNINGS = threading.Lock()


def decode(source: Path | bytes, channels: int, name: str | None = None) -> np.ndarray:
    """Decode an image; of an animation the first frame, turned upright by its EXIF orientation, alpha on white.

    Args:
        source: A file, or the bytes of one: JPEG, PNG, WebP, BMP or GIF.
        channels: 3 for RGB, 1 for grey.
        name: What a message calls it; by default the path.

    Returns:
        uint8 of shape `(height, width, channels)`.

    Raises:
        DataError: It cannot be decoded; the message gives the reason.
    """
    try:
        with _opened(source) as image:
            return _pixels(_upright(image), channels)
    except Exception as error:  # decoders of broken files raise errors of nearly every type
        name = name or ("the image" if isinstance(source, bytes) else str(source))
        raise DataError(f"{name} cannot be decoded: {_reason(error)}") from None


def _opened(source: Path | bytes) -> Image.Image:
    """Read the head of an image alone, which is quick."""
    with _WARNINGS, warnings.catch_warnings():
        # Pillow warns of a decompression bomb at 89 million pixels; here that is an error.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)


def _upright(image: Image.Image) -> Image.Image:
    """Turn by the EXIF orientation; ImageOps.exif_transpose would fail on other entries that it writes anew."""
    image.load()
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of broken EXIF data
            orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as decoders, of nearly every type
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: keep the upper 8 bits
        image = Image.fromarray(np.clip(np.asarray(image) / 256, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "its content is no JPEG, PNG, WebP, BMP or GIF"
    return " ".join(str(error).split()) or type(error).__name__
