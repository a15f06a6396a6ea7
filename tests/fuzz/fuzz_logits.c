// SPDX-License-Identifier: Apache-2.0
// Files of recorded logits. The first byte says whether the checksums are made right first: behind
// them is everything else.
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/eval_measure.h"

#define LIMIT     (1u << 20)
#define HEAD_SIZE 304
#define HAS_SUMS  1 // of the first byte

static void put_sums(uint8_t *data, size_t size)
{
    struct hash h;
    uint32_t n_vocab = 0;
    uint64_t n_rows = 0;
    hash_init(&h, NULL);
    hash_add(&h, data, HEAD_SIZE - HASH_SIZE);
    hash_digest(&h, data + HEAD_SIZE - HASH_SIZE);
    memcpy(&n_vocab, data + 12, sizeof(n_vocab));
    memcpy(&n_rows, data + 16, sizeof(n_rows));
    size_t row = logit_row_size(n_vocab);
    for (size_t at = HEAD_SIZE; row <= size - at; at += row, n_rows--) {
        hash_init(&h, NULL);
        hash_add_u64(&h, n_rows);
        hash_add(&h, data + at, row - 8);
        uint64_t sum = hash_u64(&h);
        memcpy(data + at + row - 8, &sum, sizeof(sum));
    }
}

// Every row beside the first.
static void compare_all(struct logit_reader *r)
{
    const size_t n = r->head.n_vocab;
    struct logit_row first = {.codes = mem_new_array(n, sizeof(uint16_t), NULL)};
    struct logit_row row = {.codes = mem_new_array(n, sizeof(uint16_t), NULL)};
    if (!first.codes || !row.codes) {
        abort();
    }
    if (r->head.n_rows > 0 && logit_reader_next(r, &first, NULL) == 0) {
        if (first.top >= n || logit_rows_divergence(&first, &first, n) != 0) {
            abort();
        }
        while (logit_reader_next(r, &row, NULL) == 0) {
            if (row.top >= n || isnan(logit_rows_divergence(&first, &row, n))) {
                abort();
            }
        }
    }
    mem_free(first.codes);
    mem_free(row.codes);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    struct os_reader file = {.path = NULL};
    struct logit_reader r = {.bytes = NULL};
    if (input_size < 1 || input_size > LIMIT) {
        return 0;
    }
    size_t size = input_size - 1;
    uint8_t *data = malloc(size + 1);
    if (!data) {
        abort();
    }
    memcpy(data, input + 1, size);
    if ((input[0] & HAS_SUMS) && size >= HEAD_SIZE) {
        put_sums(data, size);
    }
    if (os_reader_open_memory(&file, data, size, "input", NULL) == 0 &&
        logit_reader_take(&r, &file, NULL) == 0) {
        compare_all(&r);
    }
    logit_reader_close(&r);
    free(data);
    return 0;
}
