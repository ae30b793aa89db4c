"""The plain fields of a protobuf message: from a record to bytes, and back.

Rule: the plain case or nothing. What calls rarely have (repeated fields, maps, a field twice, one
that is not known here, a number beyond its type, text that is none) gives None, and the caller goes
by way of the protobuf library, which also says what is wrong. So the odd cases have one truth, and
here every byte that is accepted means what it means there; tests compare the two.

A record is a msgspec.Struct whose fields have the names of the message's; what is absent in a
message is at the record's default.
"""

from collections import namedtuple
from types import MemberDescriptorType

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

cdef extern from "Python.h":
    const char *utf8_of "PyUnicode_AsUTF8AndSize" (object text, Py_ssize_t *size) except NULL
    object new_bytes "PyBytes_FromStringAndSize" (const char *data, Py_ssize_t size)
    tuple new_tuple "PyTuple_New" (Py_ssize_t size)
    void give_to_tuple "PyTuple_SET_ITEM" (object into, Py_ssize_t index, object item)
    object vectorcall "PyObject_Vectorcall" (
        object call, PyObject **args, size_t count, object names)
    int64_t int64_of "PyLong_AsLongLongAndOverflow" (object value, int *overflow) except? -1


cdef extern from "structmember.h":
    const int T_OBJECT_EX
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member

cdef enum:
    TEXT, BYTES, INT64, UINT64, INT32, UINT32, BOOL, RECORD, OTHER  # of KINDS

cdef enum:
    VARINT = 0                 # wire types
    CHUNK = 2
    VARINT_BYTES_MAX = 10
    TAG_BYTES_MAX = 2          # up to NUMBER_MAX
    SIZE_BYTES_MAX = 5
    ROOM_BYTES = 512           # of most messages

# Of a field's type; "other" is plain only where it is absent.
KINDS = ("text", "bytes", "int64", "uint64", "int32", "uint32", "bool", "record", "other")
Field = namedtuple("Field", "name number kind presence default required oneof inner")


cdef class Fields:
    """Of one type of record and its message; `fields` are all of both.

    `presence`: what is absent in the message is at the record's `default`, perhaps None, and zero
    is not absent. `required`: a record cannot be made without it. `oneof`: the name of the oneof it
    is in. `inner`: of a "record".
    """

    def __init__(self, record, fields):
        if len(fields) > FIELDS_MAX or not all(0 < f.number <= NUMBER_MAX for f in fields):
            raise ValueError(f"{record.__name__}: more fields, or higher numbers, than are read")
        self.record = record
        self.names = tuple([field.name for field in fields])
        self.inner = tuple([field.inner for field in fields])
        self.defaults = tuple([field.default for field in fields])
        zeros = {"text": "", "bytes": b"", "bool": False}
        self.zeros = tuple([zeros.get(field.kind, 0) for field in fields])
        self.count = len(fields)
        memset(self.by_number, 0, sizeof(self.by_number))
        oneofs = {}
        for index, field in enumerate(fields):
            mark = oneofs.setdefault(field.oneof, index) if field.oneof else index
            kind = KINDS.index(field.kind)
            self.fields[index] = field_t(
                field.number, kind, field.presence, field.required, mark,
                offset_of(record, field.name))
            self.by_number[<Py_ssize_t>field.number] = index + 1

    cpdef object encode(self, record):
        """The message of this record, or None."""
        cdef out_t out
        if record is None:
            raise TypeError("a record is wanted, not None")
        memset(&out, 0, sizeof(out))
        try:
            if self.write(record, &out):
                return new_bytes(<const char *>out.data, <Py_ssize_t>out.size)
        finally:
            free(out.data)
        return None

    def decode(self, bytes data not None):
        """The record in this message, or None."""
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(data)
        return self.read(at, at + PyBytes_GET_SIZE(data))

    # ---- out

    cdef int write(self, object record, out_t *out) except -1:
        cdef Py_ssize_t index
        if type(record) is not self.record:
            return 0
        grow(out, 0)
        for index in range(self.count):
            value = self.value_of(record, index)
            if value is None:
                if not self.fields[index].presence:
                    return 0
            elif self.fields[index].presence and (
                    value is self.defaults[index] or value == self.defaults[index]):
                pass
            elif not self.write_field(index, value, out):
                return 0
        return 1

    cdef object value_of(self, object record, Py_ssize_t index):
        cdef Py_ssize_t offset = self.fields[index].offset
        cdef PyObject *value = NULL
        if offset:
            value = (<PyObject **>(<char *>(<PyObject *>record) + offset))[0]
        if value == NULL:
            return getattr(record, <str>self.names[index])
        return <object>value

    cdef int write_field(self, Py_ssize_t index, object value, out_t *out) except -1:
        cdef field_t *field = &self.fields[index]
        cdef int64_t number
        cdef int overflow = 0
        cdef size_t begin
        if field.kind == TEXT or field.kind == BYTES:
            return write_chunk(field, value, out)
        if field.kind == RECORD:
            begin = begin_chunk(field, out)
            if not (<Fields>self.inner[index]).write(value, out):
                return 0
            end_chunk(out, begin)
            return 1
        if field.kind == OTHER:
            return not field.presence and type(value) in (tuple, dict) and not value
        if field.kind == BOOL:
            if type(value) is not bool:
                return 0
            number = value is True
        else:
            if type(value) is not int:
                return 0
            number = int64_of(value, &overflow)
            if overflow or not fits(field.kind, number):
                return 0
        if number or field.presence:
            write_varint(out, field.number << 3 | VARINT)
            write_varint(out, <uint64_t>number)
        return 1

    # ---- in

    cdef object read(self, const uint8_t *at, const uint8_t *end):
        cdef PyObject *found[FIELDS_MAX]
        cdef Py_ssize_t index
        memset(found, 0, <size_t>self.count * sizeof(PyObject *))
        try:
            return self.made(found) if self.scan(at, end, found) else None
        finally:
            for index in range(self.count):
                Py_XDECREF(found[index])

    cdef int scan(self, const uint8_t *at, const uint8_t *end, PyObject **found) except -1:
        cdef uint64_t tag, value, seen = 0, bit
        cdef field_t *field
        cdef Py_ssize_t index
        cdef object item
        while at < end:
            if not read_varint(&at, end, TAG_BYTES_MAX, &tag) or tag >> 3 > NUMBER_MAX:
                return 0
            index = <Py_ssize_t>self.by_number[tag >> 3] - 1
            if index < 0 or not read_varint(
                    &at, end, SIZE_BYTES_MAX if tag & 7 == CHUNK else VARINT_BYTES_MAX, &value):
                return 0
            field = &self.fields[index]
            bit = <uint64_t>1 << field.mark
            if seen & bit or tag & 7 != wire_type(field.kind):
                return 0
            seen |= bit
            if tag & 7 == CHUNK:
                if value > <uint64_t>(end - at):
                    return 0
                item = self.chunk(index, at, <Py_ssize_t>value)
                if item is None:
                    return 0
                at += value
            elif field.kind == BOOL:
                if value > 1:
                    return 0
                item = value == 1
            elif field.kind == UINT64:
                item = value
            elif fits(field.kind, <int64_t>value):
                item = <int64_t>value
            else:
                return 0
            Py_INCREF(item)
            found[index] = <PyObject *>item
        return 1

    cdef object chunk(self, Py_ssize_t index, const uint8_t *at, Py_ssize_t size):
        """The text, bytes or record there, or None."""
        cdef uint8_t kind = self.fields[index].kind
        if kind == BYTES:
            return new_bytes(<const char *>at, size)
        if kind == RECORD:
            return (<Fields>self.inner[index]).read(at, at + size)
        if kind == TEXT:
            try:
                return PyUnicode_DecodeUTF8(<const char *>at, size, NULL)
            except UnicodeDecodeError:
                pass
        return None

    cdef object made(self, PyObject **found):
        """A record of what was found, and of zeros where it cannot do without."""
        cdef PyObject *values[FIELDS_MAX]
        cdef Py_ssize_t index, count = 0
        cdef tuple names
        for index in range(self.count):
            if found[index] == NULL and self.fields[index].required:
                if self.fields[index].kind >= RECORD:
                    return None
                zero = self.zeros[index]
                Py_INCREF(zero)
                found[index] = <PyObject *>zero
            count += found[index] != NULL
        names = new_tuple(count)
        count = 0
        for index in range(self.count):
            if found[index] != NULL:
                values[count] = found[index]
                name = self.names[index]
                Py_INCREF(name)
                give_to_tuple(names, count, name)
                count += 1
        return vectorcall(self.record, values, 0, names)


cdef Py_ssize_t offset_of(object record, str name) except -1:
    """Where records of a type have the value of this slot: asking for many by name touches far
    more memory than they take. 0: it is no slot."""
    cdef PyMemberDef *member
    slot = getattr(record, name, None)
    if type(slot) is not MemberDescriptorType:
        return 0
    member = (<PyMemberDescrObject *><PyObject *>slot).d_member
    return member.offset if member.type == T_OBJECT_EX else 0


# ---- bytes

cdef inline uint8_t wire_type(uint8_t kind) noexcept nogil:
    """OTHER has none of the two that are read."""
    if kind == OTHER:
        return 8
    return CHUNK if kind == TEXT or kind == BYTES or kind == RECORD else VARINT


cdef inline bint fits(uint8_t kind, int64_t number) noexcept nogil:
    """Whether a field of numbers can have this one."""
    if kind == UINT64:
        return number >= 0
    if kind == UINT32:
        return 0 <= number <= <int64_t>0xFFFFFFFF
    return kind == INT64 or -0x80000000 <= number <= 0x7FFFFFFF


cdef int grow(out_t *out, size_t more) except -1:
    """Room for so many bytes, and for a tag and a length."""
    cdef size_t room = out.size + more + 2 * VARINT_BYTES_MAX
    cdef void *data
    if room > out.room:
        room = max(2 * room, <size_t>ROOM_BYTES)
        data = realloc(out.data, room)
        if data == NULL:
            raise MemoryError
        out.data, out.room = <uint8_t *>data, room
    return 0


cdef inline void put_varint(out_t *out, uint64_t value) noexcept nogil:
    while value > 127:
        out.data[out.size] = <uint8_t>(value | 128)
        out.size += 1
        value >>= 7
    out.data[out.size] = <uint8_t>value
    out.size += 1


cdef inline int write_varint(out_t *out, uint64_t value) except -1:
    grow(out, 0)
    put_varint(out, value)
    return 0


cdef int write_chunk(field_t *field, object value, out_t *out) except -1:
    """Text or bytes; as Fields.write."""
    cdef const char *data
    cdef Py_ssize_t size = 0
    if field.kind == BYTES and type(value) is bytes:
        data, size = PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    elif field.kind == TEXT and type(value) is str:
        try:
            data = utf8_of(value, &size)
        except UnicodeEncodeError:
            return 0
    else:
        return 0
    if size or field.presence:
        grow(out, <size_t>size)
        put_varint(out, field.number << 3 | CHUNK)
        put_varint(out, <uint64_t>size)
        memcpy(out.data + out.size, data, <size_t>size)
        out.size += <size_t>size
    return 1


cdef size_t begin_chunk(field_t *field, out_t *out) except? 0:
    """Where its bytes begin; their number, which is not known yet, has one byte before them."""
    grow(out, 0)
    put_varint(out, field.number << 3 | CHUNK)
    out.size += 1
    return out.size


cdef int end_chunk(out_t *out, size_t begin) except -1:
    cdef size_t size = out.size - begin, more = 0, left = size >> 7
    while left:
        more += 1
        left >>= 7
    if more:
        grow(out, 0)
        memmove(out.data + begin + more, out.data + begin, size)
    out.size = begin - 1
    put_varint(out, size)
    out.size += size
    return 0


cdef inline bint read_varint(
    const uint8_t **at, const uint8_t *end, int bytes_max, uint64_t *value
) noexcept nogil:
    """Whether one is there that ends within so many bytes, and fits 64 bits."""
    cdef uint64_t found = 0
    cdef int index
    cdef uint8_t byte
    for index in range(bytes_max):
        if at[0] == end:
            return False
        byte = at[0][0]
        at[0] += 1
        if index == VARINT_BYTES_MAX - 1 and byte > 1:
            return False
        found |= <uint64_t>(byte & 127) << 7 * index
        if byte < 128:
            value[0] = found
            return True
    return False
