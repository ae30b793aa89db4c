/* A worker of the team: its input are notes, its output a text that a model made of them, and the
 * notes below it.
 */
#include "member.h"

int main(void)
{
    const char *notes = read_input();
    char *text = ask_model("Make one short text of these notes.", notes);
    if (text == NULL)
        return 1;
    printf("%s\n\nNotes:\n%s", text, notes);
    free(text);
    return 0;
}
