// build: -nostdlib -fno-builtin
/* Chats, and tells what it saw, by number:
 *   measured 0 COUNT    so many chats from create to close; prints what each took, in ns, a line each
 *   measured 1          one stream, waited for by epoll; prints how many pieces of text came
 */
#include "../raw.h"
#define SPEAR_NO_STDIO
#include <spear.h>

static char body[65536];

static uint64_t now_ns(void)
{
    uint64_t ns = 0;
    wasi_clock_time_get(1, 0, &ns);
    return ns;
}

static int32_t begin(void)
{
    static const char param[] = "{\"key\":\"model\",\"value\":\"m\"}";
    uint32_t len = sizeof param - 1;
    int32_t chat = sp_cchat_create();
    if (sp_cchat_write_msg(chat, "user", 4, "hello", 5)
        || sp_cchat_ctl(chat, SPEAR_CHAT_SET_PARAM, (void *)param, &len))
        wasi_proc_exit(90);
    return chat;
}

static void ask(int64_t count)
{
    while (count-- > 0) {
        uint64_t began = now_ns();
        int32_t chat = begin(), response = sp_cchat_send(chat, 0);
        uint32_t len = sizeof body;
        if (sp_cchat_recv(response, body, &len) <= 0 || body[2] == 'e') /* {"error" */
            wasi_proc_exit(91);
        sp_cchat_close(response);
        sp_cchat_close(chat);
        print_number((int64_t)(now_ns() - began));
        print("\n");
    }
}

static void stream(void)
{
    int32_t chat = begin(), from = sp_cchat_stream(chat, 0), poll = sp_epoll_create();
    int64_t pieces = 0;
    sp_epoll_event ready[1];
    sp_epoll_ctl(poll, SPEAR_EPOLL_ADD, from, SPEAR_EPOLLIN);
    for (;;) {
        uint32_t len = sizeof body;
        int32_t size = sp_cchat_stream_read(from, body, &len);
        if (size == 0)
            break;
        if (size == -SPEAR_EAGAIN) {
            len = sizeof ready;
            sp_epoll_wait(poll, ready, &len, -1);
        } else if (size < 0) {
            wasi_proc_exit(92);
        } else if (body[9] == 'd') { /* {"type":"delta" */
            pieces++;
        } else if (body[9] == 'e' && body[10] == 'r') { /* {"type":"error" */
            wasi_proc_exit(93);
        }
    }
    print_number(pieces);
}

START
{
    if (argument(1, 0) == 0)
        ask(argument(2, 1));
    else
        stream();
}
