// SPDX-License-Identifier: Apache-2.0
// One safetensors file, mapped read-only: its list of tensors, checked against the file before use.
// Also used for golden files, so every dtype of the format is listed, computable or not.
#ifndef CARAT_FORMATS_SAFETENSORS_H
#define CARAT_FORMATS_SAFETENSORS_H

#include "base/os.h"
#include "formats/dtype.h"

#define SAFETENSORS_DIMS_MAX      8
#define SAFETENSORS_HEADER_MAX    100000000 // bytes; the limit of the reference reader
#define SAFETENSORS_TENSORS_MAX   262144
#define SAFETENSORS_NAME_SIZE_MAX 1000

struct safetensors_tensor {
    const char *name; // lives with the file
    enum dtype type;
    uint32_t n_dims;
    uint64_t dims[SAFETENSORS_DIMS_MAX]; // C order: the last one is contiguous
    const uint8_t *data;
    uint64_t size;   // bytes
    uint64_t values; // product of dims
};

struct safetensors;
// Refused, as by the reference reader: shapes that do not fit their bytes, gaps and overlaps, bytes
// after the last tensor, names that occur twice, unknown element types.
int safetensors_open(struct safetensors **out, const char *path, struct carat_error *err);
int safetensors_open_memory(struct safetensors **out, const void *data, size_t size,
                            const char *name, struct carat_error *err);
void safetensors_close(struct safetensors *s); // takes NULL
const struct os_map *safetensors_map(const struct safetensors *s);
const char *safetensors_path(const struct safetensors *s);
size_t safetensors_n_tensors(const struct safetensors *s);
const struct safetensors_tensor *safetensors_tensor_at(const struct safetensors *s, size_t i);
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);

#endif
