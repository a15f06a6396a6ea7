// SPDX-License-Identifier: Apache-2.0
// Makes GGUF and safetensors files in memory, right or wrong ones, and folders to put them into.
#ifndef CARAT_TESTS_FORMATS_MAKER_H
#define CARAT_TESTS_FORMATS_MAKER_H

#include "base/str.h"
#include "formats/gguf.h"

// Parts of a GGUF file; zeroed memory is an empty one. maker_finish puts them together.
struct maker {
    struct buf keys, tensors, data;
    uint64_t n_keys, n_tensors; // what the header will say
    uint64_t alignment;         // of the data; 0: 32
};

void put_u32(struct buf *b, uint32_t value);
void put_u64(struct buf *b, uint64_t value);
void put_string(struct buf *b, const char *text); // with its length before it

void maker_key(struct maker *m, const char *key, uint32_t type); // the value is put by the caller
void maker_u32(struct maker *m, const char *key, uint32_t value);
void maker_string(struct maker *m, const char *key, const char *text);
// Begins an array; its elements are put by the caller.
void maker_array(struct maker *m, const char *key, uint32_t element, uint64_t count);
// A tensor's line in the list; its data is put by the caller.
void maker_info(struct maker *m, const char *name, uint32_t n_dims, const uint64_t *dims,
                uint32_t type, uint64_t offset);
// A tensor of rows x columns in F32 with its data, which is counted up from first.
void maker_tensor(struct maker *m, const char *name, uint64_t columns, uint64_t rows, float first);
void maker_finish(struct maker *m, struct buf *out); // releases the parts

// A model with each kind of value and two tensors: "a" [2 rows, 4 columns] = 1.., "b" [3] = 100..
void maker_small(struct buf *out);

// A safetensors file: header as given, n bytes of data counted up from 0.
void make_safetensors(struct buf *out, const char *header, size_t n);

// A folder of its own for a test: cmocka's setup and teardown.
struct place {
    char dir[64];
    char path[256];
};
int place_make(void **state);
int place_remove(void **state);                            // with all files in it
const char *place_path(struct place *p, const char *name); // lives until the next call
void place_write(struct place *p, const char *name, const void *data, size_t size);
void place_write_text(struct place *p, const char *name, const char *text);
void place_write_buf(struct place *p, const char *name, struct buf *b); // releases b

#endif
