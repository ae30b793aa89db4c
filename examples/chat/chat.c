/* Asks a model one question: its argument, else its input. The environment may say MODEL, and
 * SYSTEM, how the model shall behave. The answer is the output; who gave it is logged.
 */
#include <spear.h>
#include <spear_json.h>

static char input[32 * 1024];

/* A parameter whose value is a text. */
static int32_t set_text(int32_t chat, const char *key, const char *text)
{
    char *json = sp_json_quote(text);
    int32_t status = json == NULL ? -SPEAR_ENOMEM : sp_chat_param(chat, key, json);
    free(json);
    return status;
}

/* What the response says; a failed request is a response too. */
static int show(const char *response)
{
    char *answer = sp_json_text(response, "content"), *backend = sp_json_text(response, "backend");
    char *model = sp_json_text(response, "model"), *error = sp_json_text(response, "message");
    if (answer != NULL) {
        sp_logf(SPEAR_INFO, "answered by %s, model %s", backend, model);
        puts(answer);
    } else {
        fprintf(stderr, "no answer: %s\n", error != NULL ? error : response);
    }
    free(answer);
    free(backend);
    free(model);
    free(error);
    return answer == NULL;
}

int main(int argc, char **argv)
{
    const char *question = argc > 1 ? argv[1] : input, *model = getenv("MODEL");
    const char *system = getenv("SYSTEM");
    if (argc < 2)
        input[fread(input, 1, sizeof input - 1, stdin)] = '\0';
    if (question[0] == '\0') {
        fputs("what is the question? chat.wasm -- QUESTION, or as the input\n", stderr);
        return 2;
    }
    int32_t chat = sp_cchat_create(), status = chat;
    if (chat > 0 && model != NULL)
        status = set_text(chat, "model", model);
    if (status >= 0 && system != NULL)
        status = sp_chat_write(chat, "system", system);
    if (status >= 0)
        status = sp_chat_write(chat, "user", question);
    char *response = NULL;
    if (status >= 0)
        status = sp_chat_ask(chat, 0, &response);
    if (status < 0) {
        fprintf(stderr, "the host refuses: error %d\n", (int)-status);
        return 1;
    }
    int code = show(response);
    free(response);
    return code;
}
