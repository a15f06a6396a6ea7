// SPDX-License-Identifier: Apache-2.0
// Rows of weights to packed strips and back, in plain C: every level reads the same order, and a
// model is packed as fast as memory allows. kern.h has the order, docs/kernels.md the reason.
#include <string.h>

#include "base/mem.h"
#include "compute/cpu/kern.h"

enum { WORD = 4 };

struct kern_packing kern_packing_of(enum dtype type)
{
    const struct dtype_info *t = &dtypes[type];
    const struct kern_coding *c = &kern_codings[type];
    if (t->block_values == 1) {
        return (struct kern_packing){.values = WORD / t->block_size, .size = WORD};
    }
    return (struct kern_packing){
        .values = t->block_values,
        .size = t->block_size,
        .loose_at = c->loose_at,
        .loose_size = c->loose_size,
    };
}

bool kern_strip_size(size_t *out, enum dtype type, size_t n)
{
    const struct kern_packing p = kern_packing_of(type);
    const size_t blocks = n / p.values + (n % p.values != 0);
    size_t size;
    if (!size_mul(&size, blocks, p.size) || !size_mul(&size, size, KERN_LANES)) {
        return false;
    }
    *out = size;
    return true;
}

// One block of one row to its lane.
static void pack_block(uint8_t *to, const uint8_t *block, size_t lane, const struct kern_packing *p)
{
    memcpy(to + lane * p->loose_size, block + p->loose_at, p->loose_size);
    to += KERN_LANES * p->loose_size + lane * WORD;
    const size_t before = p->loose_size > 0 ? p->loose_at : p->size;
    for (size_t i = 0; i < before; i += WORD, to += KERN_LANES * WORD) {
        memcpy(to, block + i, WORD);
    }
    for (size_t i = before + p->loose_size; i < p->size; i += WORD, to += KERN_LANES * WORD) {
        memcpy(to, block + i, WORD);
    }
}

static void unpack_block(uint8_t *block, const uint8_t *from, size_t lane,
                         const struct kern_packing *p)
{
    memcpy(block + p->loose_at, from + lane * p->loose_size, p->loose_size);
    from += KERN_LANES * p->loose_size + lane * WORD;
    const size_t before = p->loose_size > 0 ? p->loose_at : p->size;
    for (size_t i = 0; i < before; i += WORD, from += KERN_LANES * WORD) {
        memcpy(block + i, from, WORD);
    }
    for (size_t i = before + p->loose_size; i < p->size; i += WORD, from += KERN_LANES * WORD) {
        memcpy(block + i, from, WORD);
    }
}

void kern_pack_strip(uint8_t *strip, struct strip_source from, size_t n_rows, size_t n,
                     enum dtype type)
{
    const struct kern_packing p = kern_packing_of(type);
    const size_t rest = n % p.values * dtypes[type].block_size; // of a last word, half filled
    for (size_t b = 0; b < n / p.values; b++) {
        for (size_t lane = 0; lane < KERN_LANES; lane++) {
            const size_t row = lane < n_rows ? lane : n_rows - 1;
            pack_block(strip, from.data + row * from.stride + b * p.size, lane, &p);
        }
        strip += KERN_LANES * p.size;
    }
    for (size_t lane = 0; lane < KERN_LANES && rest > 0; lane++) {
        const size_t row = lane < n_rows ? lane : n_rows - 1;
        uint8_t word[WORD] = {0};
        memcpy(word, from.data + row * from.stride + n / p.values * p.size, rest);
        pack_block(strip, word, lane, &p);
    }
}

void kern_packed_row(uint8_t *row, const uint8_t *strip, size_t lane, size_t first, size_t n,
                     enum dtype type)
{
    const struct kern_packing p = kern_packing_of(type);
    const size_t rest = n % p.values * dtypes[type].block_size;
    strip += first / p.values * p.size * KERN_LANES;
    for (size_t b = 0; b < n / p.values; b++) {
        unpack_block(row, strip, lane, &p);
        row += p.size;
        strip += KERN_LANES * p.size;
    }
    if (rest > 0) {
        uint8_t word[WORD];
        unpack_block(word, strip, lane, &p);
        memcpy(row, word, rest);
    }
}
