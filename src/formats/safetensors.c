// SPDX-License-Identifier: Apache-2.0
// safetensors: the length of a JSON header, the header, the data. The container is described in
// docs/formats.md. As in the reference reader, the tensors must cover the data without gap or
// overlap.
#include "formats/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "formats/container.h"
#include "formats/json.h"

struct safetensors {
    struct os_map map;
    bool owns_map;
    char *path;
    size_t start; // of the data in the file
    struct safetensors_tensor *tensors;
    size_t n_tensors;
    struct map by_name;
    struct arena names;
};

static int fail_tensor(const struct safetensors *s, const struct safetensors_tensor *t,
                       const char *expected, const struct json_value *found,
                       struct carat_error *err)
{
    struct buf text = {.max = 200}; // a hostile value may be long: then only its kind is told
    json_write(found, &text);
    int rc = fail(err, CARAT_E_FORMAT, "%s: tensor '%s': expected %s, found %s", s->path, t->name,
                  expected,
                  found && !text.has_failed ? buf_text(&text) : json_kind_name(json_kind(found)));
    buf_release(&text);
    return rc;
}

static int read_type(const struct safetensors *s, struct safetensors_tensor *t,
                     const struct json_value *v, struct carat_error *err)
{
    struct slice name = json_string(v);
    char text[16] = "";
    if (name.size < sizeof(text) && name.size > 0) {
        memcpy(text, name.data, name.size);
    }
    t->type = dtype_from_safetensors(text);
    bool is_known = t->type != DTYPE_NONE && slice_is(name, dtypes[t->type].safetensors);
    return is_known ? 0 : fail_tensor(s, t, "a known 'dtype'", v, err);
}

static int read_shape(const struct safetensors *s, struct safetensors_tensor *t,
                      const struct json_value *shape, struct carat_error *err)
{
    if (json_kind(shape) != JSON_ARRAY || json_count(shape) > SAFETENSORS_DIMS_MAX) {
        return fail_tensor(s, t, "a 'shape' of at most 8 dimensions", shape, err);
    }
    size_t values = 1;
    for (struct json_iter it = json_iter(shape); json_next(&it);) {
        uint64_t dim;
        if (!json_u64(it.value, &dim) || dim > SIZE_MAX ||
            !size_mul(&values, values, (size_t)dim)) {
            return fail_tensor(s, t, "a 'shape' of whole numbers that fit a file", shape, err);
        }
        t->dims[t->n_dims++] = dim;
    }
    t->values = values;
    return 0;
}

static int read_offsets(const struct safetensors *s, struct safetensors_tensor *t,
                        const struct json_value *offsets, struct carat_error *err)
{
    uint64_t at[2];
    size_t n = 0;
    size_t data_size = s->map.size - s->start;
    if (json_kind(offsets) != JSON_ARRAY || json_count(offsets) != 2) {
        return fail_tensor(s, t, "two 'data_offsets'", offsets, err);
    }
    for (struct json_iter it = json_iter(offsets); json_next(&it); n++) {
        if (!json_u64(it.value, &at[n])) {
            return fail_tensor(s, t, "two 'data_offsets', 0 or more", offsets, err);
        }
    }
    size_t size;
    if (!size_mul(&size, (size_t)t->values, dtypes[t->type].block_size) || at[1] < at[0] ||
        at[1] - at[0] != size) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%s': its shape has %" PRIu64 " values of %s, expected %" PRIu32
                    " bytes for each, found 'data_offsets' from %" PRIu64 " to %" PRIu64,
                    s->path, t->name, t->values, dtypes[t->type].name, dtypes[t->type].block_size,
                    at[0], at[1]);
    }
    if (at[1] > data_size) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%s': expected %" PRIu64
                    " bytes of data in the file, found %zu: it "
                    "is truncated; download it again",
                    s->path, t->name, at[1], data_size);
    }
    t->size = size;
    t->data = s->map.data + s->start + at[0];
    return 0;
}

static int read_tensor(struct safetensors *s, struct slice name, const struct json_value *v,
                       struct carat_error *err)
{
    struct safetensors_tensor *t = &s->tensors[s->n_tensors];
    if (!container_is_name(name, SAFETENSORS_NAME_SIZE_MAX)) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: expected names of 1 to %d bytes without control characters, found another "
                    "of %zu bytes",
                    s->path, SAFETENSORS_NAME_SIZE_MAX, name.size);
    }
    t->name = arena_strndup(&s->names, name.data, name.size, err);
    if (!t->name) {
        return CARAT_E_MEMORY;
    }
    if (json_kind(v) != JSON_OBJECT) {
        return fail_tensor(s, t, "an object", v, err);
    }
    int rc = read_type(s, t, json_get(v, "dtype"), err);
    if (rc == 0) {
        rc = read_shape(s, t, json_get(v, "shape"), err);
    }
    if (rc == 0) {
        rc = read_offsets(s, t, json_get(v, "data_offsets"), err);
    }
    uint32_t existing = MAP_NONE;
    if (rc == 0) {
        rc = map_put(&s->by_name, slice_of(t->name), (uint32_t)s->n_tensors, &existing, err);
    }
    if (rc == 0 && existing != MAP_NONE) {
        rc = fail(err, CARAT_E_FORMAT, "%s: tensor '%s' is there twice", s->path, t->name);
    }
    s->n_tensors++;
    return rc;
}

static int by_place(const void *a, const void *b)
{
    const struct safetensors_tensor *const *x = a;
    const struct safetensors_tensor *const *y = b;
    if ((*x)->data != (*y)->data) {
        return (*x)->data < (*y)->data ? -1 : 1;
    }
    return (*x)->size < (*y)->size ? -1 : (*x)->size > (*y)->size;
}

// Whether the tensors, in order of place, follow each other from the first byte to the last.
static int check_cover(const struct safetensors *s, struct carat_error *err)
{
    const struct safetensors_tensor **order = mem_new_array(s->n_tensors, sizeof(*order), err);
    if (!order) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        order[i] = &s->tensors[i];
    }
    qsort(order, s->n_tensors, sizeof(*order), by_place);
    int rc = 0;
    const uint8_t *data = s->map.data + s->start;
    size_t end = 0;
    for (size_t i = 0; i < s->n_tensors && rc == 0; i++) {
        size_t begin = (size_t)(order[i]->data - data);
        if (begin != end) {
            rc = fail(err, CARAT_E_FORMAT,
                      "%s: tensor '%s': expected its data at offset %zu, where the one before it "
                      "ends, found offset %zu",
                      s->path, order[i]->name, end, begin);
        }
        end = begin + (size_t)order[i]->size;
    }
    if (rc == 0 && end != s->map.size - s->start) {
        rc = fail(err, CARAT_E_FORMAT,
                  "%s: expected the data to end with the last tensor, after %zu bytes, found %zu",
                  s->path, end, s->map.size - s->start);
    }
    mem_free(order);
    return rc;
}

static int read_header(struct safetensors *s, const struct json_value *root,
                       struct carat_error *err)
{
    size_t count = json_count(root);
    if (json_kind(root) != JSON_OBJECT || count > SAFETENSORS_TENSORS_MAX) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: expected a header with at most %d tensors, found %s of %zu", s->path,
                    SAFETENSORS_TENSORS_MAX, json_kind_name(json_kind(root)), count);
    }
    s->tensors = mem_new_array(count, sizeof(*s->tensors), err);
    if (!s->tensors) {
        return CARAT_E_MEMORY;
    }
    int rc = map_reserve(&s->by_name, count, err);
    for (struct json_iter it = json_iter(root); rc == 0 && json_next(&it);) {
        if (!slice_is(it.key, "__metadata__")) {
            rc = read_tensor(s, it.key, it.value, err);
        }
    }
    return rc ? rc : check_cover(s, err);
}

// s->map is set; fills the rest.
static int parse(struct safetensors *s, struct carat_error *err)
{
    struct cursor c = cursor_make(s->map.data, s->map.size);
    uint64_t header_size = cursor_u64(&c);
    if (c.has_failed || (header_size > SAFETENSORS_HEADER_MAX || header_size == 0)) {
        return fail(err, CARAT_E_FORMAT, "%s: expected a safetensors file, found %s", s->path,
                    container_sniff(s->map.data, s->map.size));
    }
    const char *header = cursor_bytes(&c, header_size);
    if (!header) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: expected a header of %" PRIu64
                    " bytes, but the file ends after %zu: it is "
                    "truncated, or not a safetensors file",
                    s->path, header_size, s->map.size);
    }
    if (header[0] != '{') {
        return fail(err, CARAT_E_FORMAT, "%s: expected a safetensors file, found %s", s->path,
                    container_sniff(s->map.data, s->map.size));
    }
    s->start = c.at;
    struct json_doc *doc = NULL;
    int rc = json_parse(&doc, header, (size_t)header_size, s->path, err);
    if (rc == 0) {
        rc = read_header(s, json_root(doc), err);
    }
    json_free(doc);
    return rc;
}

static int open_map(struct safetensors **out, const struct os_map *map, const char *path,
                    bool owns_map, struct carat_error *err)
{
    int rc = CARAT_E_MEMORY;
    struct safetensors *s = mem_new(sizeof(*s), err);
    if (!s) {
        goto out;
    }
    s->path = mem_strdup(path, err);
    if (!s->path) {
        goto out;
    }
    s->map = *map;
    rc = parse(s, err);
    if (rc) {
        goto out;
    }
    s->owns_map = owns_map;
    *out = s;
    s = NULL;
out:
    safetensors_close(s);
    return rc;
}

int safetensors_open(struct safetensors **out, const char *path, struct carat_error *err)
{
    struct os_map map = {0};
    int rc = os_map_open(&map, path, err);
    if (rc) {
        return rc;
    }
    rc = open_map(out, &map, path, true, err);
    if (rc) {
        os_map_close(&map);
    }
    return rc;
}

int safetensors_open_memory(struct safetensors **out, const void *data, size_t size,
                            const char *name, struct carat_error *err)
{
    struct os_map map = {.data = data, .size = size};
    return open_map(out, &map, name, false, err);
}

void safetensors_close(struct safetensors *s)
{
    if (s) {
        map_release(&s->by_name);
        arena_release(&s->names);
        mem_free(s->tensors);
        mem_free(s->path);
        if (s->owns_map) {
            os_map_close(&s->map);
        }
        mem_free(s);
    }
}

const struct os_map *safetensors_map(const struct safetensors *s)
{
    return &s->map;
}

const char *safetensors_path(const struct safetensors *s)
{
    return s->path;
}

size_t safetensors_n_tensors(const struct safetensors *s)
{
    return s->n_tensors;
}

const struct safetensors_tensor *safetensors_tensor_at(const struct safetensors *s, size_t i)
{
    require(i < s->n_tensors);
    return &s->tensors[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    uint32_t i = map_get(&s->by_name, slice_of(name));
    return i == MAP_NONE ? NULL : &s->tensors[i];
}
