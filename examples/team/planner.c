/* Leads a team of agents: has each topic (an argument) looked into by the task `researcher`, all at
 * once, then has `writer` make one text of their notes. The output is that text.
 */
#include <spear.h>
#include <string.h>

enum { TOPICS_MAX = 16, NOTES_BYTES = 32 * 1024 };

static char notes[NOTES_BYTES];
static int32_t calls[TOPICS_MAX];

/* Logs why a call gave nothing. */
static void complain(const char *who, int32_t call)
{
    char *status = NULL;
    if (call > 0)
        sp_task_status_alloc(call, &status);
    if (status != NULL)
        fprintf(stderr, "%s gave nothing: %s\n", who, status);
    else
        fprintf(stderr, "%s is not called: error %d\n", who, (int)-call);
    free(status);
}

/* Adds what a researcher found to the notes. */
static int note(const char *topic, int32_t call)
{
    char *found;
    int32_t size = sp_task_result_alloc(call, &found);
    size_t used = strlen(notes);
    if (size < 0) {
        complain("researcher", call);
        return 0;
    }
    snprintf(notes + used, sizeof notes - used, "%s: %s\n", topic, found);
    sp_logf(SPEAR_INFO, "notes on %s are there", topic);
    free(found);
    return 1;
}

static int32_t begin(const char *topic)
{
    static const char request[] = "{\"task\":\"researcher\"}";
    return sp_task_invoke(request, sizeof request - 1, topic, sp_text_len(topic), SPEAR_TASK_ASYNC);
}

/* Has all topics looked into; gives how many there are notes on. */
static int research(char **topics, int count)
{
    int32_t epoll = sp_epoll_create();
    int open = 0, done = 0;
    for (int i = 0; i < count; i++) {
        calls[i] = begin(topics[i]);
        if (calls[i] < 0)
            complain("researcher", calls[i]);
        else
            open += sp_epoll_ctl(epoll, SPEAR_EPOLL_ADD, calls[i], SPEAR_EPOLLIN) == 0;
    }
    while (open > 0) {
        sp_epoll_event ready[TOPICS_MAX];
        uint32_t len = sizeof ready;
        int32_t found = sp_epoll_wait(epoll, ready, &len, -1);
        for (int32_t at = 0; at < found; at++)
            for (int i = 0; i < count; i++)
                if (calls[i] == ready[at].fd) {
                    done += note(topics[i], calls[i]);
                    sp_epoll_ctl(epoll, SPEAR_EPOLL_DEL, calls[i], 0);
                    sp_task_close(calls[i]);
                    open--;
                }
    }
    sp_epoll_close(epoll);
    return done;
}

int main(int argc, char **argv)
{
    static const char request[] = "{\"task\":\"writer\"}";
    int count = argc - 1 < TOPICS_MAX ? argc - 1 : TOPICS_MAX;
    char *text;
    if (count == 0 || research(argv + 1, count) == 0) {
        fputs("there is nothing to write about: name topics\n", stderr);
        return 1;
    }
    int32_t call = sp_task_invoke(request, sizeof request - 1, notes, sp_text_len(notes), 0);
    if (call < 0 || sp_task_result_alloc(call, &text) < 0) {
        complain("writer", call);
        return 1;
    }
    fputs(text, stdout);
    free(text);
    return 0;
}
