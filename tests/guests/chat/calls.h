/* calls.h: the chat imports as the guest ABI lists them, declared from its text alone.
 * Nothing here comes from our own header, so that guests built on it show what the ABI says.
 */
#ifndef CALLS_H
#define CALLS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL(name) __attribute__((import_module("spear"), import_name(name)))

CALL("sleep_ms") void sleep_ms(int32_t ms);
CALL("cchat_create") int32_t cchat_create(void);
CALL("cchat_write_msg")
int32_t cchat_write_msg(int32_t fd, const char *role, int32_t role_len, const char *text,
                        int32_t text_len);
CALL("cchat_write_fn")
int32_t cchat_write_fn(int32_t fd, int32_t offset, const char *json, int32_t json_len);
CALL("cchat_ctl") int32_t cchat_ctl(int32_t fd, int32_t cmd, void *arg, uint32_t *arg_len);
CALL("cchat_send") int32_t cchat_send(int32_t fd, int32_t flags);
CALL("cchat_recv") int32_t cchat_recv(int32_t fd, void *out, uint32_t *out_len);
CALL("cchat_close") int32_t cchat_close(int32_t fd);
CALL("cchat_stream") int32_t cchat_stream(int32_t fd, int32_t flags);
CALL("cchat_stream_read") int32_t cchat_stream_read(int32_t fd, void *out, uint32_t *out_len);
CALL("embed_send") int32_t embed_send(const char *json, int32_t json_len, int32_t flags);
CALL("spear_epoll_create") int32_t spear_epoll_create(void);
CALL("spear_epoll_ctl")
int32_t spear_epoll_ctl(int32_t epoll, int32_t op, int32_t fd, int32_t events);
CALL("spear_epoll_wait")
int32_t spear_epoll_wait(int32_t epoll, void *out, uint32_t *out_len, int32_t timeout_ms);
CALL("spear_epoll_close") int32_t spear_epoll_close(int32_t epoll);

enum { SET_PARAM = 1, GET_METRICS = 2, METRICS = 1, AUTO_TOOL_CALL = 2, NO_SPACE = -28 };

typedef int32_t tool(const char *args, int32_t args_len, char *out, uint32_t *out_len);

static inline int32_t say(int32_t fd, const char *role, const char *text)
{
    return cchat_write_msg(fd, role, (int32_t)strlen(role), text, (int32_t)strlen(text));
}

/* `value` is JSON. */
static inline int32_t set(int32_t fd, const char *key, const char *value)
{
    char text[4096];
    uint32_t len = (uint32_t)snprintf(text, sizeof text, "{\"key\":\"%s\",\"value\":%s}", key, value);
    return cchat_ctl(fd, SET_PARAM, text, &len);
}

static inline int32_t offer(int32_t fd, tool *function, const char *json)
{
    return cchat_write_fn(fd, (int32_t)(intptr_t)function, json, (int32_t)strlen(json));
}

/* The response's text, NUL-terminated, to be freed; NULL where it cannot be read. */
static inline char *receive(int32_t fd)
{
    uint32_t room = 1024;
    for (int tries = 0; tries < 3; tries++) {
        char *text = malloc(room + 1);
        uint32_t len = room;
        if (text == NULL)
            return NULL;
        int32_t size = cchat_recv(fd, text, &len);
        if (size >= 0) {
            text[size] = 0;
            return text;
        }
        free(text);
        if (size != NO_SPACE)
            return NULL;
        room = len;
    }
    return NULL;
}

#endif
