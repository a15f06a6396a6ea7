// SPDX-License-Identifier: Apache-2.0
// Allocation with overflow checks, byte counts and arenas. All library rooms allocate through
// here, so that estimates can be compared with what was taken, and so that a test can make the
// nth allocation fail.
#ifndef CARAT_BASE_MEM_H
#define CARAT_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "carat.h"

// Every block is aligned to this many bytes: a cache line, and the widest vector.
#define MEM_ALIGN 64

// Checked arithmetic on sizes: false on overflow, and then *out is untouched.
bool size_add(size_t *out, size_t a, size_t b);
bool size_mul(size_t *out, size_t a, size_t b);

// Zeroed memory, aligned to MEM_ALIGN; NULL with CARAT_E_MEMORY in err when there is none or when
// the size overflows. A size of 0 gives a valid block. Freed with mem_free.
void *mem_new(size_t size, struct carat_error *err);
// The same for a block that will be filled whole: in large pages where the system has them.
void *mem_new_filled(size_t size, struct carat_error *err);
void *mem_new_array(size_t count, size_t element_size, struct carat_error *err);
// Grows or shrinks a block from mem_new; new bytes are zero. On failure the old block stays valid.
void *mem_resize(void *block, size_t new_size, struct carat_error *err);
void mem_free(void *block); // takes NULL
char *mem_strdup(const char *text, struct carat_error *err);
char *mem_strndup(const char *text, size_t size, struct carat_error *err); // adds a terminator

// Bytes held now and the most that were held at once, over the whole process.
size_t mem_bytes_now(void);
size_t mem_bytes_peak(void);

// For tests: the nth allocation from now (1 = the next) fails, once; 0 switches that off.
void mem_fail_nth(size_t n);

// An arena: many small allocations freed in one piece. One thread.
struct arena_block;
struct arena {
    struct arena_block *first; // newest block
    size_t max;                // most bytes it may take in all; 0: no limit of its own
    size_t taken;
};
// arena may be zeroed memory: then it has no limit. The returned memory is zeroed, 16-byte aligned.
void *arena_take(struct arena *arena, size_t size, struct carat_error *err);
char *arena_strndup(struct arena *arena, const char *text, size_t size, struct carat_error *err);
void arena_release(struct arena *arena); // frees everything; the arena may be used again

#endif
