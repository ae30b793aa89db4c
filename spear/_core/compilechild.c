/* The program that compiles one module: wasm on stdin, compiled code on stdout, words on stderr.
 *
 *   compilechild LIBRARY METERED DATA_BYTES CODE_BYTES CPU_SECONDS THREADS
 *
 * Rule: its limits hold before the first byte of the module is read, and it ends with its parent.
 * stdin and stdout are files without a name (memfd). How it went is said once, last: a NUL, a
 * letter, a text: `c` compiled (the code's size), `i` invalid (the engine's reason), `n` it could
 * not begin. Whatever else stands on stderr is the engine's own, said before it crashed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "wasmsettings.h"

enum { WORDS_MAX = 4000, NICER = 5, CLOSED_ONE_BY_ONE_MAX = 65536 };

static _Noreturn void say(char kind, const char *text, size_t length)
{
    char words[2 + WORDS_MAX];
    length = length < WORDS_MAX ? length : WORDS_MAX;
    words[0] = 0;
    words[1] = kind;
    for (size_t i = 0; i < length; i++) /* a name in the module may hold a NUL */
        words[2 + i] = text[i] != 0 ? text[i] : ' ';
    ssize_t written = write(STDERR_FILENO, words, 2 + length);
    _exit(written < 0 ? 1 : 0);
}

static _Noreturn void could_not(const char *what, const char *why)
{
    char text[WORDS_MAX];
    int length = snprintf(text, sizeof(text), "%s: %s", what, why);
    say('n', text, length < (int)sizeof(text) ? (size_t)length : sizeof(text) - 1);
}

static _Noreturn void say_error(wasmtime_error_t *error)
{
    wasm_byte_vec_t text;
    wasmtime_error_message(error, &text);
    say('i', text.data, text.size);
}

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != 0)
        could_not("not a number", text);
    return value;
}

/* Nothing of the parent's but the three streams. */
static void close_others(void)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0)
        return;
#endif
    struct rlimit files = {0, 0};
    getrlimit(RLIMIT_NOFILE, &files);
    rlim_t end = files.rlim_cur < CLOSED_ONE_BY_ONE_MAX ? files.rlim_cur : CLOSED_ONE_BY_ONE_MAX;
    for (rlim_t fd = 3; fd < end; fd++)
        close((int)fd);
}

/* The signal is set first: a parent that dies between is noticed by its end of the pipe. */
static void end_with_parent(void)
{
    struct pollfd parent = {STDERR_FILENO, 0, 0};
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (poll(&parent, 1, 0) == 1 && (parent.revents & POLLERR))
        _exit(1);
}

/* Never above what holds already. The hard limit is one more, so that the processor's (RLIMIT_CPU)
 * ends this by SIGXCPU and not by the SIGKILL of anybody. */
static void limit(int what, uint64_t value)
{
    struct rlimit now;
    if (getrlimit(what, &now) != 0)
        could_not("no limit can be read", strerror(errno));
    now.rlim_cur = value < now.rlim_max ? value : now.rlim_max;
    now.rlim_max = value < now.rlim_max ? value + 1 : now.rlim_max;
    if (setrlimit(what, &now) != 0)
        could_not("a limit cannot be set", strerror(errno));
}

/* When memory or processors are short, this gives way before the node does. */
static void give_way(void)
{
    setpriority(PRIO_PROCESS, 0, NICER);
    int handle = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (handle < 0)
        return;
    if (write(handle, "1000", 4) != 4) { /* then the kernel chooses by size */
    }
    close(handle);
}

static void bind_library(const char *path)
{
    static wasmtime_functions table;
    const char *symbol;
    const char *reason = wasmtime_functions_load(&table, path, &symbol);
    if (reason != NULL)
        could_not(symbol != NULL ? symbol : "the engine's library", reason);
    wasmtime_bind(&table);
}

static wasm_engine_t *new_engine(bool metered)
{
    wasm_config_t *config = wasm_config_new();
    wasm_settings_apply(config, metered);
    wasm_engine_t *engine = wasm_engine_new_with_config(config);
    if (engine == NULL)
        could_not("the engine", "it refused its settings");
    return engine;
}

static void compile(wasm_engine_t *engine, wasm_byte_vec_t *code)
{
    struct stat wasm;
    if (fstat(STDIN_FILENO, &wasm) != 0 || wasm.st_size <= 0)
        could_not("stdin", "there is no module");
    void *bytes = mmap(NULL, (size_t)wasm.st_size, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0);
    if (bytes == MAP_FAILED)
        could_not("the module cannot be mapped", strerror(errno));
    wasmtime_module_t *module;
    wasmtime_error_t *error = wasmtime_module_new(engine, bytes, (size_t)wasm.st_size, &module);
    if (error == NULL)
        error = wasmtime_module_serialize(module, code);
    if (error != NULL)
        say_error(error);
}

static void write_all(const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDOUT_FILENO, data, size);
        if (written < 0 && errno != EINTR)
            could_not("the code cannot be written", strerror(errno));
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 7)
        could_not("wrong arguments",
                  "LIBRARY METERED DATA_BYTES CODE_BYTES CPU_SECONDS THREADS are wanted");
    close_others();
    end_with_parent();
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    give_way();
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_DATA, number(argv[3]));
    limit(RLIMIT_FSIZE, number(argv[4]));
    limit(RLIMIT_CPU, number(argv[5]));
    setenv("RAYON_NUM_THREADS", argv[6], 1); /* of the compiler's own pool */
    bind_library(argv[1]);
    wasm_engine_t *engine = new_engine(number(argv[2]) != 0);
    limit(RLIMIT_NOFILE, 0); /* from here on neither a file nor a socket can be opened */

    wasm_byte_vec_t code;
    char size[24];
    compile(engine, &code);
    write_all(code.data, code.size);
    say('c', size, (size_t)snprintf(size, sizeof(size), "%zu", code.size));
}
