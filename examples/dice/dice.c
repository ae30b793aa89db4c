/* An agent that never does the same twice: it throws dice, waits as they say, asks for the time.
 * In a deterministic run all three come from the seed.
 */
#include <spear.h>

int main(void)
{
    int64_t began_ms = sp_time_now_ms();
    int sum = 0;
    printf("dice:");
    for (int i = 0; i < 6; i++) {
        int eyes = (int)((uint64_t)sp_random_i64() % 6) + 1;
        printf(" %d", eyes);
        sum += eyes;
        sp_sleep_ms(eyes);
    }
    printf("; sum %d; %lld ms by the clock\n", sum, (long long)(sp_time_now_ms() - began_ms));
    return 0;
}
