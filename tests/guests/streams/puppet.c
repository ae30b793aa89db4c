// build: -nostdlib -fno-builtin
/* Makes the descriptor calls that frames on user stream 0 ask for, and sends each answer back.
 *
 * Data of a frame: i32 call, i32 a, b, c, d, then bytes. Data of an answer: i32 answer, u32 len,
 * then the `len` bytes that the call left, if they fit a frame. Its own descriptors are 1000 (epoll)
 * and 1001 (the stream). It exits when stream 0 is closed, or when asked to.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

enum { ROOM = 300 << 10, FRAME = 256 << 10, HEADER = 32 };

static unsigned char *frame, *bytes, *answer_frame;
static uint32_t len;

static int32_t do_call(const int32_t *a, uint32_t size)
{
    int32_t answer = -SPEAR_ENOSYS;
    switch (a[0]) {
    case 1: len = 0; return sp_epoll_create();
    case 2: len = 0; return sp_epoll_ctl(a[1], a[2], a[3], a[4]);
    case 3:
        len = (uint32_t)a[2];
        return sp_epoll_wait(a[1], (sp_epoll_event *)bytes, &len, a[3]);
    case 4: len = 0; return sp_epoll_close(a[1]);
    case 5: len = 0; return sp_user_stream_open(a[1], a[2]);
    case 6:
        len = (uint32_t)a[2];
        return sp_user_stream_read(a[1], bytes, &len);
    case 7:
        len = 0;
        return sp_user_stream_write(a[1], bytes, (int32_t)size);
    case 8: len = 0; return sp_user_stream_close(a[1]);
    case 9: len = 0; return sp_user_stream_ctl_open();
    case 10:
        len = (uint32_t)a[2];
        return sp_user_stream_ctl_read(a[1], (sp_stream_event *)bytes, &len);
    case 11:
        len = a[2] == SPEAR_FD_SET_FLAGS ? size : (uint32_t)a[3];
        answer = sp_fd_ctl(a[1], a[2], bytes, &len);
        if (a[2] == SPEAR_FD_SET_FLAGS)
            len = 0;
        return answer;
    case 12: wasi_proc_exit(a[1]);
    }
    return answer;
}

static void put(uint32_t at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        answer_frame[at + i] = (unsigned char)(value >> 8 * i);
}

static void answer_with(int32_t answer)
{
    uint32_t more = answer >= 0 && len <= FRAME - HEADER - 8 ? len : 0;
    for (int i = 0; i < HEADER; i++)
        answer_frame[i] = frame[i];
    put(24, 0);
    put(28, 8 + more);
    put(HEADER, (uint32_t)answer);
    put(HEADER + 4, len);
    for (uint32_t i = 0; i < more; i++)
        answer_frame[HEADER + 8 + i] = bytes[i];
    if (sp_user_stream_write(1001, answer_frame, (int32_t)(HEADER + 8 + more)) != 0)
        wasi_proc_exit(97);
}

START
{
    frame = room(ROOM);
    bytes = room(ROOM);
    answer_frame = room(ROOM);
    expect("epoll", sp_epoll_create(), 1000);
    expect("stream", sp_user_stream_open(0, SPEAR_STREAM_BOTH), 1001);
    sp_epoll_ctl(1000, SPEAR_EPOLL_ADD, 1001, SPEAR_EPOLLIN | SPEAR_EPOLLHUP);
    for (;;) {
        sp_epoll_event event;
        uint32_t size = sizeof event;
        expect("wait", sp_epoll_wait(1000, &event, &size, -1), 1);
        if (!(event.events & SPEAR_EPOLLIN))
            wasi_proc_exit(failed_checks);
        size = FRAME;
        if (sp_user_stream_read(1001, frame, &size) < 0)
            continue;
        uint32_t more = size - HEADER - 20;
        for (uint32_t i = 0; i < more; i++)
            bytes[i] = frame[HEADER + 20 + i];
        answer_with(do_call((const int32_t *)(frame + HEADER), more));
    }
}
