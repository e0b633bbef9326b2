"""Which images are measured: a split of a run's own data, or a folder of others."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_inception.config import DataConfig
from keras_inception.data.dataset import Split, file_split
from keras_inception.data.decode import printable
from keras_inception.errors import DataError, RunError, unknown
from keras_inception.run_folder import RunFolder

if TYPE_CHECKING:
    from keras_inception.data.pipeline import Images


def folder_split(folder: Path, classes: Sequence[str]) -> tuple[Split, bool]:
    """Return the images below a folder, and whether they are labelled: whether they lie in folders named by classes.

    Args:
        folder: A folder of class folders, of any of the classes, or of images anywhere below.
        classes: Names of the classes.

    Raises:
        DataError: There is no such folder, it holds no images, or only some of them lie in class folders.
    """
    from keras_inception.data.sources import image_files

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


def same_classes(folders: Sequence[RunFolder]) -> tuple[str, ...]:
    """Return the classes of runs; raises RunError where they differ."""
    first, *others = (folder.labels() for folder in folders)
    for folder, classes in zip(folders[1:], others, strict=True):
        if classes != first:
            raise RunError(
                f"{str(folders[0].path)!r} and {str(folder.path)!r} have different classes, {', '.join(first)} and "
                f"{', '.join(classes)}; give runs with the same"
            )
    return first


def same_images(folders: Sequence[RunFolder], read: Callable[[DataConfig], "Images"]) -> list["Images"]:
    """Return the images of every run; those of runs with equal settings are read once.

    Args:
        folders: The runs.
        read: From a run's settings to its images.

    Raises:
        DataError: They are not the same for all.
    """
    known: dict[DataConfig, Images] = {}
    found = []
    for folder in folders:
        config = folder.config().data
        if config not in known:
            known[config] = read(config)
        images = known[config]
        found.append(images)
        first = found[0]
        if list(images.names) != list(first.names) or images.labels.tolist() != first.labels.tolist():
            raise DataError(
                f"{str(folders[0].path)!r} and {str(folder.path)!r} have different images, {len(first):,} and "
                f"{len(images):,}; give runs of the same data and splits"
            )
    return found
