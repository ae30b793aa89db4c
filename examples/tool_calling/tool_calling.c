// build: -Wl,--export-table
/* A shop's agent: it answers a customer with the help of a tool, its own function `price`. The model
 * asks for the tool, the host calls it here while the send waits, the model goes on with its answer.
 */
#include <spear.h>
#include <spear_json.h>

enum { ARTICLES = 3, PIECES_MAX = 1000 };

static const struct { const char *name; int cents; } articles[ARTICLES] = {
    {"pencil", 120}, {"notebook", 350}, {"lamp", 2999},
};

static const char description[] =
    "{\"type\":\"function\",\"function\":{\"name\":\"price\","
    "\"description\":\"What some pieces of an article cost. Articles are 1 pencil, 2 notebook, "
    "3 lamp.\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"pieces\":{\"type\":\"integer\"},\"article\":{\"type\":\"integer\"}},"
    "\"required\":[\"pieces\",\"article\"]}}}";

/* Where the host puts a tool's arguments, and the tool its answer. */
static char arena[4096] __attribute__((aligned(8)));

/* What a model sends is as little to be trusted as any input. */
static int32_t price(const char *args, int32_t args_len, char *out, uint32_t *out_len)
{
    (void)args_len; /* a NUL is behind them */
    int64_t pieces = sp_json_int(args, "pieces", 0), article = sp_json_int(args, "article", 0);
    char text[128];
    int len;
    if (pieces < 1 || pieces > PIECES_MAX || article < 1 || article > ARTICLES) {
        len = snprintf(text, sizeof text, "{\"error\":\"pieces are 1 to %d, articles 1 to %d\"}",
                       PIECES_MAX, ARTICLES);
    } else {
        int cents = (int)pieces * articles[article - 1].cents;
        len = snprintf(text, sizeof text, "{\"article\":\"%s\",\"usd\":\"%d.%02d\"}",
                       articles[article - 1].name, cents / 100, cents % 100);
    }
    sp_logf(SPEAR_INFO, "tool price(%s) gives %s", args, text);
    if ((uint32_t)len > *out_len) {
        *out_len = (uint32_t)len;
        return -SPEAR_ENOSPC;
    }
    memcpy(out, text, (size_t)len);
    *out_len = (uint32_t)len;
    return 0;
}

int main(int argc, char **argv)
{
    const char *question = argc > 1 ? argv[1] : "What do 3 pieces of article 2 cost?";
    int32_t chat = sp_cchat_create(), status;
    char *response = NULL;
    if ((status = chat) < 0
        || (status = sp_chat_write(chat, "system", "You sell stationery. Be short.")) < 0
        || (status = sp_chat_write(chat, "user", question)) < 0
        || (status = sp_chat_tool(chat, price, description)) < 0
        || (status = sp_chat_arena(chat, arena, sizeof arena)) < 0
        || (status = sp_chat_ask(chat, SPEAR_CHAT_AUTO_TOOL_CALL, &response)) < 0) {
        fprintf(stderr, "the host refuses: error %d\n", (int)-status);
        return 1;
    }
    char *answer = sp_json_text(response, "content");
    if (answer != NULL)
        puts(answer);
    else
        fprintf(stderr, "no answer: %s\n", response);
    free(answer);
    free(response);
    return answer == NULL;
}
