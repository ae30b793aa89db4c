/* Sends every frame of up to 16 user streams back, byte for byte, until the clients are gone.
 *
 * One wait for all: the control descriptor says which streams have a client; each is opened then
 * and watched. A frame that the client is too slow to take back is kept until there is room.
 */
#include <spear.h>
#include <stdlib.h>

enum { STREAMS_MAX = 16, FRAME_BYTES = 256 << 10 };

struct stream {
    uint32_t id;
    int32_t fd;
    unsigned char *frame; /* kept for a client without room, or NULL */
    uint32_t len;
};

static struct stream streams[STREAMS_MAX];
static int stream_count, open_count;
static int32_t epfd, ctl;
static unsigned char *buffer;
static long echoed;

static void require(int32_t answer, const char *what)
{
    if (answer >= 0)
        return;
    fprintf(stderr, "%s: %d\n", what, (int)answer);
    exit(1);
}

static void watch(struct stream *stream)
{
    int32_t wanted = stream->frame ? SPEAR_EPOLLOUT : SPEAR_EPOLLIN;
    int32_t events = wanted | SPEAR_EPOLLERR | SPEAR_EPOLLHUP;
    require(sp_epoll_ctl(epfd, SPEAR_EPOLL_ADD, stream->fd, events), "watch");
}

static void open_stream(uint32_t id)
{
    for (int i = 0; i < stream_count; i++)
        if (streams[i].id == id)
            return; /* some hosts say it more than once */
    if (stream_count == STREAMS_MAX) {
        fprintf(stderr, "stream %u is one too many\n", (unsigned)id);
        return;
    }
    struct stream *stream = &streams[stream_count++];
    stream->id = id;
    stream->fd = sp_user_stream_open((int32_t)id, SPEAR_STREAM_BOTH);
    require(stream->fd, "open");
    open_count++;
    watch(stream);
}

/* False once the clients are gone. */
static int read_events(void)
{
    sp_stream_event event;
    uint32_t len = sizeof event;
    while (sp_user_stream_ctl_read(ctl, &event, &len) == sizeof event) {
        if (event.kind == SPEAR_STREAM_SESSION_CLOSED)
            return 0;
        open_stream(event.stream_id);
        len = sizeof event;
    }
    return 1;
}

static void close_stream(struct stream *stream)
{
    require(sp_epoll_ctl(epfd, SPEAR_EPOLL_DEL, stream->fd, 0), "unwatch");
    require(sp_user_stream_close(stream->fd), "close");
    free(stream->frame);
    stream->frame = NULL;
    stream->fd = -1;
    open_count--;
}

/* Sends what was kept, then what comes in; keeps what finds no room. */
static void echo(struct stream *stream)
{
    if (stream->frame) {
        if (sp_user_stream_write(stream->fd, stream->frame, (int32_t)stream->len) == -SPEAR_EAGAIN)
            return;
        free(stream->frame);
        stream->frame = NULL;
        echoed++;
    }
    for (;;) {
        uint32_t len = FRAME_BYTES;
        if (sp_user_stream_read(stream->fd, buffer, &len) < 0)
            break;
        if (sp_user_stream_write(stream->fd, buffer, (int32_t)len) == -SPEAR_EAGAIN) {
            stream->frame = malloc(len);
            if (stream->frame == NULL)
                exit(2);
            stream->len = len;
            for (uint32_t i = 0; i < len; i++)
                stream->frame[i] = buffer[i];
            break;
        }
        echoed++;
    }
    watch(stream);
}

static struct stream *stream_of(int32_t fd)
{
    for (int i = 0; i < stream_count; i++)
        if (streams[i].fd == fd)
            return &streams[i];
    return NULL;
}

int main(void)
{
    sp_epoll_event events[STREAMS_MAX + 1];
    int going = 1;
    if ((buffer = malloc(FRAME_BYTES)) == NULL)
        return 2;
    require(epfd = sp_epoll_create(), "epoll");
    require(ctl = sp_user_stream_ctl_open(), "control");
    require(sp_epoll_ctl(epfd, SPEAR_EPOLL_ADD, ctl, SPEAR_EPOLLIN), "watch control");
    while (going) {
        uint32_t len = sizeof events;
        int32_t count = sp_epoll_wait(epfd, events, &len, -1);
        require(count, "wait");
        for (int32_t i = 0; i < count; i++) {
            struct stream *stream = stream_of(events[i].fd);
            if (events[i].fd == ctl)
                going = read_events() && going;
            else if (stream && events[i].events & (SPEAR_EPOLLIN | SPEAR_EPOLLOUT))
                echo(stream);
            else if (stream)
                close_stream(stream);
        }
    }
    printf("%ld frames of %d streams echoed\n", echoed, stream_count);
    return 0;
}
