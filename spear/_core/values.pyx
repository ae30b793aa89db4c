"""Typed values between Python and the functions a guest exports.

Rule: numbers only. i32 and i64 take signed or unsigned values and give signed ones; a number that
does not fit is refused before anything is called.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdint cimport INT32_MIN, UINT32_MAX, int32_t, int64_t, uint32_t, uint64_t

from spear._core.engineapi cimport *

from spear.errors import InvalidArgument

cdef enum:
    SHOWN_BITS_MAX = 256       # of a number in an error

cdef dict _KINDS = {"i32": WASMTIME_KIND_I32, "i64": WASMTIME_KIND_I64,
                    "f32": WASMTIME_KIND_F32, "f64": WASMTIME_KIND_F64}


cdef class Signature:
    """Parameters and results of one exported function."""

    cdef int check(self, str name, tuple args) except -1:
        if len(args) != self.param_count:
            raise InvalidArgument(f"function {name!r} {self.text} was given {len(args)} arguments")
        return 0


cdef int _read_kinds(uint8_t *kinds, str types, str name) except -1:
    """Codes of the types in "i32, i64", "(i32, i64)" or "()"; how many there are."""
    names = [item for item in types.strip("()").split(", ") if item]
    if len(names) > VALUES_MAX or any(item not in _KINDS for item in names):
        raise InvalidArgument(
            f"function {name!r} has ({types}); served are up to {VALUES_MAX} of "
            f"{', '.join(_KINDS)}")
    for at, item in enumerate(names):
        kinds[at] = _KINDS[item]
    return len(names)


cdef Signature signature_of(str text, str name):
    cdef Signature signature = Signature.__new__(Signature)
    params, _, results = text.partition(") -> ")
    signature.text = text
    signature.param_count = _read_kinds(signature.params, params[1:], name)
    signature.result_count = _read_kinds(signature.results, results, name)
    return signature


cdef object _beyond(object given, str what):
    """The refusal of an integer; Python writes out none of thousands of digits."""
    cdef object bits = given.bit_length()
    shown = f"{given}" if bits <= SHOWN_BITS_MAX else f"an integer of {bits} bits"
    return InvalidArgument(f"{shown} is no {what}")


cdef int32_t _i32(object given) except? -1:
    cdef int beyond = 0
    if not isinstance(given, int):
        raise TypeError(f"{given!r} is no integer")
    cdef long long number = PyLong_AsLongLongAndOverflow(given, &beyond)
    if beyond != 0 or number < INT32_MIN or number > UINT32_MAX:
        raise _beyond(given, "32-bit integer")
    return <int32_t><uint32_t>number


cdef int64_t _i64(object given) except? -1:
    cdef int beyond = 0
    if not isinstance(given, int):
        raise TypeError(f"{given!r} is no integer")
    cdef long long number = PyLong_AsLongLongAndOverflow(given, &beyond)
    if beyond == 0:
        return number
    if beyond < 0 or given >= 1 << 64:
        raise _beyond(given, "64-bit integer")
    return <int64_t><uint64_t>given


cdef double _f64(object given) except? -1:
    try:
        return given
    except OverflowError:
        raise _beyond(given, "number that a float can hold") from None


cdef int store_raw(wasmtime_val_raw_t *value, uint8_t kind, object given) except -1:
    if kind == WASMTIME_KIND_I32:
        value.i32 = _i32(given)
    elif kind == WASMTIME_KIND_I64:
        value.i64 = _i64(given)
    elif kind == WASMTIME_KIND_F32:
        value.f32 = <float>_f64(given)
    else:
        value.f64 = _f64(given)
    return 0


cdef object load_raw(const wasmtime_val_raw_t *value, uint8_t kind):
    if kind == WASMTIME_KIND_I32:
        return value.i32
    if kind == WASMTIME_KIND_I64:
        return value.i64
    return value.f32 if kind == WASMTIME_KIND_F32 else value.f64


cdef int store_value(wasmtime_val_t *value, uint8_t kind, object given) except -1:
    cdef wasmtime_val_raw_t raw
    store_raw(&raw, kind, given)
    value.kind = kind
    if kind == WASMTIME_KIND_I32:
        value.of.i32 = raw.i32
    elif kind == WASMTIME_KIND_I64:
        value.of.i64 = raw.i64
    elif kind == WASMTIME_KIND_F32:
        value.of.f32 = raw.f32
    else:
        value.of.f64 = raw.f64
    return 0


cdef object load_value(const wasmtime_val_t *value, uint8_t kind):
    if kind == WASMTIME_KIND_I32:
        return value.of.i32
    if kind == WASMTIME_KIND_I64:
        return value.of.i64
    return value.of.f32 if kind == WASMTIME_KIND_F32 else value.of.f64
