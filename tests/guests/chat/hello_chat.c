/* The ABI's first chat: one message, a model, a time limit; prints the response as it is and the
 * name of the backend, which it finds by the bytes before it. Arguments: MODEL TIMEOUT_MS.
 */
#include "calls.h"

int main(int argc, char **argv)
{
    int32_t chat = cchat_create();
    char model[256];
    if (chat <= 0 || argc < 3)
        return 1;
    snprintf(model, sizeof model, "\"%s\"", argv[1]);
    if (say(chat, "user", "Hello, model!") || set(chat, "model", model)
        || set(chat, "timeout_ms", argv[2]))
        return 2;
    int32_t response = cchat_send(chat, METRICS);
    if (response <= 0)
        return 3;
    char *text = receive(response);
    if (text == NULL)
        return 4;
    puts(text);
    const char *name = strstr(text, "\"backend\":\"");
    if (name == NULL)
        return 5;
    name += strlen("\"backend\":\"");
    printf("backend: %.*s\n", (int)strcspn(name, "\""), name);
    char metrics[512];
    uint32_t len = sizeof metrics;
    int32_t size = cchat_ctl(response, GET_METRICS, metrics, &len);
    if (size < 0)
        return 6;
    printf("metrics: %.*s\n", (int)size, metrics);
    return cchat_close(response) || cchat_close(chat) ? 7 : 0;
}
