"""What a search shows: a table on a terminal, lines elsewhere."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from keras_inception.cli.search_table import SearchTable
from keras_inception.tuning.front import Trial, interval


@pytest.fixture
def told():
    """What a search of three trials says, one of which fails."""

    def tell(table):
        table.on_event("images", {"images": 4, "of": 100})
        table.on_event("epoch", {"epoch": 1, "epochs": 8, "loss": 2.3})
        trials = []
        for number in range(3):
            trial = Trial(number, {}, 12_345_678, 100, {"3": 0.7, "4": 0.8})
            table.on_event("begun", {"trial": trial, "trials": [*trials, trial]})
            if number == 1:
                trial = replace(trial, state="failed", message="its process was killed, as Linux does", seconds=3.2)
            else:
                right = 70 + number
                trial = replace(trial, state="scored", top1=right / 100, interval=interval(right, 100), seconds=2.0)
            trials = [*trials, trial]
            table.on_event("ended", {"trial": trial, "trials": trials})
        table.on_event("doing", {"what": "training given from scratch, seed 1"})

    return tell


def shown(told, minutes=None, **options):
    out = io.StringIO()
    with SearchTable(Console(file=out, width=80, **options), wanted=10, minutes=minutes) as table:
        told(table)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_a_terminal_keeps_a_table_of_the_trials(told):
    rows = [line.split() for line in shown(told, force_terminal=True).splitlines()[-4:-1]]
    assert rows[0] == ["0", "0.70x", "0.80x", "12.3M", "70.0", "60.4–78.1", "2.0", "scored"]
    assert rows[1][:6] == ["1", "0.70x", "0.80x", "12.3M", "3.2", "failed:"]
    assert rows[2][4] == "72.0"


def test_elsewhere_there_is_a_line_for_every_epoch_and_trial(told):
    lines = shown(told).splitlines()
    assert lines[0] == "the shared network: epoch 1 of 8, loss 2.3000"
    assert lines[1].startswith(
        "trial 0: top-1 70.0%, widths 3 0.70x, 4 0.80x, 2.0 s; 1 of 10 trials, best 70.0% (trial"
    )
    assert lines[2].startswith("trial 1 failed: its process was killed, as Linux does; 2 of 10 trials")
    assert lines[3].startswith("trial 2: top-1 72.0%")
    assert re.search(r"\d+ min \d+ s left", lines[3])
    assert lines[4] == "training given from scratch, seed 1"


@pytest.mark.parametrize(("minutes", "left"), [(None, "18"), (0.1, "6"), (0, "0")])
def test_no_more_time_is_left_than_is_given(minutes, left, told):
    assert f", 0 min {left} s left" in shown(told, minutes).splitlines()[1]
