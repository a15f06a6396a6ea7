// SPDX-License-Identifier: Apache-2.0
// One GGUF v3 file (or one shard of a split set), mapped read-only: its metadata and its list of
// tensors, every size and offset checked against the file before use.
#ifndef CARAT_FORMATS_GGUF_H
#define CARAT_FORMATS_GGUF_H

#include "base/os.h"
#include "formats/dtype.h"

enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
};

// Limits of the parser, far above any model there is. Counts are also held against the file's size.
#define GGUF_HEADER_MAX        ((size_t)1 << 30) // bytes of metadata and tensor list
#define GGUF_KEYS_MAX          65536
#define GGUF_TENSORS_MAX       65536
#define GGUF_KEY_SIZE_MAX      65535
#define GGUF_NAME_SIZE_MAX     255
#define GGUF_ARRAY_MAX         ((uint64_t)1 << 24) // elements
#define GGUF_ALIGNMENT_MAX     ((uint64_t)1 << 20)
#define GGUF_ALIGNMENT_DEFAULT 32

struct gguf_tensor {
    struct slice name; // in the mapping; UTF-8 without control characters
    enum dtype type;
    uint32_t n_dims;
    uint64_t dims[4]; // as stored: dims[0] is the contiguous one; unused ones are 1
    const uint8_t *data;
    uint64_t offset; // of data in the file
    uint64_t size;   // bytes; data[0..size) lies in the file and overlaps no other tensor's
};

struct gguf;
// Only version 3, little-endian. Refused: names and keys that occur twice or are not UTF-8, arrays
// of arrays, unknown element types, tensors out of order (llama.cpp refuses those, too), any size
// or offset that does not fit the file.
int gguf_open(struct gguf **out, const char *path, struct carat_error *err);
// The same over bytes of the caller, which outlive the result (for tests and fuzzing). name is what
// errors call it.
int gguf_open_memory(struct gguf **out, const void *data, size_t size, const char *name,
                     struct carat_error *err);
void gguf_close(struct gguf *g); // takes NULL
const struct os_map *gguf_map(const struct gguf *g);
const char *gguf_path(const struct gguf *g);

size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_find(const struct gguf *g, const char *name); // NULL: absent

// Metadata, in file order, for listing.
size_t gguf_n_keys(const struct gguf *g);
struct slice gguf_key_at(const struct gguf *g, size_t i);
// A short printable form of the value: numbers, strings cut to max bytes, "array of 262144
// strings".
void gguf_value_text(const struct gguf *g, size_t i, struct buf *out, size_t max);
bool gguf_has(const struct gguf *g, const char *key);
// A value as it stands in the file, for copying: its type, that of an array's elements with their
// number, and the bytes: of a scalar, of a string without its length, of all elements of an array.
struct gguf_value {
    enum gguf_type type;
    enum gguf_type element;
    uint64_t count;
    struct slice bytes;
};
struct gguf_value gguf_value_at(const struct gguf *g, size_t i);

// Typed getters. Absent: returns 1 and leaves *out alone. Of another kind, or out of range: an
// error that names file, key, expected and found. Any integer type is accepted where it fits.
int gguf_get_u64(const struct gguf *g, const char *key, uint64_t *out, struct carat_error *err);
int gguf_get_f64(const struct gguf *g, const char *key, double *out, struct carat_error *err);
int gguf_get_bool(const struct gguf *g, const char *key, bool *out, struct carat_error *err);
int gguf_get_string(const struct gguf *g, const char *key, struct slice *out,
                    struct carat_error *err);

// Arrays of scalars or strings. The view is walked from the start by gguf_array_next_*; strings are
// in the mapping and may be any bytes. type is the element type. Elements of a type that does not
// suit the call, and elements past the end, give 0 or an empty string.
struct gguf_array {
    enum gguf_type type;
    uint64_t count;
    struct cursor at;
    const char *path, *key; // for messages
};
int gguf_get_array(const struct gguf *g, const char *key, struct gguf_array *out,
                   struct carat_error *err);
struct slice gguf_array_next_string(struct gguf_array *a);
int64_t gguf_array_next_i64(struct gguf_array *a); // integers (the largest u64 are cut), bools
double gguf_array_next_f64(struct gguf_array *a);  // floats and integers

#endif
