// build: -nostdlib -fno-builtin
/* Makes the object calls that stdin asks for and prints each answer.
 *
 * stdin: for each call a `request`, then its name, then its second text (a value or a start).
 * stdout: for each call an `answer`, then `len` bytes where a read succeeded.
 * The room a request states is really there, filled with '?': a call that writes past what it
 * says, or writes although it fails, gives itself away in `stained`.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

enum { PUT, GET, STAT, LIST, DELETE, ADD_REF, REMOVE_REF, PIN, UNPIN, AWAIT };
enum { ROOM_MAX = 1 << 16, UNSET = -7 };
enum { LAST_SEEN = -1000 }; /* if_version: what the last get or put of any name gave */

typedef struct {
    int32_t call, flags, number;
    uint32_t room, name_len, text_len;
    int64_t if_version;
} request;

typedef struct {
    int32_t result;
    uint32_t len, stained, padding;
    int64_t version, began_ns, ended_ns;
} answer;

static char out[ROOM_MAX + 8];

static int64_t clock_ns(void)
{
    uint64_t ns = 0;
    wasi_clock_time_get(1, 1, &ns);
    return (int64_t)ns;
}

static void *read_all(uint32_t *size)
{
    uint32_t have = 0, room_size = 1 << 16, done;
    char *text = room(room_size);
    for (;;) {
        iovec v = {text + have, room_size - have};
        if (wasi_fd_read(0, &v, 1, &done) || done == 0)
            break;
        have += done;
        if (have == room_size) {
            room(1 << 16); /* behind the last: memory grows in one piece */
            room_size += 1 << 16;
        }
    }
    *size = have;
    return text;
}

static int64_t last_seen;
static int together; /* set by AWAIT: others are let in before and after each call */

static void let_others_in(void)
{
    if (together)
        wasi_sched_yield();
}

static int32_t made(const request *r, const char *name, const char *text, answer *a)
{
    int64_t if_version = r->if_version == LAST_SEEN ? last_seen : r->if_version;
    a->len = r->room;
    switch (r->call) {
    case PUT:
        return sp_object_put(name, r->name_len, text, r->text_len, if_version, r->flags,
                             &a->version);
    case GET:
        return sp_object_get(name, r->name_len, out, &a->len, &a->version);
    case STAT:
        return sp_object_stat(name, r->name_len, out, &a->len);
    case LIST:
        return sp_object_list(name, r->name_len, text, r->text_len, r->number, out, &a->len);
    case DELETE:
        return sp_object_delete(name, r->name_len, if_version, r->flags);
    case ADD_REF:
        return sp_object_add_ref(name, r->name_len, r->number);
    case REMOVE_REF:
        return sp_object_remove_ref(name, r->name_len, r->number);
    case PIN:
        return sp_object_pin(name, r->name_len);
    case UNPIN:
        return sp_object_unpin(name, r->name_len);
    case AWAIT: /* until somebody has made the object, so that several guests begin together */
        together = 1;
        while (sp_object_stat(name, r->name_len, out, &a->len) == -SPEAR_ENOENT) {
            a->len = r->room;
            let_others_in();
        }
        return 0;
    }
    wasi_proc_exit(97);
}

static int is_read(int32_t call)
{
    return call == GET || call == STAT || call == LIST;
}

START
{
    uint32_t size;
    const char *at = read_all(&size), *end = at + size;
    while (at < end) {
        request r;
        __builtin_memcpy(&r, at, sizeof r);
        const char *name = at + sizeof r, *text = name + r.name_len;
        at = text + r.text_len;
        for (uint32_t i = 0; i < sizeof out; i++)
            out[i] = '?';
        answer a = {.version = UNSET, .began_ns = clock_ns()};
        let_others_in();
        a.result = made(&r, name, text, &a);
        let_others_in();
        a.ended_ns = clock_ns();
        if (r.call == GET || a.version != UNSET)
            last_seen = a.version == UNSET ? 0 : a.version;
        uint32_t given = is_read(r.call) && a.result >= 0 ? a.len : 0;
        for (uint32_t i = given; r.call != AWAIT && i < sizeof out; i++)
            a.stained += out[i] != '?';
        write_all(1, &a, sizeof a);
        write_all(1, out, given);
    }
    wasi_proc_exit(0);
}
