"""How often a state is saved: the words of the command line, and the steps at which it is due."""

import pytest
from hypothesis import given, strategies as st

from keras_inception.errors import ConfigError
from keras_inception.training.keeper import SaveEvery


@given(st.integers(1, 10**6))
def test_a_number_is_steps_and_with_a_unit_it_is_time(number):
    assert SaveEvery.parse(str(number)) == SaveEvery(steps=number)
    for unit, seconds in (("s", 1), ("m", 60), ("h", 3600)):
        assert SaveEvery.parse(f"{number}{unit}") == SaveEvery(seconds=number * seconds)


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "1.5h", "10 m", "m", "10d", "1h30m", "5\n"])
def test_anything_else_is_refused_with_its_value_and_the_forms(text):
    with pytest.raises(ConfigError, match=r"it takes steps, as in 500, or a time: 90s, 10m, 1h") as raised:
        SaveEvery.parse(text)
    assert repr(text) in str(raised.value)
