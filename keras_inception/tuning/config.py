"""What a search is: frozen values that are checked when they are made and written beside its results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

from keras_inception.budget import Budget
from keras_inception.config import STRICT, Count, RunConfig, first_of
from keras_inception.errors import ConfigError
from keras_inception.tuning.space import Point, Sharing, Space

#: Who proposes what is tried next: keras-tuner's, and evolution over the front.
OracleName = Literal["evolution", "bayesian", "hyperband", "random"]

#: What can be searched beside widths.
Searched = Literal["depth", "dropout", "head_weight", "learning_rate", "size"]

# What a network that inherits its weights has no say in.
_FROM_SCRATCH = ("depth", "dropout", "head_weight", "learning_rate")


@dataclass(frozen=True, config=STRICT)
class SearchConfig:
    """A whole search."""

    run: RunConfig = RunConfig()  # the given network, its data, and the recipe of trainings; training.epochs per trial
    budget: str = "multiply_adds=0.5x"  # as Budget.parse reads it
    oracle: OracleName = "evolution"
    trials: Count = 60
    sharing: Sharing = "branch_of_stage"  # which widths have a multiple in common
    search: tuple[Searched, ...] = ()  # what else is searched
    # Whether every trial is trained by itself; else all take their weights from one network that is trained once.
    from_scratch: bool = False
    supernet_epochs: Count = 20  # of that network
    # How many of the best are trained from scratch over three seeds, beside the given widths and uniform ones.
    finalists: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        Budget.parse(self.budget)
        if "head_weight" in self.search and self.from_scratch and not self.run.model.heads:
            raise ConfigError(
                "head_weight is searched, and the networks have no auxiliary heads; give model.auxiliary=true and an "
                "architecture with heads, or leave head_weight out of --search"
            )
        if not self.from_scratch:
            for name in self.search:
                if name in _FROM_SCRATCH:
                    raise ConfigError(
                        f"{name} is searched; trials that inherit their weights have the given one: add --from-scratch"
                    )
            if self.oracle == "hyperband":
                raise ConfigError(
                    "hyperband gives good trials more epochs; trials that inherit their weights need "
                    "none: add --from-scratch or take another --oracle"
                )

    def space(self) -> Space:
        """Return what is searched; with a latency, which no arithmetic tells, sizes too."""
        searched: dict[str, Any] = dict.fromkeys(self.search, True)
        if Budget.parse(self.budget).quantity == "latency":
            searched["size"] = True
        return Space(self.run.model.table(), self.sharing, **searched)

    def trained(self, table: Path, point: Point, changes: Mapping[str, Any]) -> RunConfig:
        """Return the configuration of a training of another network, by the recipe of the search.

        Args:
            table: The file of its architecture.
            point: What it is, with what was searched beside the architecture.
            changes: More of them, as `RunConfig.override` takes them.
        """
        from keras_inception.training.session import resolved

        searched: dict[str, Any] = {}
        rate, main = resolved(self.run).training.learning_rate, self.run.training.loss_weights[0]
        if rate is not None and point.rate_factor != 1:
            searched["training.learning_rate"] = rate * point.rate_factor
        if point.head_weight is not None:
            searched["training.loss_weights"] = (main, point.head_weight, point.head_weight)
        return self.run.with_table(table).override({**searched, **changes})

    def to_json(self) -> str:
        """Return the configuration as JSON text that `from_json` reads back to an equal value."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> "SearchConfig":
        """Return the configuration that `to_json` wrote.

        Raises:
            ConfigError: The text is no JSON, or a field is missing, unknown or out of range.
        """
        try:
            return checked(json.loads(text))
        except json.JSONDecodeError as error:
            raise ConfigError(f"a search.json must be JSON text: {error}") from None


_ADAPTER = pydantic.TypeAdapter(SearchConfig)


def checked(value: Any) -> SearchConfig:
    """Return a configuration from a dictionary.

    Raises:
        ConfigError: A field is unknown or out of range.
    """
    try:
        return _ADAPTER.validate_python(value)
    except pydantic.ValidationError as error:
        raise first_of(error) from None
