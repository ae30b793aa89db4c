/* A worker of the team: its input is a topic, its output what a model knows of it. */
#include "member.h"

int main(void)
{
    char *found = ask_model("Give the three most important facts, in one line.", read_input());
    if (found == NULL)
        return 1;
    fputs(found, stdout);
    free(found);
    return 0;
}
