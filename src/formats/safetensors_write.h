// SPDX-License-Identifier: Apache-2.0
// What stands before the data of a safetensors file: the list of tensors. The data follow in the
// order in which the tensors were added, without gaps; partial.h brings them to disk.
#ifndef CARAT_FORMATS_SAFETENSORS_WRITE_H
#define CARAT_FORMATS_SAFETENSORS_WRITE_H

#include "formats/safetensors.h"

// Zeroed memory is one without tensors.
struct safetensors_writer {
    struct buf header; // after safetensors_writer_plan: the bytes before the data
    uint64_t size;     // of the data; after planning of the whole file
    size_t n;
};
// dims: the last one is contiguous. Names are told apart by the caller.
int safetensors_writer_add(struct safetensors_writer *w, const char *name, enum dtype type,
                           uint32_t n_dims, const uint64_t *dims, struct carat_error *err);
// Nothing may be added afterwards.
int safetensors_writer_plan(struct safetensors_writer *w, struct carat_error *err);
void safetensors_writer_release(struct safetensors_writer *w);

#endif
