// SPDX-License-Identifier: Apache-2.0
// What stands before the data of a GGUF v3 file: metadata, copied or set, and the list of tensors
// with their places. The data follow in the order in which the tensors were added; file_write.h
// brings them to disk.
#ifndef CARAT_FORMATS_GGUF_WRITE_H
#define CARAT_FORMATS_GGUF_WRITE_H

#include "formats/gguf.h"

struct gguf_writer;
int gguf_writer_new(struct gguf_writer **out, struct carat_error *err);
void gguf_writer_free(struct gguf_writer *w); // takes NULL

// Metadata. A key that is set again keeps its place and takes the new value. What goes wrong is
// kept, and told by gguf_writer_plan.
void gguf_set_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_set_i32(struct gguf_writer *w, const char *key, int32_t value);
void gguf_set_f32(struct gguf_writer *w, const char *key, float value);
void gguf_set_bool(struct gguf_writer *w, const char *key, bool value);
void gguf_set_string(struct gguf_writer *w, const char *key, struct slice value);
// Scalars of a type with a fixed size, in this machine's order of bytes.
void gguf_set_array(struct gguf_writer *w, const char *key, enum gguf_type element,
                    const void *values, uint64_t count);
void gguf_set_strings(struct gguf_writer *w, const char *key, const struct slice *values,
                      uint64_t count);
// As it stands in another file.
void gguf_set_value(struct gguf_writer *w, struct slice key, struct gguf_value value);
void gguf_unset(struct gguf_writer *w, const char *key);
bool gguf_is_set(const struct gguf_writer *w, const char *key);

// dims as in the file: dims[0] is the contiguous one.
int gguf_writer_add(struct gguf_writer *w, struct slice name, enum dtype type, uint32_t n_dims,
                    const uint64_t *dims, struct carat_error *err);
// Places the tensors. Nothing may be set or added afterwards.
int gguf_writer_plan(struct gguf_writer *w, struct carat_error *err);

// After gguf_writer_plan. The bytes before the data, padding included; they live with the writer.
struct slice gguf_writer_header(const struct gguf_writer *w);
uint64_t gguf_writer_size(const struct gguf_writer *w); // of the whole file
// Where tensor i begins in the file, and its bytes; zeros fill what is between two of them.
uint64_t gguf_writer_offset(const struct gguf_writer *w, size_t i);
uint64_t gguf_writer_tensor_size(const struct gguf_writer *w, size_t i);

#endif
