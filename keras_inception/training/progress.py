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
        first_step: The step of that epoch it begins with.
    """

    def __init__(self, console: Console, steps: int, batch_size: int, first_epoch: int = 0, first_step: int = 0):
        super().__init__()
        self._console = console
        self._steps = steps
        self._batch_size = batch_size
        self._first_epoch = first_epoch
        self._first_step = first_step
        self._begun = 0.0
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
        if self._begun:  # every epoch is a fit of its own
            return
        epochs = self.params["epochs"]
        self._seen = 0
        self._begun = time.monotonic()
        self._progress.start()
        self._task = self._progress.add_task(
            "",
            total=(epochs - self._first_epoch) * self._steps - self._first_step,
            epoch=f"{self._first_epoch + 1}/{epochs}",
            step=f"{self._first_step}/{self._steps}",
            result="tracing the graph",
            rate=0.0,
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_begun = time.monotonic()
        self._done = self._first_step if epoch == self._first_epoch else 0
        self._progress.update(self._task, epoch=f"{epoch + 1}/{self.params['epochs']}")

    def on_train_batch_end(self, batch, logs=None):
        before, self._done = self._done, min(self._done + self.model.steps_per_execution, self._steps)
        self._seen += (self._done - before) * self._batch_size
        self._progress.update(
            self._task,
            advance=self._done - before,
            step=f"{self._done}/{self._steps}",
            result=f"loss {logs['loss']:.3f}  top-1 {_top1(logs):.1%}",
            rate=self._seen / (time.monotonic() - self._begun),
        )

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.monotonic() - self._epoch_begun
        self._console.print(
            f"epoch {epoch + 1}/{self.params['epochs']}: loss {logs['loss']:.4f}, top-1 {_top1(logs):.1%}; "
            f"validation loss {logs['val_loss']:.4f}, top-1 {_top1(logs, 'val_'):.1%}; "
            f"{self._trained(epoch) * self._batch_size / seconds:.0f} images/s, {seconds:.0f} s",
            highlight=False,
        )

    def close(self):
        """Give the terminal back; called at the end, and after an error."""
        self._progress.stop()

    def _trained(self, epoch: int) -> int:
        return self._steps - (self._first_step if epoch == self._first_epoch else 0)


def _top1(logs: dict[str, float], prefix: str = "") -> float:
    return logs[f"{prefix}main_top1"]
