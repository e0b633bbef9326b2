"""What a run shows for itself while it is trained: metrics, gradient norms, the best network and the last."""

import logging

import keras

from keras_inception.run_folder import RunFolder
from keras_inception.training.model import GRADIENT_NORM, STEP_LOSS
from keras_inception.training.session import Training
from keras_inception.training.watch import stall_message, stalled

_LOG = logging.getLogger(__name__)


class History(keras.callbacks.Callback):
    """After every epoch write the metrics and the best model so far; the last when all have been trained.

    Args:
        job: The training.
        folder: The run's.
        rows: Of the epochs before.
    """

    def __init__(self, job: Training, folder: RunFolder, rows: list[dict[str, float]]):
        super().__init__()
        self._job = job
        self._folder = folder
        self.rows = rows
        if rows:  # what a kill has left behind is taken back
            folder.write_metrics(_without_norms(rows))

    def best(self) -> dict[str, float]:
        """Return the first row with the highest top-1 of the main head on validation."""
        return _without_norms([max(self.rows, key=lambda row: row["val_main_top1"])])[0]

    def last(self) -> dict[str, float]:
        """Return the row of the last epoch."""
        return _without_norms(self.rows[-1:])[0]

    def save_last(self) -> None:
        """Write the model as it is now, with averaged weights and with those that were averaged."""
        plain = self._job.plain_model()
        with self._job.model.averaged():
            self._folder.save_model(plain, self._folder.last_keras)
        if self._job.model.average is not None:
            self._folder.save_model(plain, self._folder.last_raw_keras)

    def on_epoch_end(self, epoch, logs=None):
        unmeasured = (STEP_LOSS, f"val_{STEP_LOSS}", f"val_{GRADIENT_NORM}")
        row = {name: float(value) for name, value in logs.items() if not name.startswith(unmeasured)}
        self.rows.append({"epoch": epoch + 1, "learning_rate": self._job.learning_rate(), **row})
        self._folder.write_metrics(_without_norms(self.rows))
        self._folder.write_gradients(_norms(self.rows))
        plain = self._job.plain_model()
        if self.best()["epoch"] == epoch + 1:
            with self.model.averaged():
                self._folder.save_model(plain, self._folder.best_keras)
        guessing = self._job.guessing_loss()
        for head in stalled(self.rows, list(plain.output), guessing):
            _LOG.warning(stall_message(head, guessing))


def _without_norms(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if not name.startswith(GRADIENT_NORM)} for row in rows]


def _norms(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [
        {"epoch": row["epoch"]}
        | {name.removeprefix(GRADIENT_NORM): row[name] for name in row if name.startswith(GRADIENT_NORM)}
        for row in rows
    ]
