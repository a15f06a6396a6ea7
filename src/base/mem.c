// SPDX-License-Identifier: Apache-2.0
// Allocation. Each block has a header of one cache line before it, which keeps the block aligned
// and knows its size. Large blocks are pages straight from the system, which are zero and cost
// nothing until they are touched: a cache for a long context is planned at its full size.
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"

struct mem_header {
    uint64_t magic; // tells a block of ours from any other pointer, and from a freed one
    size_t size;
    bool is_pages;
};
_Static_assert(sizeof(struct mem_header) <= MEM_ALIGN, "the header fits before an aligned block");

#define MEM_MAGIC     UINT64_C(0x6361726174206D65)
#define MEM_PAGES_MIN ((size_t)256 * 1024)

// A sanitizer sees overflows and leaks only in its own allocator's blocks.
#if defined(__SANITIZE_ADDRESS__)
#define MEM_USES_PAGES false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEM_USES_PAGES false
#endif
#endif
#ifndef MEM_USES_PAGES
#define MEM_USES_PAGES true
#endif

static atomic_size_t bytes_now;
static atomic_size_t bytes_peak;
static atomic_size_t fail_in; // allocations until the one that fails; 0: none

bool size_add(size_t *out, size_t a, size_t b)
{
    if (a > SIZE_MAX - b) {
        return false;
    }
    *out = a + b;
    return true;
}

bool size_mul(size_t *out, size_t a, size_t b)
{
    if (b != 0 && a > SIZE_MAX / b) {
        return false;
    }
    *out = a * b;
    return true;
}

static void count_taken(size_t size)
{
    size_t now = atomic_fetch_add_explicit(&bytes_now, size, memory_order_relaxed) + size;
    size_t peak = atomic_load_explicit(&bytes_peak, memory_order_relaxed);
    while (now > peak && !atomic_compare_exchange_weak_explicit(
                             &bytes_peak, &peak, now, memory_order_relaxed, memory_order_relaxed)) {
    }
}

// Whether a test asked for this very allocation to fail.
static bool must_fail(void)
{
    size_t n = atomic_load_explicit(&fail_in, memory_order_relaxed);
    while (n > 0) {
        if (atomic_compare_exchange_weak(&fail_in, &n, n - 1)) {
            return n == 1;
        }
    }
    return false;
}

// Zeroed memory of the whole size, header included; NULL when there is none.
static void *take_raw(size_t size, bool is_pages, bool will_be_filled)
{
    if (is_pages) {
        return os_pages_new(size, will_be_filled);
    }
    void *raw = NULL;
    if (posix_memalign(&raw, MEM_ALIGN, size)) {
        return NULL;
    }
    return memset(raw, 0, size);
}

static void *new_block(size_t size, bool will_be_filled, struct carat_error *err)
{
    size_t whole;
    bool is_pages = MEM_USES_PAGES && size >= MEM_PAGES_MIN;
    // Nothing in an address space is larger than PTRDIFF_MAX; some allocators complain aloud.
    void *raw = NULL;
    if (size_add(&whole, size, MEM_ALIGN) && whole <= PTRDIFF_MAX && !must_fail()) {
        raw = take_raw(whole, is_pages, will_be_filled);
    }
    if (!raw) {
        fail(err, CARAT_E_MEMORY, "no memory for %zu bytes (%zu are in use)", size,
             mem_bytes_now());
        return NULL;
    }
    struct mem_header *header = raw;
    *header = (struct mem_header){.magic = MEM_MAGIC, .size = size, .is_pages = is_pages};
    count_taken(size);
    return (uint8_t *)raw + MEM_ALIGN;
}

void *mem_new(size_t size, struct carat_error *err)
{
    return new_block(size, false, err);
}

void *mem_new_filled(size_t size, struct carat_error *err)
{
    return new_block(size, true, err);
}

void *mem_new_array(size_t count, size_t element_size, struct carat_error *err)
{
    size_t size;
    if (!size_mul(&size, count, element_size)) {
        fail(err, CARAT_E_MEMORY, "no memory for %zu elements of %zu bytes", count, element_size);
        return NULL;
    }
    return mem_new(size, err);
}

static struct mem_header *header_of(void *block)
{
    struct mem_header *header = (void *)((uint8_t *)block - MEM_ALIGN);
    require(header->magic == MEM_MAGIC);
    return header;
}

void *mem_resize(void *block, size_t new_size, struct carat_error *err)
{
    void *grown = mem_new(new_size, err);
    if (grown && block) {
        size_t size = header_of(block)->size;
        memcpy(grown, block, size < new_size ? size : new_size);
        mem_free(block);
    }
    return grown;
}

void mem_free(void *block)
{
    if (!block) {
        return;
    }
    struct mem_header *header = header_of(block);
    size_t size = header->size;
    header->magic = 0;
    atomic_fetch_sub_explicit(&bytes_now, size, memory_order_relaxed);
    if (header->is_pages) {
        os_pages_free(header, size + MEM_ALIGN);
    } else {
        free(header);
    }
}

char *mem_strdup(const char *text, struct carat_error *err)
{
    return mem_strndup(text, strlen(text), err);
}

char *mem_strndup(const char *text, size_t size, struct carat_error *err)
{
    size_t whole;
    if (!size_add(&whole, size, 1)) {
        fail(err, CARAT_E_MEMORY, "no memory for a text of %zu bytes", size);
        return NULL;
    }
    char *copy = mem_new(whole, err);
    if (copy && size > 0) {
        memcpy(copy, text, size);
    }
    return copy;
}

size_t mem_bytes_now(void)
{
    return atomic_load_explicit(&bytes_now, memory_order_relaxed);
}

size_t mem_bytes_peak(void)
{
    return atomic_load_explicit(&bytes_peak, memory_order_relaxed);
}

void mem_fail_nth(size_t n)
{
    atomic_store(&fail_in, n);
}

#define ARENA_ALIGN     16
#define ARENA_BLOCK_MIN ((size_t)4 * 1024)
#define ARENA_BLOCK_MAX ((size_t)1024 * 1024)

struct arena_block {
    struct arena_block *next; // older
    size_t size;              // bytes of content
    size_t used;
    size_t unused; // keeps the content at a multiple of ARENA_ALIGN
};
_Static_assert(sizeof(struct arena_block) % ARENA_ALIGN == 0, "content begins aligned");

// A new block in front, twice the last one's size within limits, and large enough for size.
static struct arena_block *arena_grow(struct arena *arena, size_t size, struct carat_error *err)
{
    size_t content = ARENA_BLOCK_MIN;
    if (arena->first && arena->first->size >= ARENA_BLOCK_MIN) {
        content = arena->first->size;
        content = content < ARENA_BLOCK_MAX / 2 ? 2 * content : ARENA_BLOCK_MAX;
    }
    content = content < size ? size : content;
    size_t whole;
    if (!size_add(&whole, content, sizeof(struct arena_block))) {
        fail(err, CARAT_E_MEMORY, "no memory for %zu bytes", size);
        return NULL;
    }
    struct arena_block *block = mem_new(whole, err);
    if (block) {
        block->size = content;
        block->next = arena->first;
        arena->first = block;
    }
    return block;
}

void *arena_take(struct arena *arena, size_t size, struct carat_error *err)
{
    size_t rounded;
    if (!size_add(&rounded, size, ARENA_ALIGN - 1)) {
        fail(err, CARAT_E_MEMORY, "no memory for %zu bytes", size);
        return NULL;
    }
    rounded -= rounded % ARENA_ALIGN;
    rounded = rounded == 0 ? ARENA_ALIGN : rounded;
    if (arena->max > 0 && (rounded > arena->max || arena->taken > arena->max - rounded)) {
        fail(err, CARAT_E_FULL, "more than %zu bytes are needed here, which is the limit",
             arena->max);
        return NULL;
    }
    struct arena_block *block = arena->first;
    if (!block || block->size - block->used < rounded) {
        block = arena_grow(arena, rounded, err);
        if (!block) {
            return NULL;
        }
    }
    void *taken = (uint8_t *)(block + 1) + block->used;
    block->used += rounded;
    arena->taken += rounded;
    return taken;
}

char *arena_strndup(struct arena *arena, const char *text, size_t size, struct carat_error *err)
{
    size_t whole;
    if (!size_add(&whole, size, 1)) {
        fail(err, CARAT_E_MEMORY, "no memory for a text of %zu bytes", size);
        return NULL;
    }
    char *copy = arena_take(arena, whole, err);
    if (copy && size > 0) {
        memcpy(copy, text, size);
    }
    return copy;
}

void arena_release(struct arena *arena)
{
    if (!arena) {
        return;
    }
    struct arena_block *block = arena->first;
    while (block) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
    arena->first = NULL;
    arena->taken = 0;
}
