/* Asks each of its arguments at once and prints the answers as they come, piece by piece. One epoll
 * waits for all streams. With several questions, a line shows whose answer goes on.
 */
#include <spear.h>
#include <spear_json.h>

enum { QUESTIONS_MAX = 16 };

static int32_t streams[QUESTIONS_MAX];
static int count, last = -1, failures;

/* The stream of a question, or an error. */
static int32_t ask(const char *question)
{
    int32_t chat = sp_cchat_create();
    if (chat < 0)
        return chat;
    int32_t status = sp_chat_write(chat, "user", question);
    if (status == 0)
        status = sp_cchat_stream(chat, 0);
    sp_cchat_close(chat); /* its request goes on */
    return status;
}

static void show(int number, const char *event)
{
    char *type = sp_json_text(event, "type"), *text = sp_json_text(event, "content");
    if (type != NULL && strcmp(type, "delta") == 0 && text != NULL) {
        if (count > 1 && number != last)
            printf("%s[%d] ", last < 0 ? "" : "\n", number + 1);
        last = number;
        fputs(text, stdout);
        fflush(stdout); /* now, not when a line is full */
    } else if (type != NULL && strcmp(type, "error") == 0) {
        fprintf(stderr, "question %d: %s\n", number + 1, event);
        failures++;
    }
    free(type);
    free(text);
}

/* Takes what is there; 0 if more will come. */
static int drain(int number)
{
    for (;;) {
        char *event;
        int32_t size = sp_read_alloc(sp_cchat_stream_read, streams[number], &event);
        if (size > 0)
            show(number, event);
        free(event);
        if (size <= 0)
            return size != -SPEAR_EAGAIN;
    }
}

static void finish(int32_t epoll, int number)
{
    sp_epoll_ctl(epoll, SPEAR_EPOLL_DEL, streams[number], 0);
    sp_cchat_close(streams[number]);
    sp_logf(SPEAR_INFO, "answer %d is whole", number + 1);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: streaming QUESTION ... (16 at most, asked at once)\n", stderr);
        return 2;
    }
    int32_t epoll = sp_epoll_create(), status = epoll;
    count = argc - 1 < QUESTIONS_MAX ? argc - 1 : QUESTIONS_MAX;
    for (int i = 0; i < count && status >= 0; i++) {
        status = streams[i] = ask(argv[i + 1]);
        if (status > 0)
            status = sp_epoll_ctl(epoll, SPEAR_EPOLL_ADD, streams[i], SPEAR_EPOLLIN);
    }
    for (int open = count; open > 0 && status >= 0;) {
        sp_epoll_event ready[QUESTIONS_MAX];
        uint32_t len = sizeof ready;
        status = sp_epoll_wait(epoll, ready, &len, -1);
        for (int32_t at = 0; at < status; at++)
            for (int i = 0; i < count; i++)
                if (streams[i] == ready[at].fd && drain(i)) {
                    finish(epoll, i);
                    open--;
                }
    }
    if (last >= 0)
        putchar('\n');
    if (status < 0)
        fprintf(stderr, "the host refuses: error %d\n", (int)-status);
    return count == 0 || status < 0 || failures > 0;
}
