"""A collection as people have them: good images among everything that can be wrong with a file."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

CLASSES = ("lying", "standing", "单 image")
_TURNED = 6  # EXIF: turn by 90° to the right to see it upright


@dataclass(frozen=True)
class Dirty:
    """What `make_dirty` made.

    Args:
        good: Files that must not be lost: path to class.
        broken: Path to a word of the reason that a report must give.
        passed_over: Files that are no images, by their names.
    """

    root: Path
    good: dict[Path, str]
    broken: dict[Path, str]
    passed_over: set[Path]


def make_dirty(root: Path) -> Dirty:
    """Fill `root` with two classes of stripes, one class of a single image, and a dozen odd and broken files."""
    for name in CLASSES:
        (root / name).mkdir(parents=True)
    random = np.random.default_rng(5)
    good: dict[Path, str] = {}
    for name, axis in zip(CLASSES, (0, 1), strict=False):
        for number in range(20):
            path = root / name / f"{number:02}.png"
            _stripes(random, axis).save(path)
            good[path] = name
    good |= _odd(root, random)
    broken = _broken(root, random)
    passed_over = {root / "lying" / "notes.txt", root / "cover.jpg"}
    (root / "lying" / "notes.txt").write_text("taken in May")
    _stripes(random, 0).save(root / "cover.jpg")  # in no class folder
    return Dirty(root, good, broken, passed_over)


def _stripes(random: np.random.Generator, axis: int) -> Image.Image:
    wave = 127 + 100 * np.sin(np.arange(40) * random.uniform(0.7, 1.3) + random.uniform(0, 6))
    pixels = np.broadcast_to(np.expand_dims(wave, 1 - axis), (40, 40))[..., None]
    return Image.fromarray(np.clip(pixels + random.normal(0, 20, (40, 40, 3)), 0, 255).astype(np.uint8))


def _odd(root: Path, random: np.random.Generator) -> dict[Path, str]:
    """Write images that are unusual and whole."""
    lying, standing = root / "lying", root / "standing"

    def stripes(axis: int) -> Image.Image:
        return _stripes(random, axis)

    def path(folder: Path, name: str) -> Path:
        made[folder / name] = folder.name
        return folder / name

    made: dict[Path, str] = {}
    stripes(0).convert("CMYK").save(path(lying, "cmyk.jpg"))
    grey = np.asarray(stripes(0).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path(lying, "grey16.png"))
    palette = stripes(1).quantize(32)
    palette.save(path(standing, "palette.png"), transparency=bytes(range(0, 256, 8)))
    frames = [stripes(0).resize((48, 40)) for _ in range(3)]
    frames[0].save(path(lying, "moving.gif"), save_all=True, append_images=frames[1:])
    frames[0].save(path(lying, "moving.webp"), save_all=True, append_images=frames[1:], lossless=True)
    Image.new("RGB", (1, 1), "red").save(path(standing, "pixel.png"))
    stripes(1).save(path(standing, "two\nlines.png"))
    stripes(1).save(path(standing, " spaces  and Ünïcödé 写真.bmp"))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = _TURNED
    stripes(0).resize((60, 40)).save(path(standing, "turned.JPEG"), exif=exif, quality=95)
    (standing / "deeper").mkdir()
    made[standing / "deeper" / "one.png"] = "standing"
    stripes(1).save(standing / "deeper" / "one.png")
    stripes(1).save(path(root / CLASSES[2], "only.png"))
    return made


def _broken(root: Path, random: np.random.Generator) -> dict[Path, str]:
    """Write what cannot be decoded."""
    lying, standing = root / "lying", root / "standing"
    whole = root / "whole.jpg"
    _stripes(random, 0).resize((200, 200)).save(whole)
    content = whole.read_bytes()
    whole.unlink()
    (lying / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (lying / "empty.png").write_bytes(b"")
    (standing / "text.jpg").write_text("I am no photograph.\n")
    (standing / "bomb.png").write_bytes(_bomb(20_000))
    (standing / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (standing / "folder.jpg").mkdir()
    (lying / "broken\nname.gif").write_bytes(b"GIF89a")
    return {
        lying / "truncated.jpg": "truncated",
        lying / "empty.png": "its content is no JPEG",
        standing / "text.jpg": "its content is no JPEG",
        standing / "bomb.png": "decompression bomb",
        standing / "gone.jpg": "there is no such file",
        standing / "folder.jpg": "it is a folder",
        lying / "broken\nname.gif": "",
    }


def _bomb(side: int) -> bytes:
    """Return a PNG of a few hundred kilobytes, whole and valid, that unfolds to `side` × `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
