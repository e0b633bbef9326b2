"""Every command through its entry point, on tiny data; what a user gets wrong ends in one line and status 2."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import keras_inception as ki
from keras_inception.cli import main


def command(*words: str, **options) -> subprocess.CompletedProcess:
    """Run `python -m keras_inception` as a user does, in a process of its own."""
    return subprocess.run([sys.executable, "-m", "keras_inception", *words], capture_output=True, text=True, **options)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_help_names_every_command_with_an_example_each():
    text = command("--help").stdout
    for name in ("train", "evaluate", "predict", "export", "tune", "data", "analyze", "import-weights", "publish"):
        assert name in text
    for words in (
        ["train"],
        ["tune"],
        ["evaluate"],
        ["compare"],
        ["import-weights"],
        ["publish"],
        ["data", "check"],
        ["data", "preview"],
        ["analyze", "table"],
    ):
        assert f"Example: keras-inception {' '.join(words)}" in command(*words, "--help").stdout


def help_of(*words: str, monkeypatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return capsys.readouterr().out


def test_help_breaks_lines_where_the_terminal_ends_alone(monkeypatch, capsys):
    text = help_of("train", monkeypatch=monkeypatch, capsys=capsys)
    (line,) = [line for line in text.splitlines() if "A folder of class folders" in line]
    assert "a TFDS name such as tf_flowers" in line


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["predict"], ["RUN|FILE", "IMAGE [IMAGE ...]"]),
        (["evaluate"], ["[RUN|FILE ...]"]),
        (["export"], ["[RUN]"]),
        (["data", "convert"], ["SOURCE", "OUTPUT"]),
        (["analyze", "output-size"], ["SIZE", "WINDOW [WINDOW ...]"]),
    ],
)
def test_help_says_what_stands_where_without_a_flag(words, names, monkeypatch, capsys):
    text = help_of(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert " ".join(names) in " ".join(text.partition("\n\n")[0].split())
    panel = text.partition("positional arguments")[2].partition("╰")[0]
    for name in names:
        assert name in panel


def loaded_by(*words):
    """The modules that a command line has loaded when it ends."""
    code = (
        "import sys\nfrom keras_inception.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("words", [("--help",), ("train", "--help"), ("analyze", "table")])
def test_help_and_the_table_load_neither_tensorflow_nor_keras(words):
    assert not {"tensorflow", "keras", "pydantic"} & loaded_by(*words)


@pytest.mark.parametrize("words", [("--help",), ("data", "--help"), ("analyze", "--help")])
def test_the_lists_of_commands_load_no_checker_of_types(words):
    """Whose import is a third of their time."""
    assert "typeguard" not in loaded_by(*words)


def test_analyze_table_prints_the_papers_totals(capsys):
    assert main(["analyze", "table"]) == 0
    text = capsys.readouterr().out
    for figure in ("6,998,552", "1,582,671,872", "13,378,280", "118,013,952", "1,442,816", "7×7×1024", "22"):
        assert figure in text


def test_a_piped_table_is_never_cut(capsys):
    assert main(["analyze", "table", "googlenet-bn"]) == 0
    assert "…" not in capsys.readouterr().out


def test_a_run_leaves_everything_about_it(run):
    names = {path.name for path in run.iterdir()}
    assert names == {
        ".lock",
        "architecture.json",
        "best.keras",
        "checkpoints",
        "config.json",
        "curves.png",
        "data.json",
        "environment.json",
        "gradients.csv",
        "labels.txt",
        "last.keras",
        "last_raw.keras",
        "metrics.csv",
        "report.html",
        "summary.json",
        "tensorboard",
    }
    assert (run / "labels.txt").read_text() == "lying\nstanding\n"
    assert ki.Architecture.from_json((run / "architecture.json").read_text()).name == "tiny"
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["value_range"] == [-1.0, 1.0]
    assert config["data"]["image_size"] == 28
    assert config["training"]["loss_weights"] == [1.0, 0.3, 0.3]
    assert json.loads((run / "environment.json").read_text())["packages"]["tensorflow"]
    assert json.loads((run / "summary.json").read_text())["images"] == {"train": 56, "validation": 12}
    data = json.loads((run / "data.json").read_text())
    assert data["images"]["train"] == {"lying": 28, "standing": 28}
    assert len(data["fingerprint"]) == 16
    assert data["provenance"]["kind"] == "folder"
    assert list((run / "tensorboard").rglob("events.out.tfevents*"))
    assert size(run / "curves.png")[0] > 600


def test_metrics_are_logged_per_head_and_epoch(run):
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == [str(epoch) for epoch in range(1, 5)]
    for column in ("loss", "main_loss", "val_main_top1", "aux1_top1", "val_aux2_loss"):
        assert column in header.split(",")
    assert "top5" not in header  # two classes


def test_evaluate_writes_figures_that_its_confusion_matrix_confirms(run, tmp_path, capsys):
    run = shutil.copytree(run, tmp_path / "run")
    assert main(["evaluate", str(run)]) == 0
    result = json.loads((run / "evaluation" / "evaluation.json").read_text())
    (a, b), (c, d) = result["confusion"]
    assert a + b + c + d == result["images"] == 12
    assert result["top1"] == pytest.approx((a + d) / 12)
    assert result["top1"] > 0.8  # stripes are easy; chance gives a half
    assert result["per_class"]["lying"]["recall"] == pytest.approx(a / (a + b))
    assert result["per_class"]["standing"]["precision"] == pytest.approx(d / (b + d))
    assert result["top5"] is None
    assert f"top-1 {result['top1']:.2%}" in capsys.readouterr().out
    assert size(run / "evaluation" / "confusion.png")[0] > 300


def test_predict_takes_files_folders_and_patterns(run, stripes, capsys):
    words = [str(stripes / "lying" / "00.png"), str(stripes / "standing"), str(stripes / "lying" / "0*.png")]
    capsys.readouterr()
    assert main(["predict", str(run), *words, "--top", "1", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert len(answers) == 1 + 40 + 10
    right = [answer["top"][0]["label"] in answer["image"] for answer in answers]
    assert sum(right) > 40
    assert main(["predict", str(run), words[0]]) == 0
    table = capsys.readouterr().out
    assert "lying" in table
    assert "standing" in table
    assert "%" in table


def test_predict_probabilities_sum_to_one(run, stripes, capsys):
    capsys.readouterr()
    assert main(["predict", str(run), str(stripes / "lying"), "--json"]) == 0
    for answer in json.loads(capsys.readouterr().out):
        assert sum(row["probability"] for row in answer["top"]) == pytest.approx(1, abs=1e-5)


def test_preview_draws_a_row_per_image_with_a_column_per_epoch(stripes, run, tmp_path, capsys):
    few, many = tmp_path / "few.png", tmp_path / "many.png"
    words = ["--image-size", "28", "--set", "data.hue=0.1"]
    assert main(["data", "preview", str(stripes), "--output", str(few), "--images", "2", "--epochs", "2", *words]) == 0
    assert f"wrote {few}" in capsys.readouterr().out
    assert main(["data", "preview", str(run), "--output", str(many), "--images", "3", "--epochs", "5"]) == 0
    assert size(many)[0] == pytest.approx(2 * size(few)[0], rel=0.02)
    assert size(many)[1] > 1.3 * size(few)[1]
    assert main(["data", "preview", str(stripes), "--images", "0"]) == 2
    assert "images is 0" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------------------------------


def one_class(folder: Path) -> None:
    (folder / "cats").mkdir()
    Image.new("RGB", (40, 40)).save(folder / "cats" / "a.png")


def no_images(folder: Path) -> None:
    (folder / "cats").mkdir()
    (folder / "cats" / "notes.txt").write_text("none here")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "missing/"], ["no folder 'missing'"]),
        (["--data", "digitz"], ["'digitz'", "digits"]),
        (["--data", "tf_flower"], ["'tf_flower'", "tf_flowers"]),
        (["--data", "{tmp}", "--prepare", "one_class"], ["single class", "'cats'"]),
        (["--data", "{tmp}", "--prepare", "no_images"], ["no images"]),
        (["--data", "digits", "--architecture", "goglenet"], ["'goglenet'", "googlenet"]),
        (["--data", "digits", "--batch-size", "0"], ["training.batch_size is 0"]),
        (["--data", "digits", "--batch-size", "5000"], ["5000", "1259"]),
        (["--data", "digits", "--set", "training.epocs=3"], ["training.epocs", "training.epochs"]),
        (["--data", "digits", "--set", "training.epochs"], ["section.field=value"]),
        (["--data", "digits", "--image-size", "16", "--architecture", "googlenet-small"], ["16×16", "17×17"]),
        (["--data", "digits", "--precision", "float8"], ["training.precision", "'float8'", "mixed_bfloat16"]),
        (["--data", "digits", "--devices", "gpu:7"], ["gpu:7"]),
        (["--data", "digits", "--devices", "tpu"], ["'tpu'"]),
        (["--data", "digits", "--width", "0"], ["width"]),
        (["--config", "missing.json"], ["'missing.json'"]),
        ([], ["no data"]),
    ],
)
def test_a_wrong_word_ends_in_one_line_and_writes_nothing(words, said, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    if "--prepare" in words:
        {"one_class": one_class, "no_images": no_images}[words[-1]](folder)
        words = words[:-2]
    run_dir = tmp_path / "new-run"
    words = [word.format(tmp=folder) for word in words]
    assert main(["train", "--run-dir", str(run_dir), *words]) == 2
    said_really = capsys.readouterr().err
    assert said_really.startswith("keras-inception: ")
    assert said_really.count("\n") == 1
    for part in said:
        assert part in said_really
    assert not run_dir.exists()


def test_an_error_is_the_only_line_on_stderr_of_a_real_process(tmp_path, stripes):
    done = command("train", "--data", str(stripes), "--run-dir", str(tmp_path / "r"), "--batch-size", "1000")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "keras-inception: training.batch_size is 1000, larger than the 56 training images; lower it"
    ]


@pytest.mark.parametrize("backend", ["jax", "nonsense"])
def test_another_backend_of_keras_ends_in_one_line_installed_or_not(backend, tmp_path):
    words = ("--data", "digits", "--run-dir", str(tmp_path / "r"))
    done = command("train", *words, env={**os.environ, "KERAS_BACKEND": backend})
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"keras-inception: Keras runs on {backend!r}; training and export need KERAS_BACKEND=tensorflow"
    ]


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_backend_of_the_settings_of_keras_ends_in_one_line_installed_or_not(backend, tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": backend}))
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    words = ("--data", "digits", "--run-dir", str(tmp_path / "r"))
    done = command("train", *words, env={**environment, "KERAS_HOME": str(tmp_path)})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("keras-inception: Keras ")
    assert line.endswith("KERAS_BACKEND=tensorflow")


@pytest.mark.parametrize("words", [("data", "check"), ("runs",)])
def test_what_the_file_system_refuses_ends_in_one_line(words, capsys):
    name = 300 * "a"  # of which file systems take 255
    assert main([*words, name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("keras-inception: ")
    assert name in line


def test_an_existing_run_is_refused_unless_asked(run, stripes, tiny, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main(["train", "--data", str(stripes), "--run-dir", str(run), *tiny]) == 2
    assert "--resume" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_predict_refuses_what_is_no_image_and_says_why(run, tmp_path, capsys):
    fake = tmp_path / "fake.jpg"
    fake.write_text("not an image")
    assert main(["predict", str(run), str(fake)]) == 2
    assert str(fake) in capsys.readouterr().err
    assert main(["predict", str(run), str(tmp_path / "missing.jpg")]) == 2
    assert "missing.jpg" in capsys.readouterr().err
    assert main(["predict", str(run), str(fake), "--top", "0"]) == 2
    assert "top is 0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["evaluate", "export", "predict"])
def test_a_folder_that_is_no_run_is_refused(name, tmp_path, capsys):
    words = ["photo.jpg"] if name == "predict" else []
    assert main([name, str(tmp_path / "missing"), *words]) == 2
    assert "no run folder" in capsys.readouterr().err
    assert main([name, str(tmp_path), *words]) == 2
    assert "holds no run" in capsys.readouterr().err
