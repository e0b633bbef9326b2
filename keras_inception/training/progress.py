"""What a person sees while a run trains: a live line on a terminal, a plain line per epoch elsewhere."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Images per second since the run began, validation included."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['rate']:.0f} images/s")


class TrainingProgress(keras.callbacks.Callback):
    """Show epoch, step, loss, top-1, images per second and the time left.

    Args:
        console: Where to write.
        steps: Steps per epoch.
        batch_size: Images per step.
        first_epoch: The epoch a resumed run begins with.
    """

    def __init__(self, console: Console, steps: int, batch_size: int, first_epoch: int = 0):
        super().__init__()
        self._console = console
        self._steps = steps
        self._batch_size = batch_size
        self._first_epoch = first_epoch
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("step {task.fields[step]}"),
            TextColumn("{task.fields[result]}"),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )

    def on_train_begin(self, logs=None):
        epochs = self.params["epochs"]
        self._begun = time.monotonic()
        self._seen = 0
        self._progress.start()
        self._task = self._progress.add_task(
            "",
            total=(epochs - self._first_epoch) * self._steps,
            epoch=f"{self._first_epoch + 1}/{epochs}",
            step=f"0/{self._steps}",
            result="tracing the graph",
            rate=0.0,
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_begun = time.monotonic()
        self._progress.update(self._task, epoch=f"{epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch, logs=None):
        self._seen += self._batch_size
        self._progress.update(
            self._task,
            advance=1,
            step=f"{batch + 1}/{self._steps}",
            result=f"loss {logs['loss']:.3f}  top-1 {_top1(logs):.1%}",
            rate=self._seen / (time.monotonic() - self._begun),
        )

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.monotonic() - self._epoch_begun
        self._console.print(
            f"epoch {epoch + 1}/{self.params['epochs']}: loss {logs['loss']:.4f}, top-1 {_top1(logs):.1%}; "
            f"validation loss {logs['val_loss']:.4f}, top-1 {_top1(logs, 'val_'):.1%}; "
            f"{self._steps * self._batch_size / seconds:.0f} images/s, {seconds:.0f} s",
            highlight=False,
        )

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Give the terminal back; called at the end, and after an error."""
        self._progress.stop()


def _top1(logs: dict[str, float], prefix: str = "") -> float:
    return logs[f"{prefix}main_top1"]
