/* member.h: what the workers of the team share: they ask a model about their input.
 */
#ifndef MEMBER_H
#define MEMBER_H

#include <spear.h>
#include <spear_json.h>

static char input[32 * 1024];

static inline const char *read_input(void)
{
    input[fread(input, 1, sizeof input - 1, stdin)] = '\0';
    return input;
}

/* The model's answer, to be free()d, or NULL with the reason on stderr. */
static inline char *ask_model(const char *role, const char *text)
{
    int32_t chat = sp_cchat_create(), status;
    char *response = NULL, *answer;
    if ((status = chat) < 0 || (status = sp_chat_write(chat, "system", role)) < 0
        || (status = sp_chat_write(chat, "user", text)) < 0
        || (status = sp_chat_ask(chat, 0, &response)) < 0) {
        fprintf(stderr, "the host refuses: error %d\n", (int)-status);
        return NULL;
    }
    answer = sp_json_text(response, "content");
    if (answer == NULL)
        fprintf(stderr, "no answer: %s\n", response);
    free(response);
    return answer;
}

#endif
