"""Reads the plain chunk of a chat completion: some text of its only choice, and nothing besides.

Rule: yes, or no without a reason. Yes means that it is JSON in UTF-8 by the letter, that its keys
stand there without escapes, and that what the type-driven decoder of the OpenAI dialect finds in it
is this text and no other. Whatever is rare gives no, and is read there. Reads no byte twice but for
the text's own, and none outside.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from spear._core.jsontext cimport text_add, text_t

cdef enum:
    DEPTH_MAX = 16                 # of values that are read over

cdef struct string_t:
    const uint8_t *first           # between the quotes
    Py_ssize_t size
    Py_ssize_t characters
    bint escaped


# ---- the grammar; each gives where it ended, or NULL

cdef inline const uint8_t *_space(const uint8_t *at, const uint8_t *end) noexcept nogil:
    while at < end and (at[0] == c' ' or at[0] == c'\t'):    # no ends of lines within a line
        at += 1
    return at


cdef inline const uint8_t *_sign(
    const uint8_t *at, const uint8_t *end, uint8_t sign
) noexcept nogil:
    """That character, with space around it."""
    at = _space(at, end)
    return _space(at + 1, end) if at < end and at[0] == sign else NULL


cdef int _hex4(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Four digits; -1 where they are none."""
    cdef int value = 0, digit
    if end - at < 4:
        return -1
    for digit in range(4):
        if c'0' <= at[digit] <= c'9':
            value = value * 16 + at[digit] - c'0'
        elif c'a' <= at[digit] | 0x20 <= c'f':
            value = value * 16 + (at[digit] | 0x20) - c'a' + 10
        else:
            return -1
    return value


cdef const uint8_t *_escape(
    const uint8_t *at, const uint8_t *end, uint32_t *character
) noexcept nogil:
    """Behind the backslash. Half of a surrogate pair is none."""
    cdef int unit, low
    if at == end:
        return NULL
    if at[0] == c'u':
        unit = _hex4(at + 1, end)
        if unit < 0 or 0xDC00 <= unit < 0xE000:
            return NULL
        character[0] = <uint32_t>unit
        if unit < 0xD800 or unit >= 0xE000:
            return at + 5
        low = _hex4(at + 7, end) if end - at >= 11 and at[5] == c'\\' and at[6] == c'u' else -1
        if low < 0xDC00 or low >= 0xE000:
            return NULL
        character[0] = 0x10000 + ((<uint32_t>unit - 0xD800) << 10) + (<uint32_t>low - 0xDC00)
        return at + 11
    if at[0] == c'n':
        character[0] = c'\n'
    elif at[0] == c'"' or at[0] == c'\\' or at[0] == c'/':
        character[0] = at[0]
    elif at[0] == c't':
        character[0] = c'\t'
    elif at[0] == c'r':
        character[0] = c'\r'
    elif at[0] == c'b':
        character[0] = 8
    elif at[0] == c'f':
        character[0] = 12
    else:
        return NULL
    return at + 1


cdef const uint8_t *_beyond_ascii(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """One character of two bytes or more, in its shortest form, no surrogate."""
    cdef uint8_t least = 0x80, most = 0xBF
    cdef int more = 1
    if at[0] < 0xC2 or at[0] > 0xF4:
        return NULL
    if at[0] >= 0xF0:
        more = 3
        least, most = 0x90 if at[0] == 0xF0 else 0x80, 0x8F if at[0] == 0xF4 else 0xBF
    elif at[0] >= 0xE0:
        more = 2
        least, most = 0xA0 if at[0] == 0xE0 else 0x80, 0x9F if at[0] == 0xED else 0xBF
    if end - at <= more or at[1] < least or at[1] > most:
        return NULL
    at += 2
    while more > 1:
        if at[0] & 0xC0 != 0x80:
            return NULL
        at += 1
        more -= 1
    return at


cdef const uint8_t *_string(
    const uint8_t *at, const uint8_t *end, string_t *found
) noexcept nogil:
    cdef uint32_t character
    if at == end or at[0] != c'"':
        return NULL
    at += 1
    found.first, found.characters, found.escaped = at, 0, False
    while at != NULL and at < end and at[0] != c'"':
        found.characters += 1
        if at[0] == c'\\':
            found.escaped = True
            at = _escape(at + 1, end, &character)
        elif at[0] >= 0x80:
            at = _beyond_ascii(at, end)
        elif at[0] >= 0x20:
            at += 1
        else:
            return NULL
    if at == NULL or at >= end:
        return NULL
    found.size = at - found.first
    return at + 1


cdef const uint8_t *_digits(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """One at least."""
    cdef const uint8_t *first = at
    while at < end and c'0' <= at[0] <= c'9':
        at += 1
    return at if at > first else NULL


cdef const uint8_t *_whole_number(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Digits alone, of which no decoder makes a problem: a fraction or an exponent is rare here."""
    cdef const uint8_t *after = _digits(at, end)
    if after == NULL or after - at > 18 or (at[0] == c'0' and after - at > 1):
        return NULL
    if after < end and (after[0] == c'.' or after[0] | 0x20 == c'e'):
        return NULL
    return after


cdef inline const uint8_t *_word(
    const uint8_t *at, const uint8_t *end, const char *word, Py_ssize_t size
) noexcept nogil:
    return at + size if end - at >= size and memcmp(at, word, size) == 0 else NULL


cdef inline const uint8_t *_null(const uint8_t *at, const uint8_t *end) noexcept nogil:
    return _word(at, end, b"null", 4)


cdef const uint8_t *_any(const uint8_t *at, const uint8_t *end, int depth) noexcept nogil:
    """A value that is read over."""
    cdef string_t text
    if at == end:
        return NULL
    if at[0] == c'"':
        return _string(at, end, &text)
    if at[0] == c'n':
        return _null(at, end)
    if at[0] == c't':
        return _word(at, end, b"true", 4)
    if at[0] == c'f':
        return _word(at, end, b"false", 5)
    if at[0] == c'{' or at[0] == c'[':
        return _any_inside(at, end, depth + 1) if depth < DEPTH_MAX else NULL
    return _whole_number(at, end)


cdef const uint8_t *_any_inside(const uint8_t *at, const uint8_t *end, int depth) noexcept nogil:
    cdef bint named = at[0] == c'{'
    cdef uint8_t last = c'}' if named else c']'
    cdef string_t key
    at = _space(at + 1, end)
    if at < end and at[0] == last:
        return at + 1
    while at != NULL:
        if named:
            at = _string(at, end, &key)
            at = _sign(at, end, c':') if at != NULL else NULL
        at = _any(at, end, depth) if at != NULL else NULL
        at = _space(at, end) if at != NULL else NULL
        if at == NULL or at == end:
            return NULL
        if at[0] == last:
            return at + 1
        at = _sign(at, end, c',')
    return NULL


# ---- the shape of the chunk: an object's members, each of which says what it must be

ctypedef const uint8_t *(*member_t)(
    const uint8_t *at, const uint8_t *end, const string_t *key, plain_t *found) noexcept nogil


cdef inline bint _is(const string_t *key, const char *name, Py_ssize_t size) noexcept nogil:
    return key.size == size and memcmp(key.first, name, size) == 0


cdef const uint8_t *_object(
    const uint8_t *at, const uint8_t *end, member_t member, plain_t *found
) noexcept nogil:
    """With one member at least."""
    cdef string_t key
    at = _sign(at, end, c'{')
    while at != NULL:
        at = _string(at, end, &key)
        if at == NULL or key.escaped:
            return NULL
        at = _sign(at, end, c':')
        at = member(at, end, &key, found) if at != NULL else NULL
        at = _space(at, end) if at != NULL else NULL
        if at == NULL or at == end:
            return NULL
        if at[0] == c'}':
            return at + 1
        at = _sign(at, end, c',')
    return NULL


cdef const uint8_t *_of_delta(
    const uint8_t *at, const uint8_t *end, const string_t *key, plain_t *found
) noexcept nogil:
    cdef string_t text
    if _is(key, b"content", 7):
        at = _string(at, end, &text)
        if at == NULL or found.text != NULL:             # none, or a second one
            return NULL
        found.text, found.size = text.first, text.size
        found.characters, found.escaped = text.characters, text.escaped
        return at
    if _is(key, b"role", 4) and at < end and at[0] == c'"':
        return _string(at, end, &text)
    if (_is(key, b"role", 4) or _is(key, b"refusal", 7) or _is(key, b"tool_calls", 10)
            or _is(key, b"reasoning_content", 17)):
        return _null(at, end)
    return NULL


cdef const uint8_t *_of_choice(
    const uint8_t *at, const uint8_t *end, const string_t *key, plain_t *found
) noexcept nogil:
    cdef const uint8_t *after
    if _is(key, b"delta", 5):
        return _object(at, end, _of_delta, found) if found.text == NULL else NULL
    if _is(key, b"index", 5):
        after = _whole_number(at, end)
        return after if after != NULL and at[0] == c'0' else NULL
    if _is(key, b"finish_reason", 13):
        return _null(at, end)
    return _any(at, end, 0)


cdef const uint8_t *_of_chunk(
    const uint8_t *at, const uint8_t *end, const string_t *key, plain_t *found
) noexcept nogil:
    if _is(key, b"choices", 7):
        at = _sign(at, end, c'[') if found.text == NULL else NULL
        at = _object(at, end, _of_choice, found) if at != NULL else NULL
        return _sign(at, end, c']') if at != NULL else NULL
    if _is(key, b"usage", 5) or _is(key, b"error", 5):
        return _null(at, end)
    return _any(at, end, 0)


cdef bint plain_chunk(const uint8_t *at, const uint8_t *end, plain_t *found) noexcept nogil:
    found.text = NULL
    at = _object(at, end, _of_chunk, found)
    return at != NULL and _space(at, end) == end and found.text != NULL


# ---- the text

cdef void _add_character(text_t *out, uint32_t character) noexcept nogil:
    cdef uint8_t bytes[4]
    cdef int more = 0 if character < 0x80 else 1 if character < 0x800 else (
        2 if character < 0x10000 else 3)
    cdef int at
    bytes[0] = <uint8_t>character if more == 0 else <uint8_t>(
        (0xFF80 >> more & 0xFF) | character >> 6 * more)
    for at in range(1, more + 1):
        bytes[at] = <uint8_t>(0x80 | character >> 6 * (more - at) & 0x3F)
    text_add(out, bytes, more + 1)


cdef void plain_text(const plain_t *found, text_t *out) noexcept nogil:
    cdef const uint8_t *at = found.text
    cdef const uint8_t *end = at + found.size
    cdef const uint8_t *plain = at
    cdef uint32_t character = 0
    while at < end:
        if at[0] != c'\\':
            at += 1
            continue
        text_add(out, plain, at - plain)
        at = plain = _escape(at + 1, end, &character)
        _add_character(out, character)
    text_add(out, plain, at - plain)
