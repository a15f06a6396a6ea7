// SPDX-License-Identifier: Apache-2.0
// A folder with golden.json, golden.safetensors and the path of a model.
#include "cli/verify.h"

#include "base/error.h"
#include "base/mem.h"

#include <string.h>

#define GOLDEN_JSON_MAX ((size_t)64 << 20)

void path_join(struct buf *out, const char *folder, const char *name)
{
    buf_clear(out);
    buf_adds(out, folder);
    if (!slice_ends(slice_of(folder), "/")) {
        buf_addc(out, '/');
    }
    buf_adds(out, name);
}

static int find_model(struct golden *g, struct carat_error *err)
{
    const struct json_value *named = json_get(json_root(g->doc), "model");
    if (json_kind(named) != JSON_STRING) {
        return 0;
    }
    struct buf name = {.max = 1 << 16};
    buf_add_slice(&name, json_string(named));
    path_join(&g->model, buf_text(&g->folder), buf_text(&name));
    int rc = buf_status(&name, err);
    rc = rc ? rc : buf_status(&g->model, err);
    buf_release(&name);
    return rc;
}

int golden_open(struct golden *g, const char *folder, struct carat_error *err)
{
    struct buf path = {.max = 1 << 16};
    g->folder.max = g->model.max = 1 << 16;
    buf_adds(&g->folder, folder);
    path_join(&path, folder, "golden.json");
    int rc = buf_status(&path, err);
    rc = rc ? rc : buf_status(&g->folder, err);
    rc = rc ? rc : json_parse_file(&g->doc, buf_text(&path), GOLDEN_JSON_MAX, err);
    rc = rc ? rc : find_model(g, err);
    if (rc) {
        goto out;
    }
    path_join(&path, folder, "golden.safetensors");
    rc = buf_status(&path, err);
    if (rc == 0 && os_exists(buf_text(&path))) {
        rc = safetensors_open(&g->tensors, buf_text(&path), err);
    }
out:
    buf_release(&path);
    return rc;
}

void golden_close(struct golden *g)
{
    safetensors_close(g->tensors);
    json_free(g->doc);
    buf_release(&g->folder);
    buf_release(&g->model);
    *g = (struct golden){.doc = NULL};
}

struct slice golden_kind(const struct golden *g)
{
    return json_string(json_get(json_root(g->doc), "kind"));
}

const struct safetensors_tensor *golden_find(const struct golden *g, const char *name)
{
    return g->tensors ? safetensors_find(g->tensors, name) : NULL;
}

static const struct safetensors_tensor *need(const struct golden *g, const char *name,
                                             bool is_integer, struct carat_error *err)
{
    const struct safetensors_tensor *t = golden_find(g, name);
    if (!t) {
        fail(err, CARAT_E_FORMAT, "%s: golden.safetensors has no tensor '%s'", buf_text(&g->folder),
             name);
        return NULL;
    }
    bool is_fit = is_integer
                      ? t->type == DTYPE_I32 || t->type == DTYPE_I64
                      : t->type == DTYPE_F32 || t->type == DTYPE_F16 || t->type == DTYPE_BF16;
    if (!is_fit || t->values == 0) {
        fail(err, CARAT_E_FORMAT, "%s: tensor '%s': expected %s, found %llu values of type %s",
             buf_text(&g->folder), name, is_integer ? "I32 or I64" : "F32, F16 or BF16",
             (unsigned long long)t->values, dtypes[t->type].name);
        return NULL;
    }
    return t;
}

// The file promises no alignment, so values are copied.
int golden_floats(const struct golden *g, const char *name, float **out, size_t *n,
                  struct carat_error *err)
{
    const struct safetensors_tensor *t = need(g, name, false, err);
    if (!t) {
        return CARAT_E_FORMAT;
    }
    float *values = mem_new_array((size_t)t->values, sizeof(*values), err);
    void *copy = mem_new((size_t)t->size, err);
    if (!values || !copy) {
        mem_free(values);
        mem_free(copy);
        return CARAT_E_MEMORY;
    }
    memcpy(copy, t->data, (size_t)t->size);
    dtypes[t->type].unpack(values, copy, (size_t)t->values);
    mem_free(copy);
    *out = values;
    *n = (size_t)t->values;
    return 0;
}

int golden_ints(const struct golden *g, const char *name, int32_t **out, size_t *n,
                struct carat_error *err)
{
    const struct safetensors_tensor *t = need(g, name, true, err);
    if (!t) {
        return CARAT_E_FORMAT;
    }
    int32_t *values = mem_new_array((size_t)t->values, sizeof(*values), err);
    if (!values) {
        return CARAT_E_MEMORY;
    }
    struct cursor c = cursor_make(t->data, (size_t)t->size);
    for (size_t i = 0; i < t->values; i++) {
        int64_t value = t->type == DTYPE_I32 ? (int32_t)cursor_u32(&c) : (int64_t)cursor_u64(&c);
        if (value < INT32_MIN || value > INT32_MAX) {
            mem_free(values);
            return fail(err, CARAT_E_FORMAT, "%s: tensor '%s': %lld is no token id",
                        buf_text(&g->folder), name, (long long)value);
        }
        values[i] = (int32_t)value;
    }
    *out = values;
    *n = (size_t)t->values;
    return 0;
}

// The kinds of golden.json and what they need beyond a text decoder.
static const struct {
    const char *kind;
    const char *needs; // NULL: nothing
} kinds[] = {
    {"lm", NULL},
    {"quant", NULL},
    {"gguf", NULL},
    {"tokenizer", NULL},
    {"draft", "a drafter (MTP)"},
    {"lora", "LoRA adapters"},
    {"train", "training"},
    {"preprocess", NULL},
};

const char *golden_needs(const struct golden *g)
{
    struct slice kind = golden_kind(g);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (slice_is(kind, kinds[i].kind)) {
            return kinds[i].needs;
        }
    }
    return "a newer carat: the kind is unknown";
}
