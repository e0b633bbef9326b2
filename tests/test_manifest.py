"""Manifests: what a table of paths, labels, splits and groups becomes, and by which line a faulty one is refused."""

import codecs
import csv
import hashlib
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from keras_inception.config import DataConfig
from keras_inception.data.manifest import read_manifest
from keras_inception.data.sources import load_dataset
from keras_inception.errors import DataError


def load(path, **options):
    return load_dataset(DataConfig(source=str(path), **options))


def write(path, text):
    """Text as it is, or a list of dictionaries as the ending says."""
    if isinstance(text, str):
        path.write_text(text, encoding="utf-8", newline="")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in text))
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(text[0]))
            writer.writeheader()
            writer.writerows(text)
    return path


def refusal(path, text=None):
    if text is not None:
        write(path, text)
    with pytest.raises(DataError) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def line_of(message):
    return int(re.search(r", line (\d+): ", message)[1])


ROWS = [{"path": f"images/{index:02}.png", "label": "ab"[index % 2]} for index in range(20)]


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(20):
        Image.new("L", (4, 3), index).save(tmp_path / "images" / f"{index:02}.png")
    return tmp_path


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "LIST.CSV"])
def test_paths_are_taken_from_the_manifests_folder_wherever_one_stands(images, name, monkeypatch):
    monkeypatch.chdir("/")
    path = write(images / name, ROWS)
    dataset = load(path, validation_fraction=0.2, test_fraction=0.3)
    assert dataset.classes == ("a", "b")
    assert dataset.counts() == {
        "train": {"a": 5, "b": 5},
        "validation": {"a": 2, "b": 2},
        "test": {"a": 3, "b": 3},
    }
    seen = []
    for split in dataset.splits.values():
        for index, (file, label) in enumerate(zip(split.paths, split.labels, strict=True)):
            number = int(file.stem)
            assert (split.read(index, 1) == number).all()
            assert label == number % 2
            seen.append(number)
    assert sorted(seen) == list(range(20))
    assert dataset.provenance == {
        "kind": "manifest",
        "place": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "validation_fraction": "0.2",
        "test_fraction": "0.3",
        "split_seed": "0",
    }


def test_it_can_be_named_from_where_one_stands(images, monkeypatch):
    write(images / "list.csv", ROWS)
    monkeypatch.chdir(images)
    assert load("list.csv").classes == ("a", "b")


def test_paths_may_be_absolute(images, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    rows = [{**row, "path": str(images / row["path"])} for row in ROWS]
    split = load(write(elsewhere / "list.csv", rows)).splits["train"]
    assert split.read(0, 3).shape == (3, 4, 3)


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_splits_may_be_given_under_any_of_their_names(images, ending):
    names = ["train", "Train", "TEST", "val", "valid", "validation", " test "]
    rows = [{**row, "split": names[index % 7]} for index, row in enumerate(ROWS)]
    dataset = load(write(images / f"list{ending}", rows))
    expected = {"train": [0, 1], "validation": [3, 4, 5], "test": [2, 6]}
    for name, split in dataset.splits.items():
        assert [int(path.stem) for path in split.paths] == [index for index in range(20) if index % 7 in expected[name]]
    assert "split_seed" not in dataset.provenance


def test_a_split_that_is_not_given_is_carved(images):
    rows = [{**row, "split": "test" if index < 4 else "train"} for index, row in enumerate(ROWS)]
    dataset = load(write(images / "list.csv", rows), validation_fraction=0.25)
    assert [len(dataset.splits[name]) for name in ("train", "validation", "test")] == [12, 4, 4]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_groups_are_kept_and_kept_together(images, ending):
    rows = [{**row, "group": f"patient {index // 4}" if index < 12 else ""} for index, row in enumerate(ROWS)]
    dataset = load(write(images / f"list{ending}", rows))
    sides = {group: name for name, split in dataset.splits.items() for group in split.groups}
    for name, split in dataset.splits.items():
        for path, group in zip(split.paths, split.groups, strict=True):
            assert group == rows[int(path.stem)]["group"]
            assert not group or sides[group] == name


def test_without_groups_there_are_none(images):
    rows = [{**row, "group": ""} for row in ROWS]
    assert load(write(images / "list.csv", rows)).splits["train"].groups is None


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_weights_go_with_their_images_and_nothing_is_1(images, ending):
    given = [("", 1.0), (0, 0.0), (2.5, 2.5), ("0.5", 0.5)]
    rows = [{**row, "weight": given[index % 4][0]} for index, row in enumerate(ROWS)]
    for split in load(write(images / f"list{ending}", rows)).splits.values():
        assert split.weights.dtype == np.float32
        assert split.weights.tolist() == [given[int(path.stem) % 4][1] for path in split.paths]
    assert load(write(images / f"none{ending}", ROWS)).splits["train"].weights is None


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "much", "1,5"])
def test_a_weight_that_is_none_is_refused_by_its_line(images, weight):
    rows = [{**row, "weight": weight if index == 2 else ""} for index, row in enumerate(ROWS)]
    said = refusal(write(images / "list.csv", rows))
    assert line_of(said) == 4
    assert repr(weight) in said


def test_classes_are_sorted_and_labels_are_text(images):
    labels = ["10", "9", " größe 猫 ", "null"]
    rows = [{**row, "label": labels[index % 4]} for index, row in enumerate(ROWS)]
    assert load(write(images / "list.csv", rows)).classes == ("10", "9", "größe 猫", "null")


def test_numbers_in_json_are_labels_as_they_are_written(images):
    text = "".join(
        f'{{"path": "images/{index:02}.png", "label": {label}}}\n'
        for index, label in enumerate(["1", "1.50", '"1"', "-3", "1e5"] * 4)
    )
    assert load(write(images / "list.jsonl", text)).classes == ("-3", "1", "1.50", "1e5")


def test_a_label_of_two_lines_is_a_class_on_one(images):
    rows = [{**row, "label": "a\nb" if row["label"] == "a" else "c"} for row in ROWS]
    assert load(write(images / "list.csv", rows)).classes == ("a\\nb", "c")


def test_a_path_may_hold_commas_quotes_and_line_feeds(images):
    names = ["images/a, b.png", 'images/"c".png', "images/d\ne.png", "images/größe 猫.png"]
    for index, name in enumerate(names):
        (images / "images" / f"{index:02}.png").rename(images / name)
    rows = [{**row, "path": names[index] if index < 4 else row["path"]} for index, row in enumerate(ROWS)]
    for ending in (".csv", ".jsonl"):
        dataset = load(write(images / f"list{ending}", rows))
        for split in dataset.splits.values():
            for index, path in enumerate(split.paths):
                relative = str(path.relative_to(images))
                number = names.index(relative) if relative in names else int(path.stem)
                assert (split.read(index, 1) == number).all()


def test_other_columns_and_empty_lines_are_passed_over(images):
    rows = "".join(f'x,{row["label"]},{row["path"]},"1\n2"\r\n\r\n' for row in ROWS)
    assert load(write(images / "list.csv", "\r\nid, label ,path,note\r\n" + rows)).classes == ("a", "b")
    lines = "".join(json.dumps({"note": [1], **row}) + "\r\n\r\n" for row in ROWS)
    assert load(write(images / "list.jsonl", lines)).classes == ("a", "b")


def test_a_byte_order_mark_is_passed_over(images):
    for ending in (".csv", ".jsonl"):
        path = write(images / f"list{ending}", ROWS)
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
        assert load(path).classes == ("a", "b")


@pytest.mark.parametrize("name", ["none.png", "images", "zero\0byte.png"])
def test_an_image_that_cannot_be_read_is_found_when_it_is_read(images, name):
    rows = [*ROWS, {"path": name, "label": "a"}]
    dataset = load(write(images / "list.jsonl", rows))
    assert len(dataset.fingerprint()) == 16
    said = []
    for split in dataset.splits.values():
        for index, path in enumerate(split.paths):
            if path == images / name:
                with pytest.raises(DataError) as caught:
                    split.read(index, 3)
                said.append(str(caught.value))
            else:
                split.read(index, 3)
    (message,) = said
    assert len(message.splitlines()) == 1
    assert {"none.png": "there is no such file", "images": "it is a folder"}.get(name, "null byte") in message


MANY = "".join(f"{row['path']},{row['label']}\n" for row in ROWS)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("file,label\na,b\n", 1, "no column 'path'; it has file, label"),
        ("path;label\na;b\n", 1, "no column 'path'; it has path;label"),
        ("path,label,label\na,b,c\n", 1, "two columns 'label'"),
        (MANY, 1, "no column 'path'"),
        ("path,label\na,x\nb\n", 3, "1 fields and the header 2"),
        ("path,label\na,x\nb,y,z\n", 3, "3 fields and the header 2; quote fields that hold commas"),
        ("path,label\na,x\n,y\n", 3, "an empty path"),
        ("path,label\na,x\nb, \n", 3, "an empty label"),
        ('path,label\n"a\nb\nc",x\nd,\n', 5, "an empty label"),  # lines of the file, not rows
        ('path,label\n"a\nb\nc",\nd,x\n', 2, "an empty label"),
        (
            "path,label,split\na,x,train\nb,y,tets\n",
            3,
            "unknown split 'tets'; give train, validation, val, valid, test",
        ),
        ("path,label,split\na,x,train\nb,y,\n", 3, "no split, and line 2 has one"),
        ("path,label,split\na,x,\nb,y,train\n", 2, "no split, and line 3 has one"),
        ('path,label\na,x\n"b,y\n', 3, "is no CSV"),
        ('path,label\na,x\n"b"c,y\n', 3, "is no CSV"),
    ],
)
def test_a_faulty_csv_is_refused_by_its_line(tmp_path, text, line, said):
    message = refusal(tmp_path / "list.csv", text)
    assert line_of(message) == line
    assert said in message
    assert repr(str(tmp_path / "list.csv")) in message


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ('{"path": "b", "label": ', "is no JSON"),
        ("b,y", "is no JSON"),
        ('["b", "y"]', "is no object"),
        ("7", "is no object"),
        ('{"path": "b", "class": "y"}', "no field 'label'; it has path, class"),
        ('{"path": "b", "label": ""}', "an empty label"),
        ('{"path": "b", "label": null}', "an empty label"),
        ('{"path": "b", "label": true}', "label is true; give text"),
        ('{"path": "b", "label": ["y"]}', 'label is ["y"]; give text'),
        ('{"path": "b", "label": "y", "split": "dev"}', "unknown split 'dev'"),
        ('{"path": "b", "label": "y", "split": "test"}', None),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_faulty_json_lines_are_refused_by_their_line(tmp_path, second, said):
    message = refusal(tmp_path / "list.jsonl", '\n{"path": "a", "label": "x"}\n' + second + "\n")
    assert line_of(message) == (3 if said else 2)
    assert (said or "no split, and line 3 has one") in message


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_file_that_is_not_utf_8_is_refused_by_its_line(tmp_path, ending):
    path = write(tmp_path / f"list{ending}", ROWS)
    path.write_bytes(path.read_bytes() + "images/größe.png,a\n".encode("latin-1"))
    message = refusal(path)
    assert line_of(message) == 21 + (ending == ".csv")
    assert "0xf6 is not UTF-8" in message


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_binary_file_an_empty_one_and_none_are_refused(tmp_path, ending):
    path = tmp_path / f"list{ending}"
    assert "there is no manifest" in refusal(path)
    assert "lists no images" in refusal(path, "")
    path.write_bytes(bytes(range(256)))
    assert "UTF-8" in refusal(path)


def test_a_header_alone_lists_no_images(tmp_path):
    assert "lists no images" in refusal(tmp_path / "list.csv", "path,label\n")


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "list.csv", ROWS)

    def forbidden(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_bytes", forbidden)
    assert refusal(path) == f"manifest {str(path)!r} cannot be read: Permission denied"


def test_a_class_in_the_test_alone_is_refused(images):
    rows = [{**row, "split": "train"} for row in ROWS] + [{"path": "x", "label": "new", "split": "test"}]
    assert refusal(images / "list.csv", rows) == "test has a class 'new' that train lacks; train has a, b"


def test_a_class_may_be_missing_from_the_test(images):
    rows = [{**row, "split": "test" if index == 0 else "train"} for index, row in enumerate(ROWS)]
    assert load(write(images / "list.csv", rows)).counts()["test"] == {"a": 1, "b": 0}


def test_no_training_images_are_refused(images):
    assert "no row of the split 'train'" in refusal(images / "list.csv", [{**row, "split": "test"} for row in ROWS])


def test_a_single_class_is_refused(images):
    assert "'a'" in refusal(images / "list.csv", [{**row, "label": "a"} for row in ROWS])


def test_a_table_separated_by_tabs_is_no_manifest(tmp_path):
    write(tmp_path / "list.tsv", "path\tlabel\na\tb\n")
    with pytest.raises(DataError, match=r"is a file; give .* \.csv or \.jsonl"):
        load(tmp_path / "list.tsv")


def test_a_folder_may_end_like_a_manifest(images):
    for index in range(20):
        folder = images / "photos.csv" / "ab"[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (images / "images" / f"{index:02}.png").rename(folder / f"{index:02}.png")
    assert load(images / "photos.csv").provenance["kind"] == "folder"


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "path": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip),
                "label": st.sampled_from(["cat", "big, dog", 'a "b"', "猫"]),
                "group": st.sampled_from(["", "x", "y\nz"]),
            }
        ),
        min_size=2,
    ).filter(lambda rows: len({row["label"] for row in rows}) > 1)
)
def test_csv_and_json_lines_say_the_same(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("both")
    # The csv module is the judge of what can be written so that it is read back.
    table, lines = (read_manifest(write(folder / f"list{ending}", rows)) for ending in (".csv", ".jsonl"))
    assert table.classes == lines.classes == tuple(sorted({row["label"] for row in rows}))
    for collection in (table, lines):
        split = collection.splits["train"]
        assert [str(path) for path in split.paths] == [str(folder / row["path"]) for row in rows]
        np.testing.assert_array_equal(split.labels, [collection.classes.index(row["label"]) for row in rows])
        assert list(split.groups or [""] * len(rows)) == [row["group"] for row in rows]
