"""Sets of TensorFlow Datasets, by name or from a builder."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_inception.data.conversion import Example, Examples, write_shards
from keras_inception.data.dataset import (
    SPLIT_NAMES,
    SPLITS,
    TRAIN,
    Collection,
    ImageDataset,
    Split,
    check_classes,
    file_split,
)
from keras_inception.data.decode import printable
from keras_inception.data.shards import read_shards, source_of
from keras_inception.errors import DataError, unknown

_LOG = logging.getLogger(__name__)

#: The name of TFDS's builder for a folder of images with one folder per split; its data_dir is that folder.
IMAGE_FOLDER = "image_folder"


def from_tfds(
    builder: Any, *, validation_fraction: float = 0.15, test_fraction: float = 0.15, seed: int = 0
) -> ImageDataset:
    """Return the data set of a TFDS builder; it is downloaded and prepared if it is not yet.

    Sets in TFRecord files, which cannot be read in any order, are converted to shards once, below the builder's
    data_dir.

    Args:
        builder: A `tfds.core.DatasetBuilder`.
        validation_fraction: Share of each class for validation, where the set has none.
        test_fraction: Share of each class for the test, where the set has none.
        seed: Which images they are.

    Raises:
        DataError: The set has no image with one class or no split "train", or it cannot be prepared.
    """
    collection = _collection(builder, _root(builder))
    return collection.completed(builder.info.full_name, validation_fraction, test_fraction, seed)


def read_tfds(name: str, data_dir: str | None, others: tuple[str, ...] = ()) -> Collection:
    """Return what the TFDS set `name` holds.

    Args:
        name: As TFDS has it, with configuration and version if need be; "image_folder" for the folder `data_dir`.
        data_dir: Where TFDS keeps its sets; None is its own default.
        others: Names that a misspelt one is compared with too.

    Raises:
        DataError: As `from_tfds`, or there is no such set.
    """
    import tensorflow_datasets as tfds

    if name == IMAGE_FOLDER:
        return _image_folder(data_dir)
    base = name.split("/")[0].split(":")[0]
    known = [*tfds.list_builders(with_community_datasets=False), IMAGE_FOLDER, *others]
    if base not in known:
        raise DataError(
            f"there is no folder {name!r}; give a folder of class folders, a manifest or the name of a TFDS data set "
            f"({unknown('data set', base, known)})"
        )
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # the set's own code fails in ways of its own
        raise DataError(f"TFDS data set {name!r} cannot be used: {_reason(error)}") from None
    return _collection(builder, Path(data_dir).expanduser() if data_dir else _root(builder))


def _collection(builder: Any, root: Path) -> Collection:
    """Return what a builder's set holds; what has to be converted is converted below `root`."""
    import tensorflow_datasets as tfds

    if isinstance(builder, tfds.folder_dataset.ImageFolder):
        return _files(builder)
    try:
        image_key, label_key = _supervised_keys(builder)
        builder.download_and_prepare()
    except DataError:
        raise
    except Exception as error:  # the network, the disk and the set's own code fail in ways of their own
        raise DataError(
            f"TFDS data set {builder.name!r} is not prepared in {str(root)!r} and could not be downloaded: "
            f"{_reason(error)}"
        ) from None
    if TRAIN not in builder.info.splits:
        raise DataError(
            f"TFDS data set {builder.info.full_name!r} has no split 'train'; it has {', '.join(builder.info.splits)}"
        )
    classes = tuple(map(printable, builder.info.features[label_key].names))
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        found = {name: _sought(builder, name, image_key, label_key) for name in SPLITS if name in builder.info.splits}
        return Collection(classes, {name: split for name, split in found.items() if len(split)}, _provenance(builder))
    return _converted(builder, root, classes, image_key, label_key)


def _supervised_keys(builder: Any) -> tuple[str, str]:
    """Return the names of the image and of the class in the set's features."""
    import tensorflow_datasets as tfds

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


def _sought(builder: Any, split: str, image_key: str, label_key: str) -> Split:
    """Return a split that TFDS reads in any order."""
    import tensorflow_datasets as tfds

    examples = builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
    labels = np.asarray([examples[index][label_key] for index in range(len(examples))], np.int32)
    whole = Split(
        names=[f"{builder.name}/{split}/{index}" for index in range(len(labels))],
        labels=labels,
        source=lambda index: examples[index][image_key],
    )
    return whole.take(np.flatnonzero(labels >= 0))  # labels of a hidden test are -1


def _converted(builder: Any, root: Path, classes: tuple[str, ...], image_key: str, label_key: str) -> Collection:
    """Return a set from its shards; write them where there are none."""
    folder = root / "keras_inception" / builder.info.full_name
    source = _provenance(builder)
    if source_of(folder) == source:
        try:
            return read_shards(folder)
        except DataError as error:
            _LOG.info("%s", error)
    _LOG.info(
        "writing the images of TFDS data set %s to %s, once, to read them in any order", builder.info.full_name, folder
    )
    splits = {name: _examples(builder, name, image_key, label_key) for name in SPLITS if name in builder.info.splits}
    write_shards(folder, classes, splits, source, overwrite=True)
    return read_shards(folder)


def _examples(builder: Any, split: str, image_key: str, label_key: str) -> Examples:
    import tensorflow_datasets as tfds

    from keras_inception.data.parallel import untuned

    def from_position(start: int) -> Iterator[Example]:
        examples = builder.as_dataset(
            split=split,
            decoders={image_key: tfds.decode.SkipDecoding()},
            shuffle_files=False,
            read_config=tfds.ReadConfig(try_autocache=False),
        )
        labelled = 0
        for number, example in enumerate(untuned(examples).as_numpy_iterator()):
            label = int(example[label_key])
            if label < 0:  # of a hidden test
                continue
            if labelled >= start:
                yield Example(f"{builder.name}/{split}/{number}", label, "", example[image_key])
            labelled += 1

    return from_position


def _image_folder(data_dir: str | None) -> Collection:
    import tensorflow_datasets as tfds

    if data_dir is None or not Path(data_dir).expanduser().is_dir():
        raise DataError(
            f"{IMAGE_FOLDER} takes --data-dir, a folder of split/class/image"
            + ("" if data_dir is None else f"; there is no folder {data_dir!r}")
        )
    try:
        builder = tfds.folder_dataset.ImageFolder(data_dir)
    except Exception as error:  # TensorFlow's file system reads no name that is not UTF-8
        raise DataError(f"TFDS cannot read the folder {data_dir!r}: {_reason(error)}") from None
    return _files(builder)


def _files(builder: Any) -> Collection:
    """Return the files that an `ImageFolder` found; they need no conversion."""
    found: dict[str, list[Any]] = {}
    # There is no public way to the paths but one that reads every file and stops at the first that cannot be read.
    for name, examples in builder._split_examples.items():
        split = SPLIT_NAMES.get(name.lower())
        if split in found:
            raise DataError(f"{str(builder.data_dir)!r} has two folders for the split {split!r}; keep one")
        if split and examples:
            found[split] = examples
    if TRAIN not in found:
        raise DataError(
            f"{str(builder.data_dir)!r} has no images for train; {IMAGE_FOLDER} takes a folder of split/class/image, "
            f"and it has {printable(', '.join(builder._split_examples)) or 'no such folders'}"
        )
    labels = {name: sorted({printable(one.label) for one in examples}) for name, examples in found.items()}
    check_classes(labels)
    positions = {label: position for position, label in enumerate(labels[TRAIN])}
    splits = {
        name: file_split(
            [Path(one.image_path) for one in found[name]], [positions[printable(one.label)] for one in found[name]]
        )
        for name in SPLITS
        if name in found
    }
    return Collection(
        tuple(labels[TRAIN]), splits, {"kind": "tfds image_folder", "place": str(Path(builder.data_dir).absolute())}
    )


def _provenance(builder: Any) -> dict[str, str]:
    # In the order of their names: a set that was just prepared has them in another than one that is read again.
    splits = [split for _, split in sorted(builder.info.splits.items())]
    return {
        "kind": "tfds",
        "place": str(Path(builder.data_dir).absolute()),
        "set": builder.info.full_name,
        "examples": ", ".join(f"{split.name} {split.num_examples}" for split in splits),
        "bytes": str(sum(split.num_bytes for split in splits)),
    }


def _root(builder: Any) -> Path:
    """Return the data_dir that a builder's set lies in: a set without its name, configuration and version."""
    place, name = Path(builder.data_dir), Path(builder.info.full_name)
    inside = place.parts[-len(name.parts) :] == name.parts
    return place.parents[len(name.parts) - 1] if inside else place.parent


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
