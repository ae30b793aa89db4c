"""What guests put into chat sessions and Python has not taken yet: messages and plain parameters.

Rule: taken in place is only what Python would take without a word, by what is known here; whatever
is rare, refused or complained of goes to Python, which takes what came before it first. A draft
counts in the room of its execution from its writing on, and never less than what Python counts for
it. A guest's thread adds while the guest runs, Python takes while it waits: no lock.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy

from spear._core.sync cimport add64, load64

cdef enum:
    ROOM_BYTES_MAX = 16 << 20
    ENTRY = 64                     # what each entry counts beside its text
    STRUCTURES = 8                 # how often the text of a parameter counts
    MESSAGE_FRAME = 24             # {"role":"","content":""} is so long
    DRAFT_BYTES_MAX = 64 << 10     # of more than that the copy costs more than the hand-off
    DRAFTS = 64                    # of one session, until Python has looked

SESSION_BYTES_MAX, ENTRY_BYTES, STRUCTURE = <int>ROOM_BYTES_MAX, <int>ENTRY, <int>STRUCTURES
DRAFTS_MAX, MESSAGE, SETTING = <int>DRAFTS, <int>DRAFT_MESSAGE, <int>DRAFT_SETTING


# ---- room

cdef room_t *room_new() noexcept nogil:
    cdef room_t *room = <room_t *>malloc(sizeof(room_t))
    if room != NULL:
        room.refs, room.taken = 1, 0
    return room


cdef void room_retain(room_t *room) noexcept nogil:
    add64(&room.refs, 1)


cdef void room_release(room_t *room) noexcept nogil:
    if add64(&room.refs, -1) == 0:
        free(room)


cdef bint _room_take(room_t *room, int64_t size) noexcept nogil:
    if add64(&room.taken, size) <= ROOM_BYTES_MAX:
        return True
    add64(&room.taken, -size)
    return False


cdef class Room:
    """See drafts.pyi."""

    def __cinit__(self):
        self.native = NULL

    def __init__(self):
        self.native = room_new()
        if self.native == NULL:
            raise MemoryError("no memory for the room of an execution's sessions")

    def __dealloc__(self):
        if self.native != NULL:
            room_release(self.native)

    @property
    def taken(self):
        return load64(&self.native.taken)

    def add(self, int64_t size):
        add64(&self.native.taken, size)


cdef Room room_of(room_t *native):
    cdef Room room = Room.__new__(Room)
    room_retain(native)
    room.native = native
    return room


# ---- JSON

cdef int64_t _json_size(const uint8_t *text, uint32_t size) noexcept nogil:
    """Of the text as a JSON string, without its quotes; -1 where it is not in UTF-8."""
    cdef int64_t total = 0
    cdef uint32_t at = 0, more
    cdef uint8_t byte, least, most
    while at < size:
        byte = text[at]
        at += 1
        if 0x20 <= byte < 0x80:
            total += 2 if byte == c'"' or byte == c'\\' else 1
        elif byte < 0x20:
            total += 2 if byte == 8 or byte == 9 or byte == 10 or byte == 12 or byte == 13 else 6
        else:
            least, most = 0x80, 0xBF       # of the second byte: no surrogate, the shortest form
            if 0xC2 <= byte < 0xE0:
                more = 1
            elif 0xE0 <= byte < 0xF0:
                more = 2
                least, most = 0xA0 if byte == 0xE0 else 0x80, 0x9F if byte == 0xED else 0xBF
            elif 0xF0 <= byte <= 0xF4:
                more = 3
                least, most = 0x90 if byte == 0xF0 else 0x80, 0x8F if byte == 0xF4 else 0xBF
            else:
                return -1
            if size - at < more or not least <= text[at] <= most:
                return -1
            total += 1 + <int64_t>more
            at += 1
            more -= 1
            while more > 0:
                if text[at] & 0xC0 != 0x80:
                    return -1
                at += 1
                more -= 1
    return total


cdef const uint8_t *_space(const uint8_t *at, const uint8_t *end) noexcept nogil:
    while at < end and at[0] == c' ':
        at += 1
    return at


cdef const uint8_t *_sign(const uint8_t *at, const uint8_t *end, uint8_t sign) noexcept nogil:
    """Behind that character and the space around it; NULL where it is not there, or was not."""
    if at == NULL:
        return NULL
    at = _space(at, end)
    return _space(at + 1, end) if at < end and at[0] == sign else NULL


cdef const uint8_t *_plain_string(
    const uint8_t *at, const uint8_t *end, const uint8_t **text, size_t *size
) noexcept nogil:
    """Behind a string of printable ASCII without escapes; NULL where there is none."""
    if at == NULL or at == end or at[0] != c'"':
        return NULL
    at += 1
    text[0] = at
    while at < end and 0x20 <= at[0] < 0x7F and at[0] != c'"' and at[0] != c'\\':
        at += 1
    size[0] = at - text[0]
    return at + 1 if at < end and at[0] == c'"' else NULL


cdef const uint8_t *_count(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Behind a whole number of at most 9 digits; NULL where there is none."""
    cdef const uint8_t *first = at
    while at < end and c'0' <= at[0] <= c'9':
        at += 1
    if at == first or at - first > 9 or (first[0] == c'0' and at - first > 1):
        return NULL
    return at


cdef bint _is(const uint8_t *text, size_t size, const char *word, size_t word_size) noexcept nogil:
    return size == word_size and memcmp(text, word, size) == 0


cdef bint _begins(
    const uint8_t *text, size_t size, const char *word, size_t word_size
) noexcept nogil:
    return size >= word_size and memcmp(text, word, word_size) == 0


cdef bint _plain_setting(const uint8_t *at, const uint8_t *end) noexcept nogil:
    """{"key": "...", "value": ...} with a value that Python takes for this key: a text, or a whole
    number for what is none of the texts. A key with a dot may be MCP's, which has a policy."""
    cdef const uint8_t *key = NULL
    cdef const uint8_t *text = NULL
    cdef size_t key_size = 0, size = 0
    at = _plain_string(_sign(at, end, c'{'), end, &text, &size)
    if at == NULL or not _is(text, size, b"key", 3):
        return False
    at = _plain_string(_sign(at, end, c':'), end, &key, &key_size)
    if at == NULL or key_size == 0 or memchr(key, c'.', key_size) != NULL:
        return False
    at = _plain_string(_sign(at, end, c','), end, &text, &size)
    if at == NULL or not _is(text, size, b"value", 5):
        return False
    at = _sign(at, end, c':')
    if at == NULL or at == end:
        return False
    if at[0] != c'"':
        if _is(key, key_size, b"model", 5) or _is(key, key_size, b"backend", 7):
            return False
        at = _count(at, end)
    elif (_begins(key, key_size, b"max_", 4) or _begins(key, key_size, b"tool_", 5)
          or _begins(key, key_size, b"timeout", 7)):
        return False
    else:
        at = _plain_string(at, end, &text, &size)
    return _sign(at, end, c'}') == end


# ---- drafts

cdef drafts_t *drafts_new(room_t *room) noexcept nogil:
    cdef drafts_t *drafts = <drafts_t *>malloc(sizeof(drafts_t))
    if drafts != NULL:
        room_retain(room)
        drafts.room, drafts.first, drafts.last, drafts.left = room, NULL, NULL, DRAFTS
    return drafts


cdef void _drop_first(drafts_t *drafts) noexcept nogil:
    cdef draft_t *draft = drafts.first
    drafts.first = draft.next
    if drafts.first == NULL:
        drafts.last = NULL
    add64(&drafts.room.taken, -draft.charge)
    free(draft)


cdef void drafts_free(drafts_t *drafts) noexcept nogil:
    while drafts.first != NULL:
        _drop_first(drafts)
    room_release(drafts.room)
    free(drafts)


cdef bint _add(
    drafts_t *drafts, uint8_t kind, int64_t charge, const uint8_t *first, uint32_t first_size,
    const uint8_t *second, uint32_t second_size
) noexcept nogil:
    cdef draft_t *draft
    if not _room_take(drafts.room, charge):
        return False
    draft = <draft_t *>malloc(sizeof(draft_t) + first_size + second_size)
    if draft == NULL:
        add64(&drafts.room.taken, -charge)
        return False
    draft.next, draft.charge, draft.kind = NULL, charge, kind
    draft.first_size, draft.second_size = first_size, second_size
    if first_size > 0:
        memcpy(<uint8_t *>(draft + 1), first, first_size)
    if second_size > 0:
        memcpy(<uint8_t *>(draft + 1) + first_size, second, second_size)
    if drafts.last == NULL:
        drafts.first = draft
    else:
        drafts.last.next = draft
    drafts.last = draft
    drafts.left -= 1
    return True


cdef bint draft_message(
    drafts_t *drafts, const uint8_t *role, uint32_t role_size, const uint8_t *content,
    uint32_t content_size
) noexcept nogil:
    cdef int64_t first, second
    if drafts.left <= 0 or <uint64_t>role_size + content_size > DRAFT_BYTES_MAX:
        return False
    first, second = _json_size(role, role_size), _json_size(content, content_size)
    if first < 0 or second < 0:
        return False
    return _add(
        drafts, DRAFT_MESSAGE, MESSAGE_FRAME + first + second + ENTRY, role, role_size, content,
        content_size)


cdef bint draft_setting(drafts_t *drafts, const uint8_t *text, uint32_t size) noexcept nogil:
    if drafts.left <= 0 or size > DRAFT_BYTES_MAX or not _plain_setting(text, text + size):
        return False
    return _add(
        drafts, DRAFT_SETTING, (<int64_t>size + ENTRY) * STRUCTURES, text, size, NULL, 0)


cdef list drafts_take(drafts_t *drafts, int32_t left):
    cdef list found = []
    cdef draft_t *draft = drafts.first
    cdef const char *text
    while draft != NULL:
        text = <const char *>(draft + 1)
        found.append((
            draft.kind, text[:draft.first_size],
            text[draft.first_size:draft.first_size + draft.second_size],
            draft.charge if draft.kind == DRAFT_MESSAGE else 0))
        draft = draft.next
    while drafts.first != NULL:            # once all are given: what cannot be, stays
        _drop_first(drafts)
    drafts.left = min(left, <int32_t>DRAFTS)
    return found


cdef class Drafts:
    """See drafts.pyi."""

    def __init__(self, Room room not None):
        self.native = drafts_new(room.native)
        if self.native == NULL:
            raise MemoryError("no memory for drafts")

    def __dealloc__(self):
        if self.native != NULL:
            drafts_free(self.native)

    def message(self, bytes role not None, bytes content not None):
        return bool(draft_message(
            self.native, <const uint8_t *><const char *>role, <uint32_t>len(role),
            <const uint8_t *><const char *>content, <uint32_t>len(content)))

    def setting(self, bytes text not None):
        return bool(draft_setting(
            self.native, <const uint8_t *><const char *>text, <uint32_t>len(text)))

    def take(self, int32_t left):
        return drafts_take(self.native, left)
