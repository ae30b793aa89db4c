"""The JSON of spear_fd_ctl: reads what sets flags, writes flags, kinds and states.

Rule: a whole document is read by RFC 8259 and nothing looser, at most DEPTH_MAX deep, on the spot:
no memory is taken. Bytes that are not UTF-8 may stand in strings, as everywhere in the ABI. Written
documents are compact. Source: the guest ABI, section 11.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, strlen

from spear._core.descriptors cimport *

cdef enum:
    DEPTH_MAX = 64             # arrays and objects inside each other
    NAME_BYTES = 16            # of a string that is compared

cdef struct reader_t:
    const uint8_t *at
    const uint8_t *end

cdef struct name_t:            # a string as it is meant, without its escapes
    char text[NAME_BYTES]      # its beginning
    uint32_t size              # of all of it, in characters below U+0080; others count too


# ---- reading

cdef void _skip_space(reader_t *json) noexcept nogil:
    while json.at < json.end and (
            json.at[0] == c" " or json.at[0] == c"\t" or json.at[0] == c"\n"
            or json.at[0] == c"\r"):
        json.at += 1


cdef bint _take(reader_t *json, uint8_t byte) noexcept nogil:
    """Passes over `byte`, and the space before it, if it comes next."""
    _skip_space(json)
    if json.at == json.end or json.at[0] != byte:
        return False
    json.at += 1
    return True


cdef bint _literal(reader_t *json, const char *text) noexcept nogil:
    cdef size_t size = strlen(text)
    if <size_t>(json.end - json.at) < size or memcmp(json.at, text, size) != 0:
        return False
    json.at += size
    return True


cdef uint32_t _digits(reader_t *json) noexcept nogil:
    cdef const uint8_t *begin = json.at
    while json.at < json.end and c"0" <= json.at[0] <= c"9":
        json.at += 1
    return <uint32_t>(json.at - begin)


cdef bint _number(reader_t *json) noexcept nogil:
    if json.at < json.end and json.at[0] == c"-":
        json.at += 1
    if json.at < json.end and json.at[0] == c"0":
        json.at += 1
    elif _digits(json) == 0:
        return False
    if json.at < json.end and json.at[0] == c".":
        json.at += 1
        if _digits(json) == 0:
            return False
    if json.at < json.end and (json.at[0] == c"e" or json.at[0] == c"E"):
        json.at += 1
        if json.at < json.end and (json.at[0] == c"+" or json.at[0] == c"-"):
            json.at += 1
        return _digits(json) > 0
    return True


cdef int32_t _hex(uint8_t digit) noexcept nogil:
    if c"0" <= digit <= c"9":
        return digit - c"0"
    digit |= 0x20
    return digit - c"a" + 10 if c"a" <= digit <= c"f" else -1


cdef int32_t _escaped(reader_t *json) noexcept nogil:
    """The character behind a backslash; -1 if it is none."""
    cdef uint8_t letter
    cdef int32_t code = 0, digit, index
    if json.at == json.end:
        return -1
    letter = json.at[0]
    json.at += 1
    if letter == c'"' or letter == c"\\" or letter == c"/":
        return letter
    if letter == c"b" or letter == c"f" or letter == c"n" or letter == c"r" or letter == c"t":
        return 1                   # a control character: it is in no name
    if letter != c"u" or json.end - json.at < 4:
        return -1
    for index in range(4):
        digit = _hex(json.at[index])
        if digit < 0:
            return -1
        code = code * 16 + digit
    json.at += 4
    return code


cdef bint _string(reader_t *json, name_t *name) noexcept nogil:
    cdef int32_t code
    name.size = 0
    if not _take(json, c'"'):
        return False
    while json.at < json.end and json.at[0] >= 0x20:
        code = json.at[0]
        json.at += 1
        if code == c'"':
            return True
        if code == c"\\":
            code = _escaped(json)
            if code < 0:
                return False
        if name.size < NAME_BYTES:
            name.text[name.size] = <char>(code if code < 0x80 else 1)
        name.size += 1
    return False


cdef bint _is(const name_t *name, const char *text) noexcept nogil:
    return name.size == strlen(text) and memcmp(name.text, text, name.size) == 0


cdef bint _value(reader_t *json, int depth) noexcept nogil:
    """Passes over any value."""
    cdef name_t name
    _skip_space(json)
    if json.at == json.end:
        return False
    if json.at[0] == c'"':
        return _string(json, &name)
    if json.at[0] == c"{" or json.at[0] == c"[":
        return _members(json, depth, json.at[0] == c"{")
    if json.at[0] == c"t":
        return _literal(json, b"true")
    if json.at[0] == c"f":
        return _literal(json, b"false")
    if json.at[0] == c"n":
        return _literal(json, b"null")
    return _number(json)


cdef bint _members(reader_t *json, int depth, bint named) noexcept nogil:
    """Passes over an object (`named`) or an array, which begins here."""
    cdef name_t name
    cdef uint8_t closing = c"}" if named else c"]"
    json.at += 1
    if depth > DEPTH_MAX:
        return False
    if _take(json, closing):
        return True
    while True:
        if named and not (_string(json, &name) and _take(json, c":")):
            return False
        if not _value(json, depth + 1):
            return False
        if not _take(json, c","):
            return _take(json, closing)


cdef bint _names(reader_t *json, bint *nonblock) noexcept nogil:
    """An array of strings; whether O_NONBLOCK is among them."""
    cdef name_t name
    nonblock[0] = False
    if not _take(json, c"["):
        return False
    if _take(json, c"]"):
        return True
    while True:
        if not _string(json, &name):
            return False
        nonblock[0] = nonblock[0] or _is(&name, b"O_NONBLOCK")
        if not _take(json, c","):
            return _take(json, c"]")


cdef bint _member(reader_t *json, flag_change *change) noexcept nogil:
    cdef name_t name
    if not (_string(json, &name) and _take(json, c":")):
        return False
    if _is(&name, b"set"):
        return _names(json, &change.set_nonblock)
    if _is(&name, b"clear"):
        return _names(json, &change.clear_nonblock)
    return _value(json, 2)


cdef flag_change flags_read(const uint8_t *data, uint32_t size) noexcept nogil:
    cdef flag_change change
    cdef reader_t json
    change.valid = change.set_nonblock = change.clear_nonblock = False
    json.at, json.end = data, data + size
    if not _take(&json, c"{"):
        return change
    if not _take(&json, c"}"):
        while True:
            if not _member(&json, &change):
                return change
            if not _take(&json, c","):
                break
        if not _take(&json, c"}"):
            return change
    _skip_space(&json)
    change.valid = json.at == json.end
    return change


# ---- writing

cdef const char *_kind_name(uint8_t kind) noexcept nogil:
    if kind == FD_CHAT_SESSION:
        return "ChatSession"
    if kind == FD_CHAT_RESPONSE:
        return "ChatResponse"
    if kind == FD_EPOLL:
        return "Epoll"
    if kind == FD_RTASR:
        return "RtAsr"
    if kind == FD_MIC:
        return "Mic"
    if kind == FD_USER_STREAM:
        return "UserStream"
    if kind == FD_CHAT_STREAM:
        return "ChatStream"
    return "TaskCall" if kind == FD_TASK_CALL else "UserStreamCtl"


cdef const char *_flag_names(uint8_t flags) noexcept nogil:
    return '"O_NONBLOCK"' if flags & FD_NONBLOCK else ""


cdef int32_t flags_write(char *out, uint8_t flags) noexcept nogil:
    return snprintf(out, STATUS_BYTES_MAX, '{"flags":[%s]}', _flag_names(flags))


cdef int32_t kind_write(char *out, uint8_t kind) noexcept nogil:
    return snprintf(out, STATUS_BYTES_MAX, '{"kind":"%s"}', _kind_name(kind))


cdef int32_t status_write(char *out, uint8_t kind, uint8_t flags, uint32_t mask) noexcept nogil:
    cdef uint32_t rest = mask
    cdef int32_t size = snprintf(
        out, STATUS_BYTES_MAX, '{"kind":"%s","flags":[%s],"poll_mask":[', _kind_name(kind),
        _flag_names(flags))
    while rest != 0:
        size += snprintf(
            out + size, STATUS_BYTES_MAX - size, '"%s"%s', _bit_name(rest & (~rest + 1)),
            <const char *>"," if rest & (rest - 1) else <const char *>"")
        rest &= rest - 1
    return size + snprintf(
        out + size, STATUS_BYTES_MAX - size, '],"closed":%s}',
        <const char *>"true" if flags & FD_CLOSED else <const char *>"false")


cdef const char *_bit_name(uint32_t bit) noexcept nogil:
    if bit == EPOLL_IN:
        return "EPOLLIN"
    if bit == EPOLL_OUT:
        return "EPOLLOUT"
    return "EPOLLERR" if bit == EPOLL_ERR else "EPOLLHUP"
