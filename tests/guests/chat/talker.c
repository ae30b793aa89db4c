// build: -Wl,--export-table
/* Does with chat what its arguments say, in their order, on one session:
 *   m=TEXT    a user's message          p=KEY=JSON  a parameter
 *   t=NAME    offers a tool             n           a new session
 *   s=FLAGS   sends, prints the answer  x=FLAGS     sends, prints the answer and the metrics
 *   r=FLAGS   streams, prints each event and then the answer; waits by epoll
 *   a=FLAGS   streams, and closes after the first event
 *   o=FLAGS   opens a stream, and leaves it
 *   e=JSON    embeds, prints the answer c           closes the session
 *   z         sleeps for ever           l=COUNT     does all before it again, COUNT times in all
 * A call that gives less than 0 is printed as its letter and the number.
 */
#include "calls.h"

static char arena[1 << 16] __attribute__((aligned(8)));
static int32_t chat;
static char events[1 << 16];

static int32_t give(const char *text, char *out, uint32_t *out_len)
{
    uint32_t len = (uint32_t)strlen(text);
    if (len > *out_len) {
        *out_len = len;
        return NO_SPACE;
    }
    memcpy(out, text, len);
    *out_len = len;
    return 0;
}

#define TOOL(name) \
    static int32_t name(const char *args, int32_t args_len, char *out, uint32_t *out_len)
#define UNUSED (void)args, (void)args_len, (void)out, (void)out_len

TOOL(same) { UNUSED; return give(args, out, out_len); }
TOOL(fails) { UNUSED; return -7; }
TOOL(traps) { UNUSED; __builtin_trap(); }
TOOL(parks) { UNUSED; sleep_ms(-1); return 0; }
TOOL(wild) { UNUSED; *out_len = 0xfffffff0; return 0; }
TOOL(greedy) { UNUSED; *out_len = 0x7fffffff; return NO_SPACE; }
TOOL(garbage) { UNUSED; out[0] = (char)0xff; *out_len = 1; return 0; }

TOOL(loops)
{
    UNUSED;
    for (volatile uint32_t i = 0;; i++)
        ;
    return 0;
}

/* Sends on the same session. */
TOOL(nests)
{
    UNUSED;
    int32_t response = cchat_send(chat, AUTO_TOOL_CALL);
    char text[64];
    if (response > 0)
        return give("sent", out, out_len);
    snprintf(text, sizeof text, "send gave %d", (int)response);
    return give(text, out, out_len);
}

static const struct { const char *name; tool *function; } tools[] = {
    {"same", same}, {"fails", fails}, {"traps", traps}, {"parks", parks}, {"wild", wild},
    {"greedy", greedy}, {"garbage", garbage}, {"loops", loops}, {"nests", nests},
};

static void told(char what, int32_t result)
{
    if (result < 0)
        printf("%c %d\n", what, (int)result);
}

static void begin(void)
{
    char number[16];
    chat = cchat_create();
    told('n', chat);
    snprintf(number, sizeof number, "%d", (int)(intptr_t)arena);
    set(chat, "tool_arena_ptr", number);
    snprintf(number, sizeof number, "%u", (unsigned)sizeof arena);
    set(chat, "tool_arena_len", number);
}

static void offered(const char *name)
{
    char json[128];
    tool *function = (tool *)0x7fff;
    for (uint32_t i = 0; i < sizeof tools / sizeof tools[0]; i++)
        if (strcmp(tools[i].name, name) == 0)
            function = tools[i].function;
    snprintf(json, sizeof json, "{\"type\":\"function\",\"function\":{\"name\":\"%s\"}}", name);
    told('t', offer(chat, function, json));
}

static void answer(char what, int32_t response, int metrics)
{
    char *text = response > 0 ? receive(response) : NULL;
    told(what, response);
    if (text != NULL)
        puts(text);
    free(text);
    if (metrics && response > 0) {
        uint32_t len = sizeof events;
        printf("%.*s\n", (int)cchat_ctl(response, GET_METRICS, events, &len), events);
    }
    if (response > 0)
        told(what, cchat_close(response));
}

static void streamed(int32_t flags, int events_max)
{
    int32_t stream = cchat_stream(chat, flags), epoll = spear_epoll_create(), ready[2];
    told('r', stream);
    if (stream < 0)
        return;
    spear_epoll_ctl(epoll, 1, stream, 1);
    while (events_max != 0) {
        uint32_t len = sizeof events;
        int32_t size = cchat_stream_read(stream, events, &len);
        if (size == 0)
            break;
        if (size == -11) {
            len = sizeof ready;
            told('w', spear_epoll_wait(epoll, ready, &len, -1));
            continue;
        }
        if (size < 0) {
            told('r', size);
            break;
        }
        printf("%.*s\n", (int)size, events);
        events_max--;
    }
    spear_epoll_close(epoll);
    answer('r', stream, 0);
}

static void act(const char *word)
{
    const char *rest = word[0] && word[1] ? word + 2 : "";
    char key[128];
    const char *value;
    switch (word[0]) {
    case 'm': told('m', say(chat, "user", rest)); break;
    case 'p':
        value = strchr(rest, '=');
        if (value == NULL)
            exit(90);
        snprintf(key, sizeof key, "%.*s", (int)(value - rest), rest);
        told('p', set(chat, key, value + 1));
        break;
    case 't': offered(rest); break;
    case 'n': begin(); break;
    case 's': answer('s', cchat_send(chat, atoi(rest)), 0); break;
    case 'x': answer('x', cchat_send(chat, atoi(rest)), 1); break;
    case 'r': streamed(atoi(rest), -1); break;
    case 'a': streamed(atoi(rest), 1); break;
    case 'o': told('o', cchat_stream(chat, atoi(rest))); break;
    case 'e': answer('e', embed_send(rest, (int32_t)strlen(rest), 0), 0); break;
    case 'c': told('c', cchat_close(chat)); break;
    case 'z': sleep_ms(-1); break;
    default: exit(91);
    }
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != 'l') {
            if (i == 1 && argv[i][0] != 'n')
                begin();
            act(argv[i]);
            fflush(stdout);
            continue;
        }
        for (int count = atoi(argv[i] + 2); count > 1; count--)
            for (int again = 1; again < i; again++)
                act(argv[again]);
    }
    return 0;
}
