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


#: An image: a file, the bytes of one, or pixels: uint8 of shape `(height, width)` or `(height, width, 1, 3 or 4)`.
Source = Path | bytes | np.ndarray


def decode(source: Source, channels: int, name: str | None = None) -> np.ndarray:
    """Decode an image; of an animation the first frame, turned upright by its EXIF orientation, alpha on white.

    Args:
        source: A file or the bytes of one (JPEG, PNG, WebP, BMP or GIF), or pixels.
        channels: 3 for RGB, 1 for grey.
        name: What a message calls it; by default the path.

    Returns:
        uint8 of shape `(height, width, channels)`.

    Raises:
        DataError: It cannot be decoded; the message gives the reason.
    """
    try:
        with opened(source) as image:
            return _pixels(_upright(image), channels)
    except Exception as error:  # decoders of broken files raise errors of nearly every type
        name = name or (str(source) if isinstance(source, Path) else "the image")
        raise DataError(f"{printable(name)} cannot be decoded: {_reason(error)}") from None


def encoded(source: Source, name: str) -> bytes:
    """Return an image as the bytes of a file: those of the file unchanged, pixels as PNG.

    Args:
        source: As in `decode`.
        name: What a message calls it.

    Raises:
        DataError: The file cannot be read; the message gives the reason.
    """
    if isinstance(source, bytes):
        return source
    try:
        if isinstance(source, Path):
            return source.read_bytes()
    except (OSError, ValueError) as error:  # a path that holds a zero byte is a ValueError
        raise DataError(f"{printable(name)} cannot be read: {_reason(error)}") from None
    file = io.BytesIO()
    opened(source).save(file, "PNG")
    return file.getvalue()


def is_plain_jpeg(source: Source, channels: int) -> bool:
    """Return whether a JPEG decoder without Pillow's care gives what `decode` gives: no turning, no CMYK, no mixing.

    Reads the head alone.
    """
    if isinstance(source, np.ndarray):
        return False
    try:
        with opened(source) as image:
            modes = ("L",) if channels == 1 else ("L", "RGB")
            return image.format == "JPEG" and image.mode in modes and _orientation(image) not in _UPRIGHT
    except Exception:  # as in decode
        return False


def printable(name: str) -> str:
    """Return a name on one line: what would break it, such as a line feed, as an escape."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


def opened(source: Source) -> Image.Image:
    """Open an image with Pillow: its head is read, which is quick, and a decompression bomb refused by its size.

    Raises:
        Exception: Of nearly every type.
    """
    if isinstance(source, np.ndarray):
        return Image.fromarray(source[..., 0] if source.shape[2:] == (1,) else source)
    with _WARNINGS, warnings.catch_warnings():
        Image.preinit()  # Pillow would import the plugins of all its formats to come to one of these
        # Pillow warns of a decompression bomb at 89 million pixels; here that is an error.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)


def _upright(image: Image.Image) -> Image.Image:
    """Turn by the EXIF orientation; ImageOps.exif_transpose would fail on other entries that it writes anew."""
    image.load()
    orientation = _orientation(image)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _orientation(image: Image.Image) -> int | None:
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of broken EXIF data
            return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as decoders, of nearly every type
        return None


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
    if isinstance(error, PermissionError):
        return "it may not be read; give yourself the permission"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return " ".join(str(error).split()) or type(error).__name__
