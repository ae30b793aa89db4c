// build: -Wl,--export-table
/* The ABI's first tool: the model has `sum` called inside this guest while it waits in its send.
 * Prints how deep the tool ran, then the response. Argument: the question.
 */
#include "calls.h"

static char arena[4096] __attribute__((aligned(8)));
static int sending;

static int32_t number_of(const char *json, const char *key)
{
    const char *at = strstr(json, key);
    return at == NULL ? 0 : (int32_t)strtol(at + strlen(key), NULL, 10);
}

static int32_t sum(const char *args, int32_t args_len, char *out, uint32_t *out_len)
{
    char text[64];
    int32_t total = number_of(args, "\"a\":") + number_of(args, "\"b\":");
    uint32_t len = (uint32_t)snprintf(text, sizeof text, "{\"sum\":%d}", (int)total);
    printf("sum(%s) inside a send: %d, ends with NUL: %d\n", args, sending, args[args_len] == 0);
    if (len > *out_len) {
        *out_len = len;
        return NO_SPACE;
    }
    memcpy(out, text, len);
    *out_len = len;
    return 0;
}

int main(int argc, char **argv)
{
    int32_t chat = cchat_create();
    char number[16];
    if (chat <= 0 || argc < 2 || say(chat, "user", argv[1]))
        return 1;
    if (offer(chat, sum, "{\"type\":\"function\",\"function\":{\"name\":\"sum\",\"parameters\":"
                         "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},"
                         "\"b\":{\"type\":\"integer\"}}}}}"))
        return 2;
    snprintf(number, sizeof number, "%d", (int)(intptr_t)arena);
    if (set(chat, "tool_arena_ptr", number) || set(chat, "tool_arena_len", "4096"))
        return 3;
    sending = 1;
    int32_t response = cchat_send(chat, AUTO_TOOL_CALL);
    sending = 0;
    char *text = response > 0 ? receive(response) : NULL;
    if (text == NULL)
        return 4;
    puts(text);
    return 0;
}
