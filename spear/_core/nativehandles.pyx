"""Descriptors that Python answers for: the native half, without the GIL.

Rule: a guest never touches a Python object, and Python never a guest's table. What both share is
the result, which is written once and then told by the guest's bell. Opened means promised: how ever
the descriptor ends, its note reaches the door, whose memory was taken when it was opened.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free

from spear._core.channels cimport *
from spear._core.descriptors cimport *
from spear._core.drafts cimport drafts_free
from spear._core.hub cimport hub_post, note_new
from spear._core.sync cimport *

cdef int64_t _live = 0

cdef fd_ops _session, _response, _stream, _task
_session.kind, _session.poll, _session.release = FD_CHAT_SESSION, NULL, _leave
_response.kind, _response.poll, _response.release = FD_CHAT_RESPONSE, _poll, _leave
_stream.kind, _stream.poll, _stream.release = FD_CHAT_STREAM, _poll_stream, _leave
_task.kind, _task.poll, _task.release = FD_TASK_CALL, _poll, _leave


cdef const fd_ops *handle_ops(uint8_t kind) noexcept nogil:
    if kind == FD_CHAT_SESSION:
        return &_session
    if kind == FD_CHAT_RESPONSE:
        return &_response
    if kind == FD_CHAT_STREAM:
        return &_stream
    return &_task if kind == FD_TASK_CALL else NULL


cdef int64_t handles_live() noexcept nogil:
    return load64(&_live)


# ---- its life

cdef handle_t *handle_new(uint8_t kind, channel_t *channel, void *face) noexcept nogil:
    cdef handle_t *handle = <handle_t *>calloc(1, sizeof(handle_t))
    if handle == NULL:
        return NULL
    pthread_mutex_init(&handle.lock, NULL)
    handle.topic, handle.kind, handle.refs = TOPIC_HANDLE, kind, 1
    handle.channel, handle.face = channel, face
    if channel != NULL:
        channel_retain(channel)
    add64(&_live, 1)
    return handle


cdef void handle_retain(handle_t *handle) noexcept nogil:
    add64(&handle.refs, 1)


cdef void handle_release(handle_t *handle) noexcept nogil:
    if add64(&handle.refs, -1) != 0:
        return
    free(handle.note)
    free(handle.body)
    free(handle.about)
    if handle.drafts != NULL:
        drafts_free(handle.drafts)
    if handle.channel != NULL:
        channel_release(handle.channel)
    if handle.bell != NULL:
        bell_release(handle.bell)
    pthread_mutex_destroy(&handle.lock)
    free(handle)
    add64(&_live, -1)


cdef void _let_go(void *handle) noexcept nogil:
    handle_release(<handle_t *>handle)


cdef bint handle_promise(handle_t *handle, hub_t *hub) noexcept nogil:
    handle.hub, handle.note = hub, note_new(handle, _let_go)
    if handle.note == NULL:
        return False
    handle_retain(handle)
    return True


cdef bint handle_adopt(handle_t *handle, void *face) noexcept nogil:
    pthread_mutex_lock(&handle.lock)
    cdef bint told = not handle.closed
    handle.face = face
    pthread_mutex_unlock(&handle.lock)
    handle_retain(handle)
    return told


cdef void handle_close(handle_t *handle) noexcept nogil:
    cdef note_t *note = handle.note
    cdef bint known
    pthread_mutex_lock(&handle.lock)
    handle.closed = True
    known = handle.face != NULL
    pthread_mutex_unlock(&handle.lock)
    if not known:                  # there is nobody to tell
        handle_release(handle)
        return
    handle.note = NULL
    if handle.channel != NULL:     # a writer that waits for room learns that nobody reads
        channel_close(handle.channel, CHANNEL_HUP)
        channel_drop(handle.channel, INT64_MAX)
    hub_post(handle.hub, note)


# ---- its result

cdef void handle_bind(handle_t *handle, bell_t *bell) noexcept nogil:
    bell_retain(bell)
    pthread_mutex_lock(&handle.lock)
    handle.bell = bell
    pthread_mutex_unlock(&handle.lock)
    if handle.channel != NULL:
        channel_bind(handle.channel, bell)


cdef bint handle_finish(
    handle_t *handle, int32_t status, uint8_t *body, uint32_t body_size, uint8_t *about,
    uint32_t about_size
) noexcept nogil:
    """Written under the lock, told after it: a guest that looks after arming its bell sees one."""
    cdef bell_t *bell = NULL
    if handle.channel != NULL:     # first, so that nothing comes behind the end
        channel_close(handle.channel, CHANNEL_HUP)
    pthread_mutex_lock(&handle.lock)
    cdef bint first = not handle.finished
    if first:
        handle.status = status
        handle.body, handle.body_size = body, body_size
        handle.about, handle.about_size = about, about_size
        handle.finished = True
        bell = handle.bell
    pthread_mutex_unlock(&handle.lock)
    if not first:
        free(body)
        free(about)
        return False
    if bell != NULL:               # the handle's, which its caller holds
        bell_ring(bell)
    return True


cdef bint handle_finished(handle_t *handle) noexcept nogil:
    pthread_mutex_lock(&handle.lock)
    cdef bint finished = handle.finished
    pthread_mutex_unlock(&handle.lock)
    return finished


# ---- as a descriptor

cdef uint32_t _poll(const descriptor_t *descriptor) noexcept nogil:
    return EPOLL_IN if handle_finished(<handle_t *>descriptor.object) else 0


cdef uint32_t _poll_stream(const descriptor_t *descriptor) noexcept nogil:
    cdef handle_t *handle = <handle_t *>descriptor.object
    if handle_finished(handle) or channel_peek(handle.channel) >= 0:
        return EPOLL_IN
    return 0


cdef void _leave(descriptor_t *descriptor) noexcept nogil:
    handle_close(<handle_t *>descriptor.object)
