/* Random bytes for guests: small ones from a block that the kernel filled, one block a thread.
 *
 * Rule: a byte is given out once and wiped from the block then; a forked child never goes on with its
 * parent's block. What is large comes from the kernel each time.
 */
#ifndef SPEAR_ENTROPY_H
#define SPEAR_ENTROPY_H
#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

enum {
    ENTROPY_BLOCK_BYTES = 512, /* the system call costs as much as 200 of these bytes */
    ENTROPY_SMALL_BYTES = 64,
};

typedef struct entropy_t {
    size_t left; /* bytes not given out: the last ones of the block */
    int generation; /* of the process that they were drawn in */
    uint8_t block[ENTROPY_BLOCK_BYTES];
} entropy_t;

static __thread entropy_t entropy_own;

static inline void entropy_draw(uint8_t *out, size_t size)
{
    while (size > 0) {
        ssize_t got = getrandom(out, size, 0);
        if (got > 0) {
            out += got;
            size -= (size_t)got;
        }
    }
}

/* `generation` differs in a forked child. The bytes are as good as the kernel's. */
static inline void entropy_fill(void *out, size_t size, int generation)
{
    entropy_t *own = &entropy_own;
    if (size > ENTROPY_SMALL_BYTES) {
        entropy_draw(out, size);
        return;
    }
    if (own->left < size || own->generation != generation) {
        entropy_draw(own->block, sizeof own->block);
        own->left = sizeof own->block;
        own->generation = generation;
    }
    uint8_t *at = own->block + (sizeof own->block - own->left);
    memcpy(out, at, size);
    explicit_bzero(at, size);
    own->left -= size;
}

#endif
