"""The family of errors and the message for a name that does not exist."""

import inspect
import signal
import string

import pytest
from hypothesis import given, settings, strategies as st

from keras_inception import errors

NAMES = ["googlenet", "googlenet-bn", "googlenet-small", "elpv", "digits"]
KINDS = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_of_the_one_family(kind):
    assert issubclass(kind, errors.InceptionError)


# Nobody's input is bad where these are raised.
OF_THE_WORK = (
    errors.InceptionError,
    errors.ExportError,
    errors.TrainingError,
    errors.DivergedError,
    errors.StoppedError,
)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in OF_THE_WORK])
def test_bad_input_is_a_value_error_and_exits_with_2(kind):
    assert issubclass(kind, ValueError)
    assert kind("x").exit_status == 2


@pytest.mark.parametrize("kind", [errors.ExportError, errors.TrainingError, errors.DivergedError])
def test_work_that_fails_exits_with_1(kind):
    assert kind("x").exit_status == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_exits_as_a_shell_reports_the_signal(number, status):
    assert errors.StoppedError("x", number).exit_status == status


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([name for name in NAMES if len(name) > 4]), st.data())
def test_a_name_with_one_letter_wrong_is_suggested(name, data):
    place = data.draw(st.integers(0, len(name) - 1))
    typo = name[:place] + data.draw(st.sampled_from(string.ascii_uppercase)) + name[place + 1 :]
    message = errors.unknown("name", typo, NAMES)
    assert message.startswith(f"unknown name {typo!r}; did you mean ")
    assert name in message.split("did you mean ")[1].rstrip("?").split(" or ")


def test_a_name_near_to_none_lists_all():
    assert errors.unknown("source", "zzz", NAMES) == f"unknown source 'zzz'; known: {', '.join(sorted(NAMES))}"


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_the_message_is_one_line_whatever_was_typed(text):
    assert len(errors.unknown("name", text, NAMES).splitlines()) == 1


def test_known_names_may_come_from_an_iterator():
    assert "did you mean nin?" in errors.unknown("name", "nim", iter(["nin", "vgg"]))
