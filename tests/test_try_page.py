"""The page to try models on, in a real browser: good, broken and huge images, the keyboard alone, two widths."""

import shutil
import subprocess
import sys
from typing import get_args
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

from keras_inception import try_page
from keras_inception.card import Kind, read_card
from keras_inception.cli import main
from keras_inception.errors import RunError
from keras_inception.predictor import Predictor
from keras_inception.try_page import Candidate, open_candidates

# What a browser waits for, ms.
PATIENCE = 60_000


def test_no_model_and_a_missing_one_are_named(tmp_path, capsys):
    with pytest.raises(RunError, match="no model given"):
        open_candidates([])
    assert main(["try", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["try", str(run)]) == 2
    assert "pip install 'keras-inception[try]'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_model_has_a_place_on_the_page(kind, run):
    gradio = MagicMock()
    try_page._answer(gradio, Candidate("mine", read_card(run), Predictor(kind, lambda images: images)))
    assert gradio.Label.call_args.kwargs["label"].startswith("mine (")


def test_a_run_answers_and_shows_where_it_looked(run, stripes):
    (candidate,) = open_candidates([run])
    pixels = np.asarray(Image.open(stripes / "lying" / "00.png"))
    probabilities, milliseconds = candidate.answer(pixels)
    assert max(probabilities, key=probabilities.get) == "lying"
    assert milliseconds > 0
    seen = candidate.looked_at(pixels, candidate.rows[-1])
    assert seen.shape[0] == seen.shape[1] >= 360


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    """The page of a run and its TFLite file, served by the command line."""
    pytest.importorskip("gradio", reason="tools/install try")
    folder = shutil.copytree(run, tmp_path_factory.mktemp("tried") / "stripes")
    assert main(["export", str(folder), "--to", "tflite"]) == 0
    words = [str(folder), str(folder / "export" / "model.tflite"), "--port", "0", "--max-upload-mb", "1"]
    command = [sys.executable, "-m", "keras_inception", "try", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(line.split()[0] for line in process.stdout if line.startswith("http"))
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="tools/install browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no browser to drive: Debian has it as chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address, request):
    """A fresh page, 1400 px wide unless told, which must ask nobody else for anything."""
    opened = browser.new_page(viewport={"width": getattr(request, "param", 1400), "height": 900})
    asked = []
    opened.on("request", lambda asking: asked.append(asking.url))
    opened.goto(address)
    opened.wait_for_selector("#image input[type=file]", state="attached", timeout=PATIENCE)
    yield opened
    opened.close()
    elsewhere = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not elsewhere


def put(page, path):
    page.set_input_files("#image input[type=file]", path)


@pytest.mark.slow
@pytest.mark.parametrize("page", [400, 1400], indirect=True)
def test_an_image_is_answered_by_both_models(page, stripes, tmp_path):
    put(page, stripes / "lying" / "00.png")
    page.wait_for_function("document.body.innerText.match(/[0-9] ms/g)?.length == 2", timeout=PATIENCE)
    text = page.inner_text("body")
    assert "stripes (Keras)" in text
    assert "export/model.tflite (TFLite, LiteRT)" in text
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.slow
def test_a_broken_image_gets_a_message_and_the_next_an_answer(page, stripes, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    put(page, tmp_path / "broken.jpg")
    page.wait_for_selector("text=cannot be decoded", timeout=PATIENCE)
    page.click("[aria-label='Remove Image']")
    page.wait_for_selector("#image input[type=file]", state="attached", timeout=PATIENCE)
    put(page, stripes / "lying" / "00.png")
    page.wait_for_selector("text=/[0-9] ms/", timeout=PATIENCE)
    assert "cannot be decoded" not in page.inner_text("body")


@pytest.mark.slow
def test_a_huge_file_is_refused(page, tmp_path):
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2_000_000))
    put(page, tmp_path / "huge.png")
    page.wait_for_selector("text=/exceed the maximum allowed size/", timeout=PATIENCE)


@pytest.mark.slow
def test_the_keyboard_is_enough(page, stripes):
    def focused():
        return page.evaluate("document.activeElement.outerHTML.slice(0, 300)")

    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(focused())
        if "here to upload" in seen[-1]:
            break
    else:
        pytest.fail(f"no key reaches the upload: {seen}")
    with page.expect_file_chooser(timeout=PATIENCE) as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(stripes / "standing" / "03.png")
    page.wait_for_selector("text=/[0-9] ms/", timeout=PATIENCE)
