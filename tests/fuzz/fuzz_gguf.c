// SPDX-License-Identifier: Apache-2.0
// Random GGUF files: refused with a message, or everything in them can be looked at.
#include <stdint.h>

#include "base/error.h"
#include "formats/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_tensor(const struct gguf *g, const struct gguf_tensor *t)
{
    const struct os_map *map = gguf_map(g);
    require(t->offset <= map->size && t->size <= map->size - t->offset);
    require(t->data == map->data + t->offset);
    const struct dtype_info *type = &dtypes[t->type];
    float values[256];
    if (type->unpack && t->size >= type->block_size) {
        type->unpack(values, t->data, type->block_values);
        type->unpack(values, t->data + t->size - type->block_size, type->block_values);
    }
}

static void use_array(struct gguf_array *a)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < a->count; i++) {
        if (a->type == GGUF_STRING) {
            struct slice s = gguf_array_next_string(a);
            sum += s.size > 0 ? (unsigned char)s.data[s.size - 1] : 0;
        } else if (a->type == GGUF_F32 || a->type == GGUF_F64) {
            sum += gguf_array_next_f64(a) > 0;
        } else {
            sum += (uint64_t)gguf_array_next_i64(a);
        }
    }
    require(!a->at.has_failed); // every element is there
    (void)sum;
}

static void use_key(const struct gguf *g, size_t i)
{
    struct buf text = {0};
    gguf_value_text(g, i, &text, 50);
    buf_clear(&text);
    buf_add_slice(&text, gguf_key_at(g, i));
    const char *key = buf_text(&text);
    require(gguf_has(g, key));
    uint64_t u;
    double x;
    bool b;
    struct slice s;
    struct gguf_array a;
    struct carat_error err = {0};
    gguf_get_u64(g, key, &u, &err);
    gguf_get_f64(g, key, &x, &err);
    gguf_get_bool(g, key, &b, &err);
    gguf_get_string(g, key, &s, &err);
    if (gguf_get_array(g, key, &a, &err) == 0) {
        use_array(&a);
    }
    buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct carat_error err = {0};
    int rc = gguf_open_memory(&g, data, size, "fuzz.gguf", &err);
    require(rc == 0 || err.text[0] != 0);
    if (rc == 0) {
        for (size_t i = 0; i < gguf_n_tensors(g); i++) {
            use_tensor(g, gguf_tensor_at(g, i));
        }
        for (size_t i = 0; i < gguf_n_keys(g); i++) {
            use_key(g, i);
        }
    }
    gguf_close(g);
    return 0;
}
