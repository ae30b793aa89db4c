// build: -Wl,--export-table
/* Asks a model by the conveniences of spear.h: `chatter TEXT`. Offers the tool sum, prints the size
 * of the response, its first 60 bytes and its metrics; 0, or the first error, negated.
 */
#include <spear.h>
#include <string.h>

static char arena[4096] __attribute__((aligned(8)));

/* The sum of the digits of its arguments. */
static int32_t sum(const char *args, int32_t args_len, char *out, uint32_t *out_len)
{
    int total = 0;
    for (int32_t i = 0; i < args_len; i++)
        total += args[i] >= '0' && args[i] <= '9' ? args[i] - '0' : 0;
    *out_len = (uint32_t)snprintf(out, *out_len, "%d", total);
    return 0;
}

int main(int argc, char **argv)
{
    char *body, *metrics;
    int32_t chat = sp_cchat_create(), status, size, response;
    if (chat < 0)
        return -chat;
    if ((status = sp_chat_write(chat, "user", argc > 1 ? argv[1] : "")) < 0
        || (status = sp_chat_param(chat, "model", "\"small\"")) < 0
        || (status = sp_chat_arena(chat, arena, sizeof arena)) < 0
        || (status = sp_chat_tool(chat, sum, "{\"name\":\"sum\"}")) < 0)
        return -status;
    if ((size = sp_chat_ask(chat, SPEAR_CHAT_AUTO_TOOL_CALL, &body)) < 0)
        return -size;
    printf("%d %zu %.60s\n", size, strlen(body), body);
    free(body);
    if ((response = sp_cchat_send(chat, SPEAR_CHAT_METRICS)) < 0)
        return -response;
    if ((size = sp_cchat_metrics_alloc(response, &metrics)) < 0)
        return -size;
    printf("%s\n", metrics);
    free(metrics);
    return -sp_cchat_close(chat);
}
