"""Pickles of strangers: what is read of them, and the classic ways to do harm with one."""

import builtins
import datetime
import os
import pickle
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from potentials.data import batch_pickle

LIMIT = 2**22  # Of memory, in bytes: more than any of these pickles may take.


def module_global(module: str, name: str) -> bytes:
    """The instruction that looks a name up."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def text(word: str) -> bytes:
    """The instruction that makes a short text."""
    return pickle.SHORT_BINUNICODE + bytes([len(word)]) + word.encode()


def whole(value: int) -> bytes:
    """The instruction that makes a whole number of 32 bits."""
    return pickle.BININT + struct.pack("<i", value)


def dtype(name: str, state: bytes = b"") -> bytes:
    """The instructions that make a dtype."""
    made = module_global("numpy", "dtype") + text(name) + pickle.NEWFALSE + pickle.NEWTRUE
    return made + pickle.TUPLE3 + pickle.REDUCE + state


def array(shape: bytes, kind: bytes, data: bytes) -> bytes:
    """The instructions that make an array, as NumPy writes them."""
    made = module_global("numpy.core.multiarray", "_reconstruct") + module_global(
        "numpy", "ndarray"
    )
    made += whole(0) + pickle.TUPLE1 + text("b") + pickle.TUPLE3 + pickle.REDUCE
    return (
        made
        + pickle.MARK
        + whole(1)
        + shape
        + kind
        + pickle.NEWFALSE
        + data
        + pickle.TUPLE
        + pickle.BUILD
    )


def reads(content: bytes) -> Any:
    """Read the instructions, within the limit of memory."""
    tracemalloc.start()
    try:
        return batch_pickle.loads(pickle.PROTO + b"\x04" + content + pickle.STOP)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < LIMIT


class Calls:
    """What an ordinary unpickler makes into a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "values",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.array([1.5, -0.0], ">f8"),
        np.array([[1], [2]], ">i4"),
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
    ],
    ids=lambda values: f"{values.dtype}{values.shape}",
)
def test_arrays_of_numbers_are_read_whatever_wrote_them(protocol: int, values: Any) -> None:
    """Every protocol, either byte order and order of axes, and plain values beside them."""
    plain = {"a": [1, -(2**70), 2.5, None, True, "ü"], "b": (b"\xff", values[:1].sum())}
    found = batch_pickle.loads(pickle.dumps({"array": values, **plain}, protocol))
    read = found.pop("array").array
    assert read.dtype == values.dtype
    assert read.shape == values.shape
    assert read.tobytes() == values.tobytes()
    assert found == plain


@pytest.mark.parametrize(
    "attack",
    [
        Calls(os.system, "echo harm"),
        Calls(eval, "1 + 1"),
        Calls(getattr, {}, "clear"),
        Calls(builtins.__import__, "os"),
        Calls(np.load, "/dev/null"),
        np.array([Calls(os.system, "echo harm")], object),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.array(["text"]),
        np.datetime64("2020-01-01"),
        np.ma.masked_array([1.0], [True]),
        datetime.date(2020, 1, 1),
        {1, 2},
        {(1, 2): 3},
        {1: 2},
    ],
    # A function's own text has its address in it, which differs from process to process.
    ids=lambda attack: (
        f"{type(attack).__name__} {getattr(attack, 'dtype', '')}"
        if not hasattr(attack, "reduced")
        else f"call of {attack.reduced[0].__name__}"
    ),
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_whatever_is_no_array_of_numbers_is_refused(
    attack: Any, protocol: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Commands, code, objects in arrays, classes: nothing of it runs."""
    with pytest.raises(Exception, match=r"."):
        batch_pickle.loads(pickle.dumps({"data": attack}, protocol))
    assert capfd.readouterr().out == ""


def _of_a_persistent_object() -> bytes:
    return text("x") + pickle.BINPERSID


def _with_numpys_own_constructor() -> bytes:
    shape = whole(2**30) + pickle.TUPLE1
    return module_global("numpy", "ndarray") + shape + pickle.TUPLE1 + pickle.REDUCE


def _with_parts_in_the_dtype() -> bytes:
    # numpy's own `dtype.__setstate__` would take these fields: numbers read as pointers.
    names = text("a") + pickle.TUPLE1
    field = dtype("O") + whole(0) + pickle.TUPLE2
    fields = pickle.EMPTY_DICT + text("a") + field + pickle.SETITEM
    state = pickle.MARK + whole(3) + text("|") + pickle.NONE + names + fields
    state += 2 * whole(-1) + whole(0) + pickle.TUPLE + pickle.BUILD
    return dtype("u1", state)


def _with_fields_of_bytes() -> bytes:
    fields = pickle.EMPTY_DICT + text("a") + whole(1) + pickle.SETITEM
    state = pickle.MARK + whole(3) + text("|") + pickle.NONE + pickle.NONE + fields
    return dtype("u1", state + 2 * whole(-1) + whole(0) + pickle.TUPLE + pickle.BUILD)


def _of_a_huge_shape() -> bytes:
    shape = 2 * whole(2**31 - 1) + pickle.TUPLE2
    return array(shape, dtype("u1"), pickle.SHORT_BINBYTES + b"\x02ab")


def _of_a_negative_shape() -> bytes:
    shape = whole(-1) + whole(-2) + pickle.TUPLE2
    return array(shape, dtype("u1"), pickle.SHORT_BINBYTES + b"\x02ab")


def _of_a_dtype_of_many() -> bytes:
    return dtype("(100000000,)f8")


def _of_many_dimensions() -> bytes:
    shape = pickle.MARK + 100 * whole(1) + pickle.TUPLE
    return array(shape, dtype("u1"), pickle.SHORT_BINBYTES + b"\x01a")


def _of_a_huge_bytearray() -> bytes:
    return pickle.BYTEARRAY8 + struct.pack("<Q", 2**40)


def _of_huge_bytes() -> bytes:
    return pickle.BINBYTES8 + struct.pack("<Q", 2**62) + b"abc"


def _of_huge_text() -> bytes:
    return pickle.BINUNICODE8 + struct.pack("<Q", 2**63 + 1)


def _with_keys_that_take_forever_to_hash() -> bytes:
    # Each level holds the one below twice.
    levels = b"".join(
        pickle.BINPUT + bytes([i]) + pickle.BINGET + bytes([i]) + pickle.TUPLE2 for i in range(60)
    )
    return pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + levels + pickle.NONE + pickle.SETITEM


def _of_an_extension() -> bytes:
    return pickle.EXT1 + b"\x01"


def _of_an_instance() -> bytes:
    return pickle.MARK + pickle.INST + b"os\nsystem\n"


def _with_the_state_of_a_list() -> bytes:
    return pickle.EMPTY_LIST + pickle.EMPTY_DICT + pickle.BUILD


def _of_nothing() -> bytes:
    return b""


ATTACKS = [function for name, function in list(globals().items()) if name.startswith("_of_")]
ATTACKS += [function for name, function in list(globals().items()) if name.startswith("_with_")]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__[1:])
def test_hand_made_attacks_are_refused(attack: Any) -> None:
    """At once, and without the memory that they ask for."""
    with pytest.raises(Exception, match=r".|^$"):
        reads(attack())


def test_a_memo_of_any_index_takes_no_memory() -> None:
    """The unpickler in C makes room for every index below it."""
    content = whole(7) + pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 1)
    assert reads(content + pickle.LONG_BINGET + struct.pack("<I", 2**32 - 1)) == 7


def test_lists_that_hold_each_other_stay_small() -> None:
    """As long as nobody counts what is in them."""
    nested = pickle.EMPTY_LIST
    for i in range(60):
        # A list, and in it twice the one before.
        nested += pickle.BINPUT + bytes([i]) + pickle.EMPTY_LIST + pickle.MARK
        nested += 2 * (pickle.BINGET + bytes([i])) + pickle.APPENDS
    found = reads(nested)
    assert len(found) == 2
    assert found[0] is found[1]
