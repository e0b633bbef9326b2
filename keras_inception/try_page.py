"""A page in the browser to try models on: an image goes in, what each model says of it comes out, side by side."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_inception.card import Card, kind_of, read_card
from keras_inception.data.decode import decode
from keras_inception.errors import DataError, RunError, imported
from keras_inception.predictor import Predictor, keras_predictor, open_model, preparation, run_model
from keras_inception.run_folder import RunFolder

_LOG = logging.getLogger(__name__)

# Images of the gallery, and how many labels are shown of an answer.
_EXAMPLES, _TOP = 12, 5
# Least side of a shown Grad-CAM, px.
_SHOWN = 360
_KINDS = {
    "run": "Keras",
    "keras": "Keras",
    "saved_model": "SavedModel, TensorFlow",
    "tflite": "TFLite, LiteRT",
    "onnx": "ONNX Runtime",
    "published": "Keras",
}
_STYLE = "footer {display: none !important}"


@dataclass(frozen=True)
class Candidate:
    """A model of the page.

    Args:
        name: What it is called there.
        card: Its labels and preprocessing.
        predictor: What answers.
        network: The Keras model of a run, for Grad-CAM; None for a file.
        rows: Names of its Inception rows.
    """

    name: str
    card: Card
    predictor: Predictor
    network: Any = None
    rows: tuple[str, ...] = ()

    def answer(self, pixels: np.ndarray) -> tuple[dict[str, float], float]:
        """Return the probability of every label for an image, uint8 of any size, and how many ms the network took."""
        image = preparation(self.predictor.kind)(pixels, self.card.data)[None]
        start = time.perf_counter()
        probabilities = self.predictor.probabilities(image)[0]
        milliseconds = 1000 * (time.perf_counter() - start)
        return dict(zip(self.card.labels, map(float, probabilities), strict=True)), milliseconds

    def looked_at(self, pixels: np.ndarray, row: str) -> np.ndarray:
        """Return the image, uint8 `(size, size, 3)`, with what spoke for the answer at an Inception row over it."""
        from keras_inception.analysis.gradcam import gradcam, overlaid
        from keras_inception.data.sizing import square

        image = preparation(self.predictor.kind)(pixels, self.card.data)[None]
        label = self.predictor.probabilities(image).argmax(axis=1)
        (heat,) = gradcam(self.network, image, row, label)
        seen = square(pixels, self.card.data)
        times = -(-_SHOWN // len(seen))  # a small one is enlarged, each pixel as a square
        return overlaid(seen.repeat(times, axis=0).repeat(times, axis=1), heat)


def open_candidates(paths: Sequence[str | Path]) -> list[Candidate]:
    """Open runs and exported files to be tried beside each other.

    Raises:
        RunError: There is none, or one is neither.
    """
    if not paths:
        raise RunError("no model given; give the folder of a run, files that export wrote, or imagenet")
    found = []
    for path in map(Path, paths):
        card = read_card(path)
        name = path.name if kind_of(path) in ("run", "published") else f"{path.parent.name}/{path.name}"
        if kind_of(path) == "run":
            from keras_inception.analysis.gradcam import inception_rows

            folder = RunFolder(path)
            network = run_model(folder)
            rows = tuple(inception_rows(folder.architecture()))
            candidate = Candidate(name, card, keras_predictor(network), network, rows)
        else:
            candidate = Candidate(name, card, open_model(path))
        side = card.data.image_size or 1
        candidate.answer(np.zeros((side, side, card.data.channels), np.uint8))  # the first answer takes longer
        found.append(candidate)
    return found


def examples(candidates: Sequence[Candidate], folder: Path) -> list[tuple[str, str]]:
    """Write some test images of the first run as PNG; return their files and the truth. A file knows no images."""
    from keras_inception.data.dataset import TEST
    from keras_inception.data.sources import load_dataset

    runs = [candidate for candidate in candidates if kind_of(candidate.card.path) == "run"]
    if not runs:
        return []
    card = runs[0].card
    try:
        part = load_dataset(card.data).splits[TEST].spread(_EXAMPLES)
        written = []
        for place in range(len(part)):
            path = folder / f"{place:02}.png"
            pixels = part.read(place, card.data.channels)
            Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
            written.append((str(path), card.labels[part.labels[place]]))
        return written
    except DataError as error:
        _LOG.warning("the page shows no test images: %s", error)
        return []


def build_page(candidates: Sequence[Candidate], shown: Sequence[tuple[str, str]]) -> Any:
    """Return the page, a `gradio.Blocks`.

    Args:
        candidates: The models.
        shown: Files of example images, and the truth about each.

    Raises:
        RunError: Gradio is not installed.
    """
    gr = _gradio()
    looking = next((candidate for candidate in candidates if candidate.rows), None)
    with gr.Blocks(title="keras_inception: try", analytics_enabled=False) as page:
        gr.Markdown("# What do they say?" if len(candidates) > 1 else f"# What does {candidates[0].name} say?")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                image = _upload(gr)
                said = gr.Markdown("", elem_id="said")
                if shown:
                    gallery = gr.Gallery(
                        list(shown), label="Test images, and what they are", columns=2, allow_preview=False, buttons=[]
                    )

                    def chosen(event: gr.SelectData) -> str:  # type: ignore[name-defined]  # gr is a variable
                        return shown[event.index][0]

                    gallery.select(chosen, None, image)
            with gr.Column(scale=2, min_width=280):
                with gr.Row():
                    answers = [_answer(gr, candidate) for candidate in candidates]
                if looking is None:
                    gr.Markdown("Where a network looked (Grad-CAM) needs the Keras model: give the run's folder too.")
                    row, views = gr.State(None), []
                else:
                    row = gr.Dropdown(list(looking.rows), value=looking.rows[-1], label="Grad-CAM at Inception row")
                    views = [
                        gr.Image(
                            label=f"What spoke for {looking.name}'s answer", interactive=False, buttons=[], height=360
                        )
                    ]

        wanted = {candidate.card.data.channels for candidate in candidates}

        def respond(path: str | None, row: str | None) -> list[Any]:
            empty = [None, ""] * len(candidates) + [None] * len(views)
            if path is None:
                return ["", *empty]
            try:
                content = Path(path).read_bytes()
                pixels = {channels: decode(content, channels) for channels in wanted}
            except DataError as error:
                return [f"**{error}**", *empty]
            given: list[Any] = []
            for candidate in candidates:
                probabilities, milliseconds = candidate.answer(pixels[candidate.card.data.channels])
                given += [probabilities, f"{milliseconds:.1f} ms"]
            if looking is not None and row is not None:
                given.append(looking.looked_at(pixels[looking.card.data.channels], row))
            return ["", *given]

        changes = [image.change, *([row.change] if views else [])]
        outputs = [said, *(part for answer in answers for part in answer), *views]
        gr.on(changes, respond, [image, row], outputs, api_name="answer")
    return page


def serve(
    paths: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_upload_mb: float = 20,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Open models and serve the page until it is stopped; nothing is shared or sent anywhere.

    Args:
        paths: Runs and exported files.
        host: The address to listen on; "0.0.0.0" for all of the machine's.
        port: The port; 0 takes a free one.
        max_upload_mb: Largest file that is taken.
        on_ready: Called with the page's address.

    Raises:
        RunError: A model is missing, Gradio is not installed, or the port is taken.
    """
    gr = _gradio()
    candidates = open_candidates(paths)
    with tempfile.TemporaryDirectory() as folder:
        page = build_page(candidates, examples(candidates, Path(folder)))
        try:
            page.launch(
                server_name=host,
                server_port=port or None,
                share=False,
                quiet=True,
                max_file_size=int(max_upload_mb * 1e6),
                allowed_paths=[folder],
                theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # no font is fetched
                css=_STYLE,
                footer_links=[],
                ssr_mode=False,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise RunError(f"port {port} of {host} cannot be listened on ({error}); give --port another") from None
        on_ready(page.local_url)
        page.block_thread()


def _gradio() -> Any:
    """Import Gradio, which then tells nobody that it was."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    return imported("gradio", "try")


def _upload(gr: Any) -> Any:
    """Return the place where an image is put in: it hands over the file as it came, to be decoded as in `predict`."""
    image = gr.Image(
        type="filepath", sources=["upload", "webcam", "clipboard"], label="Image", height=320, elem_id="image"
    )
    # Not by a subclass: Gradio would write a file of types beside this one.
    image.preprocess = lambda payload: None if payload is None else payload.path
    return image


def _answer(gr: Any, candidate: Candidate) -> tuple[Any, Any]:
    """Return where an answer is shown, and how long it took."""
    with gr.Column(min_width=220):
        kind = _KINDS[candidate.predictor.kind]
        return gr.Label(num_top_classes=_TOP, label=f"{candidate.name} ({kind})"), gr.Markdown("")
