// build:
/* Does what its arguments say, one command each, fields between '|'; what a call gave is printed, a
 * line each. Calls of tasks have numbers from 0, in the order in which they were made.
 *
 *   s|TASK|INPUT|FLAGS|MORE   task_invoke; MORE goes into the request, such as ,"timeout_ms":50
 *   w|CALL|MS  r|CALL  t|CALL  c|CALL|REASON  x|CALL     wait, result, status, cancel, close
 *   e|COUNT    waits by epoll until so many calls have ended
 *   n|COUNT|TASK|INPUT        so many calls, one after the other, each closed; prints how many gave
 *                             INPUT back
 *   i          its input becomes its output     z|MS  sleeps     q|CODE  exits
 *   T          traps     S  works for ever
 */
#include <spear.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLS = 256, FIELDS = 6, TEXT = 4096 };

static int32_t fds[CALLS];
static int calls;

static int32_t invoke(const char *task, const char *input, int32_t flags, const char *more)
{
    char request[TEXT];
    int len = snprintf(request, sizeof request, "{\"task\":\"%s\"%s}", task, more);
    return sp_task_invoke(request, len, input, (int32_t)strlen(input), flags);
}

static void read_out(sp_reader reader, int32_t fd)
{
    char *out;
    int32_t size = sp_read_alloc(reader, fd, &out);
    if (size < 0)
        printf("%d\n", (int)size);
    else
        printf("%s\n", out);
    free(out);
}

static void wait_for(int count)
{
    int32_t poll = sp_epoll_create();
    static sp_epoll_event events[CALLS];
    for (int call = 0; call < calls; call++)
        if (fds[call] > 0)
            sp_epoll_ctl(poll, SPEAR_EPOLL_ADD, fds[call], SPEAR_EPOLLIN);
    for (int ended = 0; ended < count;) {
        uint32_t len = sizeof events;
        int32_t found = sp_epoll_wait(poll, events, &len, -1);
        for (int32_t at = 0; at < found; at++)
            sp_epoll_ctl(poll, SPEAR_EPOLL_DEL, events[at].fd, 0);
        ended += found;
    }
    sp_epoll_close(poll);
    printf("%d\n", count);
}

static void many(int count, const char *task, const char *input)
{
    int same = 0;
    for (int at = 0; at < count; at++) {
        char *out;
        int32_t fd = invoke(task, input, 0, "");
        if (fd > 0 && sp_task_result_alloc(fd, &out) >= 0) {
            same += strcmp(out, input) == 0;
            free(out);
        }
        sp_task_close(fd);
    }
    printf("%d\n", same);
}

static void copy_input(void)
{
    char data[TEXT];
    size_t size;
    while ((size = fread(data, 1, sizeof data, stdin)) > 0)
        fwrite(data, 1, size, stdout);
}

static void work(void)
{
    for (volatile uint64_t turns = 0;; turns++)
        ;
}

static void act(char *word)
{
    char *field[FIELDS] = {"", "", "", "", "", ""};
    for (int at = 0; at < FIELDS && word != NULL; at++) {
        field[at] = word;
        word = at == FIELDS - 1 ? NULL : strchr(word, '|');
        if (word != NULL)
            *word++ = '\0';
    }
    int number = atoi(field[1]);
    int32_t fd = number >= 0 && number < CALLS ? fds[number] : 0;
    switch (field[0][0]) {
    case 's':
        fd = fds[calls++ % CALLS] = invoke(field[1], field[2], atoi(field[3]), field[4]);
        printf("%d\n", fd > 0 ? 0 : (int)fd);
        break;
    case 'w': printf("%d\n", (int)sp_task_wait(fd, atoi(field[2]))); break;
    case 'r': read_out(sp_task_result, fd); break;
    case 't': read_out(sp_task_status, fd); break;
    case 'c': printf("%d\n", (int)sp_task_cancel(fd, field[2], (int32_t)strlen(field[2]))); break;
    case 'x': printf("%d\n", (int)sp_task_close(fd)); break;
    case 'e': wait_for(number); break;
    case 'n': many(number, field[2], field[3]); break;
    case 'i': copy_input(); break;
    case 'z': sp_sleep_ms(number); break;
    case 'q': exit(number);
    case 'T': __builtin_trap();
    case 'S': work(); break;
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    for (int at = 1; at < argc; at++)
        act(argv[at]);
    return 0;
}
