"""Tensors out of torch's files, without torch and without running anything that they name."""

import collections
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from checkpoints import Call, Global, Storage, pickled, tensor, write_legacy, write_pth, write_zip

from keras_inception.errors import WeightsError
from keras_inception.weights.pytorch_file import read_state_dict

VALUES = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.asarray([1.5, -2], np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def refused(path, match):
    with pytest.raises(WeightsError, match=match) as error:
        read_state_dict(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_what_was_written(legacy, tmp_path):
    write_pth(tmp_path / "file.pth", VALUES, legacy=legacy)
    found = read_state_dict(tmp_path / "file.pth")
    assert list(found) == list(VALUES)
    for name, value in VALUES.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_all_types_of_numbers_are_read(tmp_path):
    values = {name: np.asarray([1.5, -2, 0.25]).astype(name) for name in ("f8", "f4", "f2")} | {"i8": np.asarray(7)}
    write_pth(tmp_path / "file.pth", values)
    found = read_state_dict(tmp_path / "file.pth")
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)
    assert found["i8"].shape == ()


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path):
    half = np.asarray([0x3FC0, 0xC000, 0x7F80], np.uint16)  # 1.5, −2, infinity
    write_zip(tmp_path / "file.pth", {"x": tensor(half, "0", bfloat16=True)}, {"0": half.tobytes()})
    np.testing.assert_array_equal(read_state_dict(tmp_path / "file.pth")["x"], np.float32([1.5, -2, np.inf]))


def test_views_and_shared_storages_are_read(tmp_path):
    block = np.arange(12, dtype=np.float32)
    rebuild, storage = Global("torch._utils", "_rebuild_tensor_v2"), Storage("FloatStorage", "0", 12)
    content = {
        "transposed": Call(rebuild, storage, 0, (4, 3), (1, 4), False, collections.OrderedDict()),
        "end": Call(rebuild, storage, 9, (3,), (1,), False, collections.OrderedDict()),
    }
    write_zip(tmp_path / "file.pth", content, {"0": block.tobytes()})
    found = read_state_dict(tmp_path / "file.pth")
    np.testing.assert_array_equal(found["transposed"], block.reshape(3, 4).T)
    np.testing.assert_array_equal(found["end"], block[9:])


# ---------------------------------------------------------------------------------------------------------------------
# Files that want more than tensors
# ---------------------------------------------------------------------------------------------------------------------

CALLS = {
    "os.system": lambda target: Call(Global("os", "system"), f"touch {target}"),
    "posix.system": lambda target: Call(Global("posix", "system"), f"touch {target}"),
    "builtins.exec": lambda target: Call(Global("builtins", "exec"), f"open({str(target)!r}, 'w')"),
    "builtins.getattr": lambda target: Call(Global("builtins", "getattr"), Global("collections", "OrderedDict"), "x"),
    "torch.load": lambda target: Call(Global("torch", "load"), str(target)),
    "collections.OrderedDict.__init__": lambda target: Call(Global("collections", "OrderedDict.__init__")),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_a_file_that_would_run_code_is_refused_and_does_not(name, legacy, tmp_path):
    target = tmp_path / "it ran".replace(" ", "_")
    content = {"weight": CALLS[name](target)}
    (write_legacy if legacy else write_zip)(tmp_path / "file.pth", content, {})
    refused(tmp_path / "file.pth", f"names {name}, which is no part of a tensor")
    assert not target.exists()


def test_the_same_file_runs_its_code_in_pickle(tmp_path):
    """What the test above refuses is a working attack."""
    target = tmp_path / "it_ran"
    (tmp_path / "file.pkl").write_bytes(pickled(CALLS["os.system"](target)))
    code = f"import pickle; pickle.load(open({str(tmp_path / 'file.pkl')!r}, 'rb'))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert target.exists()


def test_what_python_pickles_of_an_object_with_reduce_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it_ran"),)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with zipfile.ZipFile(tmp_path / "file.pth", "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"x": Attack()}, protocol))
        refused(tmp_path / "file.pth", "mkdir, which is no part of a tensor")
    assert not (tmp_path / "it_ran").exists()


def test_a_name_that_is_known_cannot_be_changed_by_a_file(tmp_path):
    """BUILD sets attributes of what was imported: there is nothing to set."""
    target = pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"
    state = pickle.NONE + pickle.EMPTY_DICT + pickled("x")[2:-1] + pickled(1)[2:-1] + pickle.SETITEM + pickle.TUPLE2
    with zipfile.ZipFile(tmp_path / "file.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.PROTO + b"\x02" + target + state + pickle.BUILD + pickle.STOP)
    refused(tmp_path / "file.pth", "damaged")


def test_a_whole_module_is_refused_with_the_reason(tmp_path):
    module = Call(Global("torchvision.models.googlenet", "GoogLeNet"))
    write_zip(tmp_path / "file.pth", module, {})
    refused(tmp_path / "file.pth", r"whole pickled module \(torchvision.*save model\.state_dict\(\)")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1, 2], "holds a list and no state dict"),
        (tensor(np.zeros(2, np.float32), "0"), "holds a tensor and no state dict"),
        ({"epoch": 3}, "holds a int under 'epoch'"),
        ({"state_dict": {}}, "holds a dict under 'state_dict'.*save model"),
        ({"x": Call(Global("torch._utils", "_rebuild_tensor_v2"), 1, 2, 3, 4)}, "damaged"),
        ({"x": Call(Global("torch._utils", "_rebuild_tensor_v2"))}, "damaged"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(content, match, tmp_path):
    write_zip(tmp_path / "file.pth", content, {"0": bytes(8)})
    refused(tmp_path / "file.pth", match)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((3,), (1,), 0), ((2,), (1,), 1), ((2,), (2,), 0), ((2,), (-1,), 0), ((1,), (1,), -1), ((10**9,), (0,), 0)],
)
def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(shape, strides, offset, tmp_path):
    made = Call(Global("torch._utils", "_rebuild_tensor_v2"), Storage("FloatStorage", "0", 2), offset, shape, strides)
    write_zip(tmp_path / "file.pth", {"x": made}, {"0": bytes(8)})
    refused(tmp_path / "file.pth", "damaged|ends before")


def test_a_storage_of_another_length_than_it_says_is_refused(tmp_path):
    write_zip(tmp_path / "file.pth", {"x": tensor(np.zeros(2, np.float32), "0")}, {"0": bytes(4)})
    refused(tmp_path / "file.pth", "ends before")


def test_a_compressed_file_is_refused_for_it_may_be_of_any_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "file.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled({}))
    refused(tmp_path / "file.pth", "compressed")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_file_that_was_cut_off_is_refused(share, legacy, tmp_path):
    path = tmp_path / "file.pth"
    write_pth(path, VALUES, legacy=legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(path, "is no file of torch.save|ends before")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no file .*absent\.pth"):
        read_state_dict(tmp_path / "absent.pth")


def test_reading_needs_no_torch(tmp_path):
    write_pth(tmp_path / "file.pth", VALUES)
    code = (
        "import sys; sys.modules['torch'] = None\nfrom pathlib import Path\n"
        "from keras_inception.weights.pytorch_file import read_state_dict\n"
        f"print(len(read_state_dict(Path({str(tmp_path / 'file.pth')!r}))), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3 False\n"


# ---------------------------------------------------------------------------------------------------------------------
# safetensors
# ---------------------------------------------------------------------------------------------------------------------


def test_a_safetensors_file_is_read(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    values = VALUES | {"half": np.asarray([1.5, 2], np.float16), "count": np.asarray(7)}
    numpy.save_file(values, tmp_path / "file.safetensors")
    found = read_state_dict(tmp_path / "file.safetensors")
    assert found.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "file.safetensors").write_bytes(b"no header")
    refused(tmp_path / "file.safetensors", "is no safetensors file")
