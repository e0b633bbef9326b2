"""The networks of a search: what values stand for, what that costs, and what a latency allows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_inception.architecture import Architecture, MlpConv
from keras_inception.budget import Budget, Fitting, cost
from keras_inception.data.dataset import TRAIN
from keras_inception.data.sources import load_dataset
from keras_inception.errors import ArchitectureError, ConfigError
from keras_inception.training.session import check_batch
from keras_inception.tuning.config import SearchConfig
from keras_inception.tuning.finalists import Contender
from keras_inception.tuning.front import GIVEN, Trial
from keras_inception.tuning.latency import latencies
from keras_inception.tuning.space import Point

# Costs that differ by less than a hundredth of the budget are equal to evolution.
_EQUAL = 2
# The given widths are timed at these shares of their multiply-adds, to find what a latency allows.
_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
# Trial 0 takes this share of the multiply-adds that a search for a latency may use: some networks are faster than it.
_UNIFORM = 0.8


class Networks:
    """What values stand for in a search, and what it costs.

    Args:
        config: The search.

    Raises:
        ArchitectureError, ConfigError, DataError: As their messages say.
    """

    def __init__(self, config: SearchConfig):
        self.given, self.space = config.run.model.table(), config.space()
        side = config.run.data.image_size or self.given.image_size
        self.given.check_image(side, side, auxiliary=config.from_scratch and config.run.model.heads)
        mlpconv = [row.name for row in self.given.rows if isinstance(row, MlpConv)]
        if mlpconv and not config.from_scratch:
            raise ArchitectureError(
                f"row {mlpconv[0]!r} of {self.given.name!r} is an mlpconv layer, of which no weights are "
                f"inherited; give --from-scratch"
            )
        self._shape = (side, side, config.run.data.channels)
        dataset = load_dataset(config.run.data)
        self._classes = len(dataset.classes)
        check_batch(config.run.training.batch_size, len(dataset.splits[TRAIN]))
        self.budget = Budget.parse(config.budget)
        if self.budget.quantity != "latency":
            self.fit_to(self.budget)

    def fit_to(self, budget: Budget) -> None:
        """Fit every network to a budget from now on; of a latency, to the multiply-adds that it allows."""
        self._fit = Fitting(self.given, budget, self._shape, self._classes)

    def uniform(self, size: float | None = None) -> dict[str, float]:
        """Return the values that stand for the given widths scaled alike to the budget.

        Args:
            size: Share of it that is used up, where sizes are searched; by default what trial 0 takes.
        """
        values = self.space.defaults()
        if size is None and self.budget.quantity == "latency":
            size = _UNIFORM
        return values if size is None else values | {"size": size}

    def point(self, values: Mapping[str, float]) -> Point:
        """Return what values stand for."""
        return self.space.point(values, self._fit)

    def table(self, values: Mapping[str, float]) -> Architecture:
        """Return the architecture that values stand for."""
        return self.point(values).architecture

    def share(self, values: Mapping[str, float]) -> float:
        """Return what a network costs, as a share of the budget."""
        return round(self._fit.cost(self.table(values)) / self._fit.limit, _EQUAL)

    def trial(self, number: int, values: Mapping[str, float]) -> Trial:
        """Return a trial that has not been scored."""
        chosen = self.space.nearest(values)
        return self._trial(number, chosen, self.table(chosen))

    def given_trial(self) -> Trial:
        """Return the given network at its own cost."""
        return self._trial(GIVEN, {}, self.given)

    def contender(self, name: str, values: Mapping[str, float] | None) -> Contender:
        """Return a network to be trained from scratch; without values it is the given one at its own cost."""
        point = Point(self.given) if values is None else self.point(values)
        return Contender(name, point, *self._costs(point.architecture))

    def timed(self, trials: list[Trial]) -> list[Trial]:
        """Return trials with what they take as TFLite files, measured side by side."""
        tables = [self.given if trial.number == GIVEN else self.table(trial.values) for trial in trials]
        times = latencies(tables, self._shape, self._classes)
        return [replace(trial, latency_ms=ms) for trial, ms in zip(trials, times, strict=True)]

    def calibrated(self) -> dict[str, Any]:
        """Measure what the latency of the budget allows.

        Returns:
            `given_ms`, the given network's; `limit_ms`, the budget; `multiply_adds`, what a search may use; `uniform`,
            of the given widths at the shares of their multiply-adds, `share` and `ms`.

        Raises:
            ConfigError: The smallest of them takes longer.
        """
        fits = [Fitting(self.given, Budget("multiply_adds", s, True), self._shape, self._classes) for s in _SHARES]
        times = latencies([fit(self.given) for fit in fits], self._shape, self._classes)
        limit = self.budget.limit(times[-1])
        if limit < times[0]:
            raise ConfigError(
                f"the budget is {self.budget}, which is {limit:.3g} ms; {self.given.name!r} at a tenth of its "
                f"multiply-adds takes {times[0]:.3g} ms here: give a larger one"
            )
        # Where noise makes a smaller network slower, the largest of those before.
        share = float(np.interp(limit, np.maximum.accumulate(times), _SHARES))
        return {
            "given_ms": times[-1],
            "limit_ms": limit,
            "multiply_adds": int(fits[-1].limit * share / _UNIFORM),
            "uniform": [{"share": share, "ms": ms} for share, ms in zip(_SHARES, times, strict=True)],
        }

    def _trial(self, number: int, values: Mapping[str, float], table: Architecture) -> Trial:
        return Trial(number, values, *self._costs(table), self.space.shares(table))

    def _costs(self, table: Architecture) -> tuple[int, int]:
        """Return multiply-adds and parameters."""
        shape, classes = self._shape, self._classes
        return cost(table, "multiply_adds", shape, classes), cost(table, "parameters", shape, classes)
