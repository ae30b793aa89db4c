/* spear.h: what a C guest may ask of its SPEAR host.
 *
 * Build with zig's C compiler (pip install ziglang):
 *
 *   python -m ziglang cc -target wasm32-wasi -O2 -I sdk/c \
 *       -Wl,-z,stack-size=65536 -o agent.wasm agent.c
 *
 * The small stack matters: the default of 16 MiB makes each instance far dearer to start.
 *
 * A guest gets its input and gives its output the ordinary way: argv, environment and stdin in;
 * stdout and the exit code out; each line of stdout is logged too, and stderr at level error.
 *
 * Rules for every call below: a result under 0 is a negated SPEAR_E... number (not one of
 * errno.h, whose numbers differ); strings are pointer + length, not NUL-terminated; everything is
 * little-endian. "len in/out": *len is the room on entry and the size on return; where the room is
 * too small the call writes only the size it needs to *len and returns -SPEAR_ENOSPC.
 */
#ifndef SPEAR_H
#define SPEAR_H

#include <stddef.h>
#include <stdint.h>
#ifndef SPEAR_NO_STDIO
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SPEAR_IMPORT(name) __attribute__((import_module("spear"), import_name(name)))

/* ---- Error numbers ------------------------------------------------------------------------- */

enum {
    SPEAR_EPERM = 1,
    SPEAR_ENOENT = 2,
    SPEAR_EIO = 5,
    SPEAR_EBADF = 9,
    SPEAR_EAGAIN = 11,
    SPEAR_ENOMEM = 12,
    SPEAR_EACCES = 13,
    SPEAR_EFAULT = 14,
    SPEAR_EBUSY = 16,
    SPEAR_EEXIST = 17,
    SPEAR_EINVAL = 22,
    SPEAR_ENOSPC = 28,
    SPEAR_EPIPE = 32,
    SPEAR_ENOSYS = 38,
    SPEAR_ECONNRESET = 104,
    SPEAR_ENOTCONN = 107,
    SPEAR_ETIMEDOUT = 110,
    SPEAR_ESTALE = 116,
};

/* ---- Time, randomness, sleep --------------------------------------------------------------- */

/* Unix time in milliseconds. */
SPEAR_IMPORT("time_now_ms") int64_t sp_time_now_ms(void);

/* Unix time in seconds. */
SPEAR_IMPORT("wall_time_s") int64_t sp_wall_time_s(void);

/* 64 uniformly random bits. */
SPEAR_IMPORT("random_i64") int64_t sp_random_i64(void);

/* Sleeps; costs the host no thread. A negative value sleeps until the execution is ended. */
SPEAR_IMPORT("sleep_ms") void sp_sleep_ms(int32_t ms);

/* ---- Log ----------------------------------------------------------------------------------- */

enum {
    SPEAR_TRACE = 0,
    SPEAR_DEBUG = 1,
    SPEAR_INFO = 2,
    SPEAR_WARN = 3,
    SPEAR_ERROR = 4,
};

#define SPEAR_LOG_BYTES_MAX 16384

/* One log entry. 0; -EINVAL if len is negative or above SPEAR_LOG_BYTES_MAX (nothing is logged);
 * -EFAULT if the text is not inside memory. An unknown level counts as info. */
SPEAR_IMPORT("log") int32_t sp_log(int32_t level, const char *text, int32_t len);

/* Logs a C string, cut at SPEAR_LOG_BYTES_MAX. */
static inline int32_t sp_log_str(int32_t level, const char *text)
{
    int32_t len = 0;
    while (len < SPEAR_LOG_BYTES_MAX && text[len] != '\0')
        len++;
    return sp_log(level, text, len);
}

#ifndef SPEAR_NO_STDIO
/* Logs a formatted message, cut at 1,023 bytes. */
__attribute__((format(printf, 2, 3)))
static inline int32_t sp_logf(int32_t level, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len < 0)
        return -SPEAR_EINVAL;
    return sp_log(level, text, len < (int)sizeof text ? len : (int)sizeof text - 1);
}
#endif

/* ---- Descriptors ----------------------------------------------------------------------------
 * Numbers from 1000 upward, never given out twice. 1,024 may be open at once (-ENOMEM), and a
 * million in all. A closed one stays known: closing it again is 0. -EBADF: no such descriptor, or
 * not of the call's kind. -EFAULT: memory that is not inside. Reads and writes never wait.
 * --------------------------------------------------------------------------------------------- */

/* ---- User streams --------------------------------------------------------------------------
 * Frames between this guest and clients, by stream id. A frame is whole, header included, of at
 * most 256 KiB (little endian): "SPST", u16 version 1, u16 header length (32), u16 type (2: data),
 * u16 flags, u32 stream id, u64 sequence, u32 length of meta, u32 length of data, meta, data. 2 MiB
 * wait each way. Readiness: IN a frame is there, OUT any frame fits, ERR, HUP the client is gone.
 * --------------------------------------------------------------------------------------------- */

enum { SPEAR_STREAM_IN = 1, SPEAR_STREAM_OUT = 2, SPEAR_STREAM_BOTH = 3 }; /* direction */
enum { SPEAR_STREAM_CONNECTED = 1, SPEAR_STREAM_SESSION_CLOSED = 2 };      /* event kind */

typedef struct { uint32_t stream_id, kind; } sp_stream_event;

/* A descriptor of the stream; what clients sent before is waiting. -EINVAL for a negative id or
 * another direction, -ENOTCONN outside an execution, -ENOMEM at 64 streams. */
SPEAR_IMPORT("user_stream_open") int32_t sp_user_stream_open(int32_t stream_id, int32_t direction);
/* Takes one frame (len in/out) and gives its size. -EAGAIN if there is none, -ENOSPC (the frame
 * stays), -EINVAL if the descriptor does not read. */
SPEAR_IMPORT("user_stream_read") int32_t sp_user_stream_read(int32_t fd, void *out, uint32_t *len);
/* Sends one frame; 0, not a count. -EINVAL if it is no frame of this stream, is too large, or the
 * descriptor does not write; -ENOTCONN before a client came, -EPIPE after it went, -EAGAIN without
 * room. */
SPEAR_IMPORT("user_stream_write")
int32_t sp_user_stream_write(int32_t fd, const void *frame, int32_t len);
/* Closes a stream's descriptor or a control one. 0 or -EBADF. */
SPEAR_IMPORT("user_stream_close") int32_t sp_user_stream_close(int32_t fd);
/* A descriptor that tells which streams have a client; one opened late gets what it missed.
 * -ENOTCONN, -ENOMEM as open. */
SPEAR_IMPORT("user_stream_ctl_open") int32_t sp_user_stream_ctl_open(void);
/* Takes one event (len in/out) and gives 8. -EAGAIN if there is none, -ENOSPC (it stays). Of
 * 1,024 that wait the oldest are dropped. */
SPEAR_IMPORT("user_stream_ctl_read")
int32_t sp_user_stream_ctl_read(int32_t fd, sp_stream_event *out, uint32_t *len);

/* ---- Waiting for several descriptors (level triggered) --------------------------------------- */

enum {
    SPEAR_EPOLLIN = 0x001,
    SPEAR_EPOLLOUT = 0x004,
    SPEAR_EPOLLERR = 0x008,
    SPEAR_EPOLLHUP = 0x010,
};
enum { SPEAR_EPOLL_ADD = 1, SPEAR_EPOLL_MOD = 2, SPEAR_EPOLL_DEL = 3 };

typedef struct { int32_t fd, events; } sp_epoll_event;

/* A descriptor that watches others. -ENOMEM. */
SPEAR_IMPORT("spear_epoll_create") int32_t sp_epoll_create(void);
/* ADD also overwrites; MOD and DEL of one not watched are 0. ERR and HUP are reported only if they
 * are asked for in events; a closed descriptor hangs up until DEL. -EINVAL for another op or an
 * epoll as fd, -ENOMEM at 4,096 watches. */
SPEAR_IMPORT("spear_epoll_ctl")
int32_t sp_epoll_ctl(int32_t epfd, int32_t op, int32_t fd, int32_t events);
/* Waits until something is ready and gives the number of records, lowest descriptor first; *len
 * counts bytes both ways. timeout_ms: -1 for ever, 0 a look; when it is over 0, and *len is 0.
 * -ENOSPC for room of less than a record. Costs the host no thread, and time by what is watched. */
SPEAR_IMPORT("spear_epoll_wait")
int32_t sp_epoll_wait(int32_t epfd, sp_epoll_event *out, uint32_t *len, int32_t timeout_ms);
/* Closes it; what it watched is not changed. 0 or -EBADF. */
SPEAR_IMPORT("spear_epoll_close") int32_t sp_epoll_close(int32_t epfd);

/* ---- Any descriptor ------------------------------------------------------------------------ */

enum { /* sp_fd_ctl */
    SPEAR_FD_SET_FLAGS = 1,   /* {"set":["O_NONBLOCK"],"clear":[]} of *len bytes, at most 4,096 */
    SPEAR_FD_GET_FLAGS = 2,   /* {"flags":[]} */
    SPEAR_FD_GET_KIND = 3,    /* {"kind":"UserStream"} */
    SPEAR_FD_GET_STATUS = 4,  /* {"kind","flags","poll_mask":["EPOLLIN"],"closed":false} */
    SPEAR_FD_GET_METRICS = 5, /* of its kind; {} where there are none */
};

/* JSON in or out; also of a closed one. The GET commands use len in/out and give the size, SET_FLAGS
 * gives 0. -EINVAL for bad JSON or another command, -ENOSPC. */
SPEAR_IMPORT("spear_fd_ctl") int32_t sp_fd_ctl(int32_t fd, int32_t cmd, void *arg, uint32_t *len);

/* ---- Objects --------------------------------------------------------------------------------
 *
 * Values under names, in the node's memory: they outlive the execution, not the node. Agents share
 * them, and Python sees them too.
 *
 * Names: "shared/..." is common to all; "/TASK/..." is that task's, for itself and for whom it was
 * granted; any other name is the own task's: "x" and "/OWN TASK/x" are one object. A name is UTF-8,
 * is never normalised, and has 1 to SPEAR_KEY_BYTES_MAX bytes with its namespace. Stat and list show
 * full names ("/TASK/x", "shared/x"), which every call takes.
 *
 * Versions grow with every put, over the whole store, and are never given twice. To change a value
 * nobody else may have changed meanwhile: get it with its version, put the new one with that as
 * if_version (0: there was none), and begin again on -ESTALE or -EEXIST.
 *
 * When the store is full, the least recently used objects that are neither referenced nor pinned
 * go. References and pins belong to the object, not to who made them: they stay until taken away.
 *
 * Every call may give: -EFAULT a pointer or length outside memory; -EINVAL a name that is no name,
 * or another argument outside its range; -EACCES the object is another task's and not granted;
 * -ENOSYS the host gave this execution no store. All but put and list: -ENOENT there is no such
 * object.
 */

#define SPEAR_KEY_BYTES_MAX 1024
#define SPEAR_LIST_LIMIT_MAX 10000

enum { SPEAR_ANY_VERSION = -1, SPEAR_MUST_NOT_EXIST = 0 }; /* if_version */
enum { SPEAR_OBJECT_DURABLE = 1 << 0 };                    /* sp_object_put, flags */
enum { SPEAR_OBJECT_FORCE = 1 << 0 };                      /* sp_object_delete, flags */

/* Stores a copy of the value; 0, and its version if version is not NULL. The object's metadata
 * becomes empty, references and pin stay. -EEXIST (if_version 0), -ESTALE (any other): it is at
 * another version; -ENOMEM: no room, nothing was changed. With SPEAR_OBJECT_DURABLE it waits until
 * the object outlives the host, and gives: -EIO it is stored, but in memory only; -ENOSYS nothing is
 * stored, as the host keeps no objects. */
SPEAR_IMPORT("object_put")
int32_t sp_object_put(const char *key, int32_t key_len, const void *value, int32_t value_len,
                      int64_t if_version, int32_t flags, int64_t *version);

/* Copies the value (len in/out) and, if version is not NULL, its version. Gives the size. What is
 * longer than 2 GiB fits nowhere: -ENOSPC, with *len its size or, from 4 GiB on, 0xffffffff. */
SPEAR_IMPORT("object_get")
int32_t sp_object_get(const char *key, int32_t key_len, void *out, uint32_t *len,
                      int64_t *version);

/* {"key":...,"size":...,"version":...,"refs":...,"pinned":...,"created_ms":...,"updated_ms":...,
 * "metadata":{...}} without spaces (len in/out). Gives the size. */
SPEAR_IMPORT("object_stat")
int32_t sp_object_stat(const char *key, int32_t key_len, void *out, uint32_t *len);

/* A JSON array of those, of the objects whose full names begin with the prefix's full name, by
 * byte order of full names, from the first above after (after_len 0: from the first), at most
 * limit (1 to SPEAR_LIST_LIMIT_MAX). All of one moment but for refs and pinned of lists above 64
 * rows, which are as they are now. A prefix "/..." names a whole task ("/TASK/"), else -EINVAL; the
 * empty one is the own task. Len in/out; gives the size. -ENOMEM: the host is out of room. */
SPEAR_IMPORT("object_list")
int32_t sp_object_list(const char *prefix, int32_t prefix_len, const char *after, int32_t after_len,
                       int32_t limit, void *out, uint32_t *len);

/* Deletes the object; 0. -EBUSY: it is referenced or pinned, and flags lack SPEAR_OBJECT_FORCE;
 * -ESTALE: it is not at if_version. */
SPEAR_IMPORT("object_delete")
int32_t sp_object_delete(const char *key, int32_t key_len, int64_t if_version, int32_t flags);

/* Adds or removes count (1 or more) references; gives how many there are now. -EINVAL: fewer than 0
 * or more than 2^31 - 1 would remain; nothing was changed. */
SPEAR_IMPORT("object_add_ref")
int32_t sp_object_add_ref(const char *key, int32_t key_len, int32_t count);
SPEAR_IMPORT("object_remove_ref")
int32_t sp_object_remove_ref(const char *key, int32_t key_len, int32_t count);

/* Keeps the object from going when the store is full; pinning twice is pinning. 0. */
SPEAR_IMPORT("object_pin") int32_t sp_object_pin(const char *key, int32_t key_len);
SPEAR_IMPORT("object_unpin") int32_t sp_object_unpin(const char *key, int32_t key_len);

/* ---- Chat ------------------------------------------------------------------------------------
 *
 * A session is a list of messages, tools and parameters; each send asks a model with all of it and
 * gives a response. Every call may give: -EFAULT memory that is not inside, -EBADF no such
 * descriptor, -ENOMEM too many descriptors or bytes, -EIO the host failed, -ENOSYS nothing here
 * answers it (no models are served, or the run is deterministic).
 */

enum { SPEAR_CHAT_SET_PARAM = 1, SPEAR_CHAT_GET_METRICS = 2 };            /* sp_cchat_ctl */
enum { SPEAR_CHAT_METRICS = 1 << 0, SPEAR_CHAT_AUTO_TOOL_CALL = 1 << 1 }; /* flags of a send */

/* A tool in the guest: reads its arguments as JSON, writes its answer as UTF-8 (len in/out). */
typedef int32_t (*sp_tool)(const char *args, int32_t args_len, char *out, uint32_t *out_len);

/* A new session's descriptor. */
SPEAR_IMPORT("cchat_create") int32_t sp_cchat_create(void);
/* Appends a message of at most 16 MiB (-EINVAL); 0. */
SPEAR_IMPORT("cchat_write_msg")
int32_t sp_cchat_write_msg(int32_t fd, const char *role, int32_t role_len,
                           const char *content, int32_t content_len);
/* Offers a tool, described by an OpenAI tool object of at most 1 MiB (-EINVAL), which is not looked
 * at here; 0. Link with -Wl,--export-table. */
SPEAR_IMPORT("cchat_write_fn")
int32_t sp_cchat_write_fn(int32_t fd, sp_tool tool, const char *json, int32_t json_len);
/* SET_PARAM: {"key":..., "value":...} of *len bytes; 0, -EIO if it is no such JSON, -EACCES or
 * -EINVAL for a value that is not allowed or too long. Of a response it does nothing. GET_METRICS,
 * of a response: JSON, {} unless it was asked with SPEAR_CHAT_METRICS (len in/out); gives the size.
 * -EAGAIN: its stream is not over. -EINVAL: another cmd. */
SPEAR_IMPORT("cchat_ctl") int32_t sp_cchat_ctl(int32_t fd, int32_t cmd, void *arg, uint32_t *len);
/* Waits for the model's answer; gives the response's descriptor, also where the request failed:
 * then it is {"error":{...}}. Tools run meanwhile, and may send; -EIO for the ninth inside. */
SPEAR_IMPORT("cchat_send") int32_t sp_cchat_send(int32_t fd, int32_t flags);
/* Copies the response's JSON (len in/out); may be repeated. Gives the size. Also of a closed one:
 * the last, and of the last 64 what is 16 MiB together. -EAGAIN: a stream that is not over. */
SPEAR_IMPORT("cchat_recv") int32_t sp_cchat_recv(int32_t response_fd, void *out, uint32_t *len);
/* Closes a session, a response or a stream. 0 or -EBADF. */
SPEAR_IMPORT("cchat_close") int32_t sp_cchat_close(int32_t fd);

/* As a send, but answers at once with a stream, which is readable (EPOLLIN) while there are events
 * and once it is over. -EINVAL: SPEAR_CHAT_AUTO_TOOL_CALL; -ENOMEM: those that go on have asked with
 * 64 MiB, where each counts 1 MiB more. Close it to end the request. */
SPEAR_IMPORT("cchat_stream") int32_t sp_cchat_stream(int32_t fd, int32_t flags);
/* Takes one event (len in/out) and gives its size; 0 once it is over, -EAGAIN if there is none yet,
 * -ENOSPC (it stays). An event is {"type":"delta","content":...}, {"type":"tool_calls",...},
 * {"type":"end",...} or {"type":"error",...}. Once it is over, sp_cchat_recv gives the response. */
SPEAR_IMPORT("cchat_stream_read")
int32_t sp_cchat_stream_read(int32_t fd, void *out, uint32_t *len);

/* Has {"input": text or [texts], "model"?, ...} of at most 16 MiB embedded and waits; gives a
 * response's descriptor, as sp_cchat_send does. -EINVAL: it is no such JSON. flags: METRICS. */
SPEAR_IMPORT("embed_send")
int32_t sp_embed_send(const char *json, int32_t json_len, int32_t flags);

/* ---- Tasks -----------------------------------------------------------------------------------
 * Agents call agents. Errors as of chat; the tree of calls shares a deadline, ends with its root,
 * and is bounded in depth (-EPERM) and in calls at once (-EBUSY).
 */

enum { SPEAR_TASK_ASYNC = 1 << 0, SPEAR_TASK_DETACHED = 1 << 1 }; /* sp_task_invoke, flags */

/* {"task":..., "function"?, "args"?, "env"?, "timeout_ms"?, "priority"?, "idempotency_key"?} and
 * the task's input, at most 16 MiB together. Gives a descriptor of the call: when the task has ended
 * or, with ASYNC, at once. DETACHED: it outlives this execution. -ENOENT no such task, -EACCES this
 * task's config does not allow it, -EAGAIN its queue is full, -EINVAL the request is none. */
SPEAR_IMPORT("task_invoke")
int32_t sp_task_invoke(const char *request, int32_t request_len, const void *input,
                       int32_t input_len, int32_t flags);
/* Waits until it has ended: 0. timeout_ms: -1 for ever, 0 a look; -ETIMEDOUT. A call's descriptor
 * is readable (EPOLLIN) once it has ended. */
SPEAR_IMPORT("task_wait") int32_t sp_task_wait(int32_t fd, int32_t timeout_ms);
/* What it gave (len in/out); may be repeated. -EAGAIN: not ended, -EIO: not completed. */
SPEAR_IMPORT("task_result") int32_t sp_task_result(int32_t fd, void *out, uint32_t *len);
/* {"execution_id","task","status","cause",...} (len in/out). -EAGAIN: not ended. */
SPEAR_IMPORT("task_status") int32_t sp_task_status(int32_t fd, void *out, uint32_t *len);
/* Asks that it be ended; 0, also if it has ended. */
SPEAR_IMPORT("task_cancel")
int32_t sp_task_cancel(int32_t fd, const char *reason, int32_t reason_len);
/* Closes the descriptor; what runs goes on. 0 or -EBADF. */
SPEAR_IMPORT("task_close") int32_t sp_task_close(int32_t fd);

#ifndef SPEAR_NO_STDIO
/* ---- Into memory of the C library's, to be free()d by who asked ------------------------------ */

typedef int32_t (*sp_reader)(int32_t fd, void *out, uint32_t *len);

/* Reads all, with a NUL behind it, into *out; gives the size. Begins with 64 KiB and asks again, at
 * most three times, where that is too small. On an error *out is NULL. */
static inline int32_t sp_read_alloc(sp_reader read, int32_t fd, char **out)
{
    uint32_t room = 64 * 1024;
    *out = NULL;
    for (int tries = 0; tries < 4; tries++) {
        char *data = (char *)malloc((size_t)room + 1);
        uint32_t len = room;
        if (data == NULL)
            return -SPEAR_ENOMEM;
        int32_t size = read(fd, data, &len);
        if (size >= 0) {
            data[size] = '\0';
            *out = data;
            return size;
        }
        free(data);
        if (size != -SPEAR_ENOSPC)
            return size;
        room = len;
    }
    return -SPEAR_ENOSPC;
}

/* A response, a task's output, its status; a response's metrics. */
static inline int32_t sp_cchat_recv_alloc(int32_t fd, char **out)
{
    return sp_read_alloc(sp_cchat_recv, fd, out);
}
static inline int32_t sp_task_result_alloc(int32_t fd, char **out)
{
    return sp_read_alloc(sp_task_result, fd, out);
}
static inline int32_t sp_task_status_alloc(int32_t fd, char **out)
{
    return sp_read_alloc(sp_task_status, fd, out);
}
static inline int32_t sp_cchat_metrics(int32_t fd, void *out, uint32_t *len)
{
    return sp_cchat_ctl(fd, SPEAR_CHAT_GET_METRICS, out, len);
}
static inline int32_t sp_cchat_metrics_alloc(int32_t fd, char **out)
{
    return sp_read_alloc(sp_cchat_metrics, fd, out);
}
#endif

/* Conveniences with C strings. */
static inline int32_t sp_text_len(const char *text)
{
    int32_t len = 0;
    while (text[len] != '\0')
        len++;
    return len;
}

static inline int32_t sp_chat_write(int32_t fd, const char *role, const char *content)
{
    return sp_cchat_write_msg(fd, role, sp_text_len(role), content, sp_text_len(content));
}

static inline int32_t sp_chat_tool(int32_t fd, sp_tool tool, const char *json)
{
    return sp_cchat_write_fn(fd, tool, json, sp_text_len(json));
}

#ifndef SPEAR_NO_STDIO
/* Sets a parameter; value is JSON: "8", "\"text\"", "[1]". The key has no quotes in it. */
static inline int32_t sp_chat_param(int32_t fd, const char *key, const char *value)
{
    int32_t room = sp_text_len(key) + sp_text_len(value) + 32;
    char *json = (char *)malloc((size_t)room);
    if (json == NULL)
        return -SPEAR_ENOMEM;
    uint32_t len = (uint32_t)snprintf(
        json, (size_t)room, "{\"key\":\"%s\",\"value\":%s}", key, value);
    int32_t status = sp_cchat_ctl(fd, SPEAR_CHAT_SET_PARAM, json, &len);
    free(json);
    return status;
}

/* Where tools get their arguments and leave their output: memory that stays during sends. */
static inline int32_t sp_chat_arena(int32_t fd, void *arena, uint32_t len)
{
    char text[16];
    snprintf(text, sizeof text, "%u", (unsigned)(uintptr_t)arena);
    int32_t status = sp_chat_param(fd, "tool_arena_ptr", text);
    if (status < 0)
        return status;
    snprintf(text, sizeof text, "%u", (unsigned)len);
    return sp_chat_param(fd, "tool_arena_len", text);
}

/* Sends, reads the whole response into *out and closes it; gives its size. */
static inline int32_t sp_chat_ask(int32_t fd, int32_t flags, char **out)
{
    *out = NULL;
    int32_t response = sp_cchat_send(fd, flags);
    if (response < 0)
        return response;
    int32_t size = sp_cchat_recv_alloc(response, out);
    sp_cchat_close(response);
    return size;
}
#endif

/* ==== Declared, not served yet =================================================================
 * The calls from here to the end of the file belong to the ABI and keep their shape, so a guest
 * that uses them links and starts; until the host serves one, it returns -SPEAR_ENOSYS and the
 * first such call logs a warning.
 * ============================================================================================= */

/* ---- Realtime speech recognition ----------------------------------------------------------- */

enum { /* sp_rtasr_ctl */
    SPEAR_RTASR_SET_PARAM = 1,
    SPEAR_RTASR_CONNECT = 2,
    SPEAR_RTASR_GET_STATUS = 3,
    SPEAR_RTASR_SEND_EVENT = 4,
    SPEAR_RTASR_FLUSH = 5,
    SPEAR_RTASR_CLEAR = 6,
    SPEAR_RTASR_SET_AUTOFLUSH = 7,
    SPEAR_RTASR_GET_AUTOFLUSH = 8,
};

SPEAR_IMPORT("rtasr_create") int32_t sp_rtasr_create(void);
/* len must be valid for every command, also for one without an argument (*len = 0). */
SPEAR_IMPORT("rtasr_ctl") int32_t sp_rtasr_ctl(int32_t fd, int32_t cmd, void *arg, uint32_t *len);
/* Queues audio; gives the bytes accepted, or -EAGAIN. */
SPEAR_IMPORT("rtasr_write") int32_t sp_rtasr_write(int32_t fd, const void *pcm, int32_t len);
/* Takes one event (len in/out), or -EAGAIN. */
SPEAR_IMPORT("rtasr_read") int32_t sp_rtasr_read(int32_t fd, void *out, uint32_t *len);
SPEAR_IMPORT("rtasr_close") int32_t sp_rtasr_close(int32_t fd);

/* ---- Microphone ---------------------------------------------------------------------------- */

enum { SPEAR_MIC_SET_PARAM = 1, SPEAR_MIC_GET_STATUS = 2 }; /* sp_mic_ctl */

SPEAR_IMPORT("mic_create") int32_t sp_mic_create(void);
/* SET_PARAM (one flat JSON object) starts the capture anew. */
SPEAR_IMPORT("mic_ctl") int32_t sp_mic_ctl(int32_t fd, int32_t cmd, void *arg, uint32_t *len);
/* Takes one PCM frame (len in/out), or -EAGAIN. */
SPEAR_IMPORT("mic_read") int32_t sp_mic_read(int32_t fd, void *out, uint32_t *len);
SPEAR_IMPORT("mic_close") int32_t sp_mic_close(int32_t fd);

#ifdef __cplusplus
}
#endif
#endif
