// SPDX-License-Identifier: Apache-2.0
// The header of a safetensors file: docs/formats.md.
#include "formats/safetensors_write.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define LENGTH_SIZE 8 // the header begins with its own length
#define ALIGNMENT   8 // of the data, by spaces at the header's end

static void begin(struct safetensors_writer *w)
{
    static const char length[LENGTH_SIZE];
    w->header.max = SAFETENSORS_HEADER_MAX + LENGTH_SIZE;
    buf_add(&w->header, length, sizeof(length));
    buf_adds(&w->header, "{\"__metadata__\":{\"format\":\"pt\"}");
}

int safetensors_writer_add(struct safetensors_writer *w, const char *name, enum dtype type,
                           uint32_t n_dims, const uint64_t *dims, struct carat_error *err)
{
    const char *type_name = dtypes[type].safetensors;
    uint64_t n = 1;
    if (!type_name) {
        return fail(err, CARAT_E_UNSUPPORTED, "tensor '%s': a safetensors file has no type %s",
                    name, dtypes[type].name);
    }
    if (w->n == 0) {
        begin(w);
    }
    if (w->n++ >= SAFETENSORS_TENSORS_MAX) {
        return fail(err, CARAT_E_FULL, "more than %d tensors", SAFETENSORS_TENSORS_MAX);
    }
    buf_addc(&w->header, ',');
    buf_add_json(&w->header, name, strlen(name));
    buf_addf(&w->header, ":{\"dtype\":\"%s\",\"shape\":[", type_name);
    for (uint32_t i = 0; i < n_dims; i++) {
        buf_addf(&w->header, "%s%llu", i ? "," : "", (unsigned long long)dims[i]);
        if (dims[i] == 0 || n > (uint64_t)INT64_MAX / 16 / dims[i]) {
            return fail(err, CARAT_E_FULL, "tensor '%s': no file is that large", name);
        }
        n *= dims[i];
    }
    uint64_t size = n * dtypes[type].block_size;
    if (size > (uint64_t)INT64_MAX / 2 - w->size) {
        return fail(err, CARAT_E_FULL, "tensor '%s': no file is that large", name);
    }
    buf_addf(&w->header, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)w->size,
             (unsigned long long)(w->size + size));
    w->size += size;
    return 0;
}

int safetensors_writer_plan(struct safetensors_writer *w, struct carat_error *err)
{
    if (w->n == 0) {
        begin(w);
    }
    buf_addc(&w->header, '}');
    while (w->header.size % ALIGNMENT != 0 && !w->header.has_failed) {
        buf_addc(&w->header, ' ');
    }
    int rc = buf_status(&w->header, err);
    if (rc) {
        return rc;
    }
    uint64_t length = w->header.size - LENGTH_SIZE;
    for (size_t i = 0; i < LENGTH_SIZE; i++) {
        w->header.data[i] = (char)(uint8_t)(length >> (8 * i));
    }
    w->size += w->header.size;
    return 0;
}

void safetensors_writer_release(struct safetensors_writer *w)
{
    buf_release(&w->header);
    *w = (struct safetensors_writer){.n = 0};
}
