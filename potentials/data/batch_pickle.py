"""Pickles from a stranger: read into plain values and numeric arrays, and nothing else.

A pickle is a program. Its instructions that look anything up (classes by name or number,
persistent objects), that call something or that set the state of an object reach nothing here but
the few constructors of this file, none of which is NumPy's own: a NumPy dtype or array that takes
its state from a stranger reads memory that it should not. What remains is memory and time: no
instruction makes more of something than the file has bytes.
"""

import io
import math
import pickle
import re
from typing import Any, ClassVar

import numpy as np

# A batch of CIFAR-10 has 31 MB.
MAX_BYTES = 2**28
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_MOST_DIMENSIONS = 8


def loads(content: bytes) -> Any:
    """Read a pickle of any protocol.

    Args:
        content: the pickle; the `str` of Python 2 become text by latin1, which keeps every byte.

    Returns:
        Numbers, strings, lists, tuples and dicts with string keys; arrays are `PickledArray`s.

    Raises:
        pickle.UnpicklingError: if it asks for anything else. A damaged pickle raises almost
            anything.
    """
    return _Unpickler(content).load()


class PickledArray:
    """An array of numbers in a pickle, whose constructor is called first and its state set next."""

    def __init__(self) -> None:
        self.array = np.zeros(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """A numeric dtype, made of nothing but its name and its byte order."""

    def __init__(self, name: Any, *flags: Any):
        text = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise pickle.UnpicklingError(f"it holds an array of dtype {_named(text)}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("it holds an array of a dtype with parts")
        self.dtype = self.dtype.newbyteorder(order)


def _named(dtype: Any) -> str:
    return "object" if dtype in ("O", "O8", "|O") else repr(dtype)[:40]


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("it holds an array without a dtype")
    sizes = list(shape) if isinstance(shape, tuple | list) else [shape]
    if len(sizes) > _MOST_DIMENSIONS or any(type(n) is not int or n < 0 for n in sizes):
        raise pickle.UnpicklingError("it holds an array of an impossible shape")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray):
        raise pickle.UnpicklingError("it holds an array whose data are no bytes")
    if math.prod(sizes) * dtype.dtype.itemsize != len(raw):
        message = f"it holds an array of shape {tuple(sizes)} with {len(raw)} bytes of data"
        raise pickle.UnpicklingError(message)
    return np.frombuffer(raw, dtype.dtype).reshape(sizes, order="F" if order == "F" else "C")


def _empty_array(*ignored: Any) -> PickledArray:
    return PickledArray()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    made = PickledArray()
    made.array = _array(data, dtype, shape, order)
    return made


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (1,), "C")[0].item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    # Python 3 writes bytes in this way in the old protocols, always as latin1.
    return text.encode("latin1")


def _no_bytes() -> bytes:
    # As Python 3 writes none at all in the old protocols.
    return b""


# What a pickle of arrays looks up, under NumPy's module names of every version. NumPy's own class
# is only ever passed on, to `_reconstruct`.
_NAMES: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
_INSTRUCTIONS = (
    # Numbers, text and bytes,
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1),
    *(pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.FLOAT, pickle.BINFLOAT, pickle.STRING),
    *(pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.UNICODE, pickle.BINUNICODE),
    *(pickle.SHORT_BINUNICODE, pickle.BINUNICODE8, pickle.BINBYTES, pickle.SHORT_BINBYTES),
    *(pickle.BINBYTES8, pickle.BYTEARRAY8),
    # containers,
    *(pickle.MARK, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS),
    # references to earlier values,
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
    *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    # the names above and calls of what they stand for, and the frame of it all.
    *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD),
    *(pickle.PROTO, pickle.FRAME, pickle.STOP),
)


# Type checkers do not know its stack.
_InPython: Any = pickle._Unpickler


class _Unpickler(_InPython):
    """The unpickler that is written in Python: its instructions can be chosen one by one.

    That in C makes a memo of 2^32 entries if told to, and lets tuples that hold the same tuple
    twice be keys, whose hash takes a time that doubles with each level.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code[0]: _InPython.dispatch[code[0]] for code in _INSTRUCTIONS
    }

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._length = len(content)

    def find_class(self, module: str, name: str) -> Any:
        key = (str(module).replace("numpy._core", "numpy.core"), name)
        if key not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return _NAMES[key]

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, PickledArray | _Dtype):
            raise pickle.UnpicklingError(f"it sets the state of a {type(made).__name__}")
        made.__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        if length > self._length:
            raise pickle.UnpicklingError(f"it asks for {length} bytes, more than it has")
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(_dict(items))

    dispatch[pickle.DICT[0]] = load_dict

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1].update(_dict([key, value]))

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(_dict(items))

    dispatch[pickle.SETITEMS[0]] = load_setitems


def _dict(items: list[Any]) -> dict[str | bytes, Any]:
    keys, values = items[::2], items[1::2]
    if not all(isinstance(key, str | bytes) for key in keys):
        raise pickle.UnpicklingError("it holds a dict with keys that are no text")
    return dict(zip(keys, values, strict=True))
