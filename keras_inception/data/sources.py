"""What a user may name as data: a folder, a TFDS name, or one of the two sets that come with a package."""

import importlib.resources
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.config import DataConfig
from keras_inception.data.dataset import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    ImageDataset,
    Split,
    complete_splits,
    file_split,
)
from keras_inception.data.decode import ENDINGS
from keras_inception.errors import DataError, unknown

# Folders above class folders that name a split.
_SPLIT_FOLDERS = {"train": TRAIN, "validation": VALIDATION, "val": VALIDATION, "valid": VALIDATION, "test": TEST}

# ELPV in its file order, by blocks of 60 cells (a module has 60 or 72, and neighbours are of one module): chosen so
# that every class stands in every split about as often as in the whole. 60 cells at every border are left out: a module
# of 60 cannot stand on both sides, one of 72 could with 12 cells at most (where modules end is not recorded).
_ELPV_BLOCKS = {
    TRAIN: ((0, 780), (1260, 1560), (2100, 2624)),
    VALIDATION: ((1080, 1200), (1620, 1800)),
    TEST: ((840, 1020), (1860, 2040)),
}
_ELPV_CLASSES = ("mono-defective", "mono-functional", "poly-defective", "poly-functional")


def load_dataset(config: DataConfig) -> ImageDataset:
    """Return the data set that `config.source` names, with all three splits.

    Raises:
        DataError: There is no such folder or set, it holds no images or a single class, or it cannot be downloaded.
    """
    source = config.source
    if not source:
        raise DataError("no data given; give --data a folder of class folders, a TFDS name, 'elpv' or 'digits'")
    if config.validation_fraction + config.test_fraction >= 1:
        raise DataError(
            f"data.validation_fraction {config.validation_fraction:g} and data.test_fraction {config.test_fraction:g} "
            f"leave nothing for training; lower them"
        )
    if source in _PACKAGED:
        classes, splits = _PACKAGED[source]()
    elif Path(source).exists() or source.startswith((".", "~", os.sep)) or source.endswith(os.sep):
        classes, splits = _folder(Path(source))
    else:
        classes, splits = _tfds(source, config.data_dir)
    if len(classes) > 1:
        splits = complete_splits(splits, config.validation_fraction, config.test_fraction, config.split_seed)
    return ImageDataset(source, classes, splits)


def image_files(folder: Path) -> list[Path]:
    """Return the image files below `folder`, by their endings, sorted; hidden ones are passed over."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    # A broken link or a folder named like an image counts, so that it is reported; a pipe would block who reads it.
    files = (path for path in found if path.is_file() or path.is_dir() or path.is_symlink())
    return sorted(path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _folder(folder: Path) -> tuple[tuple[str, ...], dict[str, Split]]:
    if not folder.exists():
        raise DataError(f"there is no folder {str(folder)!r}; give --data a folder that holds one folder per class")
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is a file; give --data a folder that holds one folder of images per class")
    children = _subfolders(folder)
    split_folders = {
        _SPLIT_FOLDERS[child.name.lower()]: child for child in children if child.name.lower() in _SPLIT_FOLDERS
    }
    named = [child.name for child in children if child.name.lower() in _SPLIT_FOLDERS]
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
    for name, files in found.items():
        for label in files:
            if label not in classes:
                raise DataError(f"{name} has a class {label!r} that train lacks; train has {', '.join(classes)}")
    return classes, {name: _file_split(files, classes) for name, files in found.items()}


def _subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _class_files(root: Path) -> dict[str, list[Path]]:
    files = {child.name: image_files(child) for child in _subfolders(root)}
    return {name: paths for name, paths in files.items() if paths}


def _file_split(files: dict[str, list[Path]], classes: tuple[str, ...]) -> Split:
    paths = [path for members in files.values() for path in members]
    labels = [classes.index(name) for name, members in files.items() for _ in members]
    return file_split(paths, labels)


def _elpv() -> tuple[tuple[str, ...], dict[str, Split]]:
    """Photographs of solar cells (github.com/zae-bayern/elpv-dataset), CC-BY-NC-SA-4.0."""
    try:
        folder = Path(str(importlib.resources.files("elpv_dataset"))) / "data"
    except ModuleNotFoundError:
        raise DataError(
            "the photographs of solar cells are not installed; run: pip install 'keras-inception[elpv]'"
        ) from None
    lines = [line.split() for line in (folder / "labels.csv").read_text().splitlines()]
    paths = [folder / path for path, _, _ in lines]
    states = ["defective" if float(probability) >= 0.5 else "functional" for _, probability, _ in lines]
    labels = [_ELPV_CLASSES.index(f"{crystal}-{state}") for (_, _, crystal), state in zip(lines, states, strict=True)]
    whole = file_split(paths, labels)
    splits = {
        name: whole.take(np.concatenate([np.arange(*block) for block in blocks]))
        for name, blocks in _ELPV_BLOCKS.items()
    }
    return _ELPV_CLASSES, splits


def _digits() -> tuple[tuple[str, ...], dict[str, Split]]:
    """The 1,797 handwritten digits of scikit-learn, 8×8 px; the pipeline enlarges them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    names = [f"digits/{index}" for index in range(len(images))]
    split = Split(names, digits.target.astype(np.int32), lambda index: images[index])
    return tuple(map(str, digits.target_names)), {TRAIN: split}


_PACKAGED = {"digits": _digits, "elpv": _elpv}


def _tfds(name: str, data_dir: str | None) -> tuple[tuple[str, ...], dict[str, Split]]:
    import tensorflow_datasets as tfds

    base = name.split("/")[0].split(":")[0]
    known = [*tfds.list_builders(with_community_datasets=False), *_PACKAGED]
    if base not in known:
        raise DataError(f"there is no folder {name!r} here, and as a TFDS name: {unknown('data set', base, known)}")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        image_key, label_key = _supervised_keys(builder, tfds)
        builder.download_and_prepare()
    except DataError:
        raise
    except Exception as error:  # the network, the disk and the set's own code fail in ways of their own
        raise DataError(
            f"TFDS data set {name!r} is not prepared in {data_dir or '~/tensorflow_datasets'} and could not be "
            f"downloaded: {' '.join(str(error).split())[:200]}"
        ) from None
    classes = tuple(builder.info.features[label_key].names)
    splits = {}
    for split in SPLITS:
        if split in builder.info.splits:
            part = _tfds_split(builder, split, image_key, label_key, tfds)
            if len(part) and part.labels.min() >= 0:  # labels of a hidden test are -1
                splits[split] = part
    if TRAIN not in splits:
        raise DataError(f"TFDS data set {name!r} has no split 'train'; it has {', '.join(builder.info.splits)}")
    return classes, splits


def _supervised_keys(builder: Any, tfds: Any) -> tuple[str, str]:
    """Return the names of the image and of the class in the set's features."""
    features = builder.info.features
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if not images or not labels:
        raise DataError(f"TFDS data set {builder.name!r} has no image with one class; its features: {list(features)}")
    supervised = builder.info.supervised_keys or ()
    return (
        next((key for key in supervised if key in images), images[0]),
        next((key for key in supervised if key in labels), labels[0]),
    )


def _tfds_split(builder: Any, split: str, image_key: str, label_key: str, tfds: Any) -> Split:
    """Keep the images as TFDS holds them, encoded, in memory: they can be read in any order."""
    decoders = {image_key: tfds.decode.SkipDecoding()}
    examples = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False).as_numpy_iterator()
    pairs = [(example[image_key], int(example[label_key])) for example in examples]
    names = [f"{builder.name}/{split}/{index}" for index in range(len(pairs))]
    return Split(
        names=names,
        labels=np.asarray([label for _, label in pairs], dtype=np.int32),
        source=lambda index: pairs[index][0],
    )
