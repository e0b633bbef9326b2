"""What a user may name as data: a folder, a manifest, shards, a TFDS name, or one of the two packaged sets."""

import contextlib
import hashlib
import importlib.metadata
import importlib.resources
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_inception.config import DataConfig
from keras_inception.data import manifest
from keras_inception.data.dataset import (
    SPLIT_NAMES,
    TEST,
    TRAIN,
    VALIDATION,
    Collection,
    ImageDataset,
    Split,
    check_classes,
    check_fractions,
    file_split,
)
from keras_inception.data.decode import ENDINGS, printable
from keras_inception.data.shards import is_shards, read_shards
from keras_inception.errors import DataError, unknown

# ELPV in its file order, by blocks of 60 cells (a module has 60 or 72, and neighbours are of one module): chosen so
# that every class stands in every split about as often as in the whole. 60 cells at every border are left out: a module
# of 60 cannot stand on both sides, one of 72 could with 12 cells at most (where modules end is not recorded). Left out
# too, with some on either side, are cells 2276 to 2347: second photographs of the cells 542 places before, which are in
# the validation (`data check` found them, by their perceptual hashes).
_ELPV_BLOCKS = {
    TRAIN: ((0, 780), (1260, 1560), (2100, 2260), (2360, 2624)),
    VALIDATION: ((1080, 1200), (1620, 1800)),
    TEST: ((840, 1020), (1860, 2040)),
}
_ELPV_CLASSES = ("mono-defective", "mono-functional", "poly-defective", "poly-functional")


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turn what may not be read into one line that names it, or the folder above it that may not be entered."""
    try:
        yield
    except PermissionError as error:
        place = Path(error.filename)
        while not os.access(place.parent, os.X_OK) and place != place.parent:
            place = place.parent
        raise DataError(
            f"{str(place)!r} may not be read; give yourself the permission, or leave it out of the data"
        ) from None


def load_dataset(config: DataConfig) -> ImageDataset:
    """Return the data set that `config.source` names, with all three splits.

    Raises:
        DataError: There is no such folder, file or set, it holds no images or a single class, or a part of it may not
            be read or cannot be downloaded.
    """
    if not config.source:
        raise DataError(
            "no data given; give --data a folder of class folders, a manifest (.csv or .jsonl), a folder of shards, "
            "a TFDS name, 'elpv' or 'digits'"
        )
    check_fractions(config.validation_fraction, config.test_fraction)
    collection = _collection(config)
    return collection.completed(config.source, config.validation_fraction, config.test_fraction, config.split_seed)


@_refusing()
def is_tfds(source: str) -> bool:
    """Return whether a source is none but a TFDS name, for which TensorFlow is loaded."""
    is_path = _path(source).exists() or source.startswith((".", "~", os.sep)) or source.endswith(os.sep)
    return not (source in _PACKAGED or is_path or _path(source).suffix.lower() in manifest.ENDINGS)


def _collection(config: DataConfig) -> Collection:
    if config.source in _PACKAGED:
        return _PACKAGED[config.source]()
    if is_tfds(config.source):
        from keras_inception.data.tfds_sets import read_tfds

        return read_tfds(config.source, config.data_dir, tuple(_PACKAGED))
    return _from_disk(_path(config.source))


@_refusing()
def _from_disk(path: Path) -> Collection:
    if path.suffix.lower() in manifest.ENDINGS and not path.is_dir():
        return manifest.read_manifest(path)
    return read_shards(path) if is_shards(path) else _class_folders(path)


def _path(source: str) -> Path:
    return Path(os.path.expanduser(source))


@_refusing()
def image_files(folder: Path) -> list[Path]:
    """Return the image files below `folder`, by their endings, sorted; hidden ones are passed over.

    Raises:
        DataError: A folder may not be read: its images would be missing without a word.
    """
    found = (path for path in _visible(folder) if path.suffix.lower() in ENDINGS)
    # A broken link or a folder named like an image counts, so that it is reported; a pipe would block who reads it.
    return sorted(path for path in found if path.is_file() or path.is_dir() or path.is_symlink())


def _visible(folder: Path) -> Iterator[Path]:
    """Yield all below a folder but what is hidden; raises OSError where a folder cannot be listed."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in (*folders, *files) if not name.startswith("."))


@_refusing()
def folder_split(folder: Path, classes: Sequence[str]) -> tuple[Split, bool]:
    """Return the images below a folder, and whether they are labelled: whether they lie in folders named by classes.

    Args:
        folder: A folder of class folders, of any of the classes, or of images anywhere below.
        classes: Names of the classes.

    Raises:
        DataError: There is no such folder, it holds no images, only some of them lie in class folders, or some may not
            be read.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {str(folder)!r}; give --data a folder of images")
    found = image_files(folder)
    if not found:
        raise DataError(f"there are no images in folder {str(folder)!r}")
    parents = [path.relative_to(folder).parts[0] for path in found]
    if not set(parents) & set(classes):
        return file_split(found, [0] * len(found)), False
    for path, name in zip(found, parents, strict=True):
        # A folder that is called like an image is in nobody's way.
        if name not in classes and not path.is_dir():
            what = f"{printable(str(path))!r} lies beside the class folders"
            if path.parent != folder:
                what = f"{printable(str(folder / name))!r} is no class of the run: {unknown('class', name, classes)}"
            raise DataError(f"{what}; give --data a folder whose images all lie in class folders, or none of them")
    members = [(path, classes.index(name)) for path, name in zip(found, parents, strict=True) if name in classes]
    return file_split([path for path, _ in members], [label for _, label in members]), True


def _class_folders(folder: Path) -> Collection:
    if not folder.exists():
        raise DataError(f"there is no folder {str(folder)!r}; give --data a folder that holds one folder per class")
    if not folder.is_dir():
        raise DataError(
            f"{str(folder)!r} is a file; give --data a folder that holds one folder of images per class, or a manifest "
            f"that ends in .csv or .jsonl"
        )
    children = _subfolders(folder)
    named = [child.name for child in children if child.name.lower() in SPLIT_NAMES]
    split_folders = {SPLIT_NAMES[name.lower()]: folder / name for name in named}
    if len(named) > len(split_folders):
        raise DataError(f"{str(folder)!r} has two folders for one split among {', '.join(named)}; keep one")
    # A class may be called "train" too: then it holds images and no folders.
    roots = split_folders if TRAIN in split_folders and _subfolders(split_folders[TRAIN]) else {TRAIN: folder}
    found = {name: _class_files(root) for name, root in roots.items()}
    classes = tuple(found[TRAIN])
    if not classes:
        raise DataError(
            f"no images in class folders under {str(roots[TRAIN])!r}; it needs one folder per class with files ending "
            f"in {', '.join(sorted(ENDINGS))}"
        )
    check_classes({name: list(files) for name, files in found.items()})
    splits = {name: _file_split(files, classes) for name, files in found.items()}
    return Collection(classes, splits, {"kind": "folder", "place": str(folder.absolute())})


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _class_files(root: Path) -> dict[str, list[Path]]:
    """Return the images of each class folder that has any; a class's name is the folder's on one line."""
    files: dict[str, list[Path]] = {}
    for child in _subfolders(root):
        if paths := image_files(child):
            files.setdefault(printable(child.name), []).extend(paths)
    return files


def _file_split(files: dict[str, list[Path]], classes: tuple[str, ...]) -> Split:
    positions = {label: position for position, label in enumerate(classes)}
    paths = [path for members in files.values() for path in members]
    labels = [positions[name] for name, members in files.items() for _ in members]
    return file_split(paths, labels)


def _elpv() -> Collection:
    """Photographs of solar cells (github.com/zae-bayern/elpv-dataset), CC-BY-NC-SA-4.0."""
    try:
        folder = Path(str(importlib.resources.files("elpv_dataset"))) / "data"
    except ModuleNotFoundError:
        raise DataError(
            "the photographs of solar cells are not installed; run: pip install 'keras-inception[elpv]'"
        ) from None
    table = (folder / "labels.csv").read_bytes()
    lines = [line.split() for line in table.decode().splitlines()]
    paths = [folder / path for path, _, _ in lines]
    states = ["defective" if float(probability) >= 0.5 else "functional" for _, probability, _ in lines]
    labels = [_ELPV_CLASSES.index(f"{crystal}-{state}") for (_, _, crystal), state in zip(lines, states, strict=True)]
    whole = file_split(paths, labels)
    splits = {
        name: whole.take(np.concatenate([np.arange(*block) for block in blocks]))
        for name, blocks in _ELPV_BLOCKS.items()
    }
    provenance = {
        "kind": "package",
        "place": str(folder),
        "version": importlib.metadata.version("elpv-dataset"),
        "sha256": hashlib.sha256(table).hexdigest(),
    }
    return Collection(_ELPV_CLASSES, splits, provenance)


def _digits() -> Collection:
    """The 1,797 handwritten digits of scikit-learn, 8×8 px; the pipeline enlarges them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    names = [f"digits/{index}" for index in range(len(images))]
    split = Split(names, digits.target.astype(np.int32), lambda index: images[index])
    provenance = {
        "kind": "package",
        "place": str(importlib.resources.files("sklearn.datasets")),
        "version": importlib.metadata.version("scikit-learn"),
        "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
    }
    return Collection(tuple(map(str, digits.target_names)), {TRAIN: split}, provenance)


_PACKAGED: dict[str, Callable[[], Collection]] = {"digits": _digits, "elpv": _elpv}
