// build: -nostdlib -fno-builtin -Wl,--export-table
/* Sends COUNT times with tool TOOL: `tools TOOL [COUNT [INNER]]`; INNER is what a nesting tool
 * sends with, itself if not given. The host learns the tool's place in the function table by `fd`
 * and the arena's address by `flags`; what a send returns is printed, a line each. Every function
 * that may be a tool does one thing that a host must bear.
 */
#define SPEAR_NO_STDIO
#include <spear.h>
#include "../raw.h"

#define TRIAL(name) __attribute__((import_module("spear_trial"), import_name(name)))

TRIAL("send") int32_t trial_send(int32_t fd, int32_t flags);
TRIAL("pause") int32_t trial_pause(void);

enum { ARENA = 1024, NO_SPACE = -28 };
typedef int32_t tool(const char *args, uint32_t len, char *out, uint32_t *out_len);

static char arena[ARENA] __attribute__((aligned(8)));
static tool *inner;      /* what a nesting tool sends with */
static int32_t depth;    /* of sends by nesting tools */
static uint32_t tries;

static int32_t give(const char *text, char *out, uint32_t *out_len)
{
    uint32_t len = text_len(text);
    if (len > *out_len) {
        *out_len = len;
        return NO_SPACE;
    }
    for (uint32_t i = 0; i < len; i++)
        out[i] = text[i];
    *out_len = len;
    return 0;
}

/* The sum of the digits of its arguments. */
static int32_t sum(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    char text[4];
    uint32_t total = 0, at = 3;
    for (uint32_t i = 0; i < len; i++)
        total += args[i] >= '0' && args[i] <= '9' ? (uint32_t)(args[i] - '0') : 0;
    text[at] = 0;
    do
        text[--at] = (char)('0' + total % 10);
    while ((total /= 10) && at);
    return give(text + at, out, out_len);
}

/* Its arguments, which must end with a NUL. */
static int32_t same(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    return args[len] ? -5 : give(args, out, out_len);
}

static int32_t fails(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    (void)args, (void)out, (void)out_len;
    return -(int32_t)len;
}

static int32_t nothing(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    (void)args, (void)len, (void)out;
    *out_len = 0;
    return 0;
}

/* Returns 0 with a length that is not in its room. */
static int32_t wild(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    (void)args, (void)len, (void)out;
    *out_len = 0xfffffff0;
    return 0;
}

static int32_t one_more(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    (void)args, (void)len, (void)out;
    *out_len += 1;
    return 0;
}

static int32_t not_text(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    (void)args, (void)len;
    out[0] = (char)0xff;
    *out_len = 1;
    return 0;
}

/* Asks for room that it has, once, and overwrites its arguments. */
static int32_t again(char *args, uint32_t len, char *out, uint32_t *out_len)
{
    if (++tries % 2) {
        args[0] = '!';
        *out_len = 8;
        return NO_SPACE;
    }
    return same(args, len, out, out_len);
}

/* Asks for more room however often it is called. */
static int32_t greedy(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    (void)args, (void)len, (void)out;
    tries++;
    *out_len = 8;
    return NO_SPACE;
}

static int32_t too_large(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    (void)args, (void)len, (void)out;
    *out_len += 1;
    return NO_SPACE;
}

static int32_t grows(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    return room(1) ? same(args, len, out, out_len) : -12;
}

__attribute__((noinline)) static int32_t traps(const char *args, uint32_t len, char *out, uint32_t *n)
{
    (void)args, (void)len, (void)out, (void)n;
    __builtin_trap();
}

static int32_t loops(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    volatile uint32_t turns = 0;
    sp_log(SPEAR_INFO, "looping", 7);
    for (;;)
        turns++;
    return give(args, out, out_len) + (int32_t)len;
}

static int32_t works(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    for (volatile uint32_t turns = 0; turns < 30000000; turns++)
        ;
    return same(args, len, out, out_len);
}

static int32_t sleeps(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    sp_sleep_ms(2);
    return same(args, len, out, out_len);
}

static int32_t sleeps_on(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    sp_log(SPEAR_INFO, "sleeping", 8);
    sp_sleep_ms(-1);
    return same(args, len, out, out_len);
}

static int32_t pauses(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    return trial_pause() ?: same(args, len, out, out_len);
}

static int32_t exits(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    (void)args, (void)out, (void)out_len;
    wasi_proc_exit((int32_t)len);
}

/* Sends again from inside, until a send is refused; gives how deep it came. */
static int32_t nests(const char *args, uint32_t len, char *out, uint32_t *out_len)
{
    int32_t answer;
    depth++;
    answer = trial_send((int32_t)(intptr_t)inner, (int32_t)(intptr_t)arena);
    if (answer < 0 && answer != -5)
        return answer;
    (void)args, (void)len;
    char text[2] = {(char)('0' + depth), 0};
    return give(text, out, out_len);
}

static int32_t no_tool(int32_t alone)
{
    return alone;
}

static const struct { const char *name; void *function; } tools[] = {
    {"sum", sum}, {"same", same}, {"fails", fails}, {"nothing", nothing}, {"wild", wild},
    {"one_more", one_more}, {"not_text", not_text}, {"again", again}, {"greedy", greedy},
    {"too_large", too_large}, {"grows", grows}, {"traps", traps}, {"loops", loops},
    {"works", works}, {"sleeps", sleeps}, {"sleeps_on", sleeps_on}, {"pauses", pauses},
    {"exits", exits}, {"nests", nests}, {"no_tool", no_tool}, {"null", 0},
    {"outside", (void *)100000}, {"negative", (void *)-1},
};

static int equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void *tool_named(const char *name)
{
    for (uint32_t i = 0; i < sizeof tools / sizeof *tools; i++)
        if (equal(tools[i].name, name))
            return tools[i].function;
    wasi_proc_exit(97);
}

START
{
    uint32_t count;
    char **argv = arguments(&count);
    void *function = tool_named(argv[1]);
    inner = (tool *)(count > 3 ? tool_named(argv[3]) : function);
    for (int64_t left = count > 2 ? to_number(argv[2]) : 1; left > 0; left--) {
        print_number(trial_send((int32_t)(intptr_t)function, (int32_t)(intptr_t)arena));
        print("\n");
    }
}
