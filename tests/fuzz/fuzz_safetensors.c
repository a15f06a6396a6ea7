// SPDX-License-Identifier: Apache-2.0
// Random safetensors files: refused with a message, or every tensor lies within the file.
#include <stdint.h>

#include "base/error.h"
#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s = NULL;
    struct carat_error err = {0};
    int rc = safetensors_open_memory(&s, data, size, "fuzz.safetensors", &err);
    require(rc == 0 || err.text[0] != 0);
    uint64_t total = 0;
    for (size_t i = 0; rc == 0 && i < safetensors_n_tensors(s); i++) {
        const struct safetensors_tensor *t = safetensors_tensor_at(s, i);
        require(safetensors_find(s, t->name) == t);
        require(t->n_dims <= SAFETENSORS_DIMS_MAX);
        require(t->data >= data && t->data <= data + size);
        require(t->size <= (size_t)(data + size - t->data));
        require(t->size == t->values * dtypes[t->type].block_size);
        total += t->size;
    }
    require(rc != 0 || total < size); // no byte belongs to two tensors
    safetensors_close(s);
    return 0;
}
