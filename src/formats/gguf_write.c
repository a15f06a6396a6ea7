// SPDX-License-Identifier: Apache-2.0
// The header of a GGUF v3 file. The container is described in docs/formats.md.
#include "formats/gguf_write.h"

#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "formats/container.h"

#define VERSION 3

struct value {
    char *key;
    bool is_gone;
    struct buf bytes; // type and value, as they stand in the file
};

struct place {
    char *name;
    enum dtype type;
    uint32_t n_dims;
    uint64_t dims[4];
    uint64_t offset; // from the start of the data
    uint64_t size;
};

struct gguf_writer {
    struct value *values;
    size_t n_values;
    struct map keys; // of values
    struct place *places;
    size_t n_places;
    struct map names; // of places
    struct buf header;
    uint64_t size;
    int problem; // the first status that is not 0
    struct carat_error error;
    bool is_planned;
};

int gguf_writer_new(struct gguf_writer **out, struct carat_error *err)
{
    struct gguf_writer *w = mem_new(sizeof(*w), err);
    if (!w) {
        return CARAT_E_MEMORY;
    }
    *out = w;
    return 0;
}

void gguf_writer_free(struct gguf_writer *w)
{
    for (size_t i = 0; w && i < w->n_values; i++) {
        mem_free(w->values[i].key);
        buf_release(&w->values[i].bytes);
    }
    for (size_t i = 0; w && i < w->n_places; i++) {
        mem_free(w->places[i].name);
    }
    if (w) {
        mem_free(w->values);
        mem_free(w->places);
        map_release(&w->keys);
        map_release(&w->names);
        buf_release(&w->header);
        mem_free(w);
    }
}

// ---------------------------------------------------------------------------------------- metadata

static void add_u32(struct buf *b, uint32_t v)
{
    const uint8_t bytes[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
                              (uint8_t)(v >> 24)};
    buf_add(b, bytes, sizeof(bytes));
}

static void add_u64(struct buf *b, uint64_t v)
{
    add_u32(b, (uint32_t)v);
    add_u32(b, (uint32_t)(v >> 32));
}

static void add_string(struct buf *b, struct slice s)
{
    add_u64(b, s.size);
    buf_add_slice(b, s);
}

static struct value *find(const struct gguf_writer *w, struct slice key)
{
    uint32_t i = map_get(&w->keys, key);
    return i == MAP_NONE ? NULL : &w->values[i];
}

// Room for one more element behind n of them; the block grows in doubling steps.
static void *grown(void *block, size_t n, size_t size, struct carat_error *err)
{
    if ((n & (n - 1)) != 0 || n == 1) {
        return block;
    }
    return mem_resize(block, (n == 0 ? 2 : 2 * n) * size, err);
}

// The buffer of a key's value, empty, with its type in it; NULL when something failed.
static struct buf *begin(struct gguf_writer *w, struct slice key, enum gguf_type type)
{
    require(!w->is_planned);
    if (w->problem) {
        return NULL;
    }
    struct value *v = find(w, key);
    if (!v) {
        struct value *values = grown(w->values, w->n_values, sizeof(*values), &w->error);
        char *name = values ? mem_strndup(key.data, key.size, &w->error) : NULL;
        w->values = values ? values : w->values;
        if (!name) {
            w->problem = CARAT_E_MEMORY;
            return NULL;
        }
        v = &w->values[w->n_values];
        *v = (struct value){.key = name};
        w->problem =
            map_put(&w->keys, slice_make(name, key.size), (uint32_t)w->n_values++, NULL, &w->error);
        if (w->problem) {
            return NULL;
        }
    }
    v->is_gone = false;
    buf_clear(&v->bytes);
    add_u32(&v->bytes, (uint32_t)type);
    return &v->bytes;
}

static void end(struct gguf_writer *w, struct buf *b)
{
    if (b && w->problem == 0) {
        w->problem = buf_status(b, &w->error);
    }
}

void gguf_set_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    struct buf *b = begin(w, slice_of(key), GGUF_U32);
    if (b) {
        add_u32(b, value);
    }
    end(w, b);
}

void gguf_set_i32(struct gguf_writer *w, const char *key, int32_t value)
{
    struct buf *b = begin(w, slice_of(key), GGUF_I32);
    if (b) {
        add_u32(b, (uint32_t)value);
    }
    end(w, b);
}

void gguf_set_f32(struct gguf_writer *w, const char *key, float value)
{
    struct buf *b = begin(w, slice_of(key), GGUF_F32);
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if (b) {
        add_u32(b, bits);
    }
    end(w, b);
}

void gguf_set_bool(struct gguf_writer *w, const char *key, bool value)
{
    struct buf *b = begin(w, slice_of(key), GGUF_BOOL);
    if (b) {
        buf_addc(b, value ? 1 : 0);
    }
    end(w, b);
}

void gguf_set_string(struct gguf_writer *w, const char *key, struct slice value)
{
    struct buf *b = begin(w, slice_of(key), GGUF_STRING);
    if (b) {
        add_string(b, value);
    }
    end(w, b);
}

static size_t scalar_size(enum gguf_type type)
{
    switch (type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL:
        return 1;
    case GGUF_U16:
    case GGUF_I16:
        return 2;
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_F32:
        return 4;
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_F64:
        return 8;
    case GGUF_STRING:
    case GGUF_ARRAY:
        break;
    }
    return 0;
}

void gguf_set_array(struct gguf_writer *w, const char *key, enum gguf_type element,
                    const void *values, uint64_t count)
{
    const uint8_t *bytes = values;
    size_t size = scalar_size(element);
    struct buf *b = begin(w, slice_of(key), GGUF_ARRAY);
    require(size > 0);
    if (b) {
        add_u32(b, (uint32_t)element);
        add_u64(b, count);
    }
    for (uint64_t i = 0; b && i < count; i++) {
        uint64_t v = 0;
        if (size == 1) {
            v = bytes[i];
        } else if (size == 2) {
            uint16_t v16;
            memcpy(&v16, bytes + 2 * i, 2);
            v = v16;
        } else if (size == 4) {
            uint32_t v32;
            memcpy(&v32, bytes + 4 * i, 4);
            v = v32;
        } else {
            memcpy(&v, bytes + 8 * i, 8);
        }
        for (size_t k = 0; k < size; k++) {
            buf_addc(b, (char)(uint8_t)(v >> (8 * k)));
        }
    }
    end(w, b);
}

void gguf_set_strings(struct gguf_writer *w, const char *key, const struct slice *values,
                      uint64_t count)
{
    struct buf *b = begin(w, slice_of(key), GGUF_ARRAY);
    if (b) {
        add_u32(b, GGUF_STRING);
        add_u64(b, count);
    }
    for (uint64_t i = 0; b && i < count; i++) {
        add_string(b, values[i]);
    }
    end(w, b);
}

void gguf_set_value(struct gguf_writer *w, struct slice key, struct gguf_value value)
{
    struct buf *b = begin(w, key, value.type);
    if (b && value.type == GGUF_STRING) {
        add_string(b, value.bytes);
    } else if (b) {
        if (value.type == GGUF_ARRAY) {
            add_u32(b, (uint32_t)value.element);
            add_u64(b, value.count);
        }
        buf_add_slice(b, value.bytes);
    }
    end(w, b);
}

void gguf_unset(struct gguf_writer *w, const char *key)
{
    struct value *v = find(w, slice_of(key));
    if (v) {
        v->is_gone = true;
    }
}

bool gguf_is_set(const struct gguf_writer *w, const char *key)
{
    const struct value *v = find(w, slice_of(key));
    return v && !v->is_gone;
}

// ----------------------------------------------------------------------------------------- tensors

int gguf_writer_add(struct gguf_writer *w, struct slice name, enum dtype type, uint32_t n_dims,
                    const uint64_t *dims, struct carat_error *err)
{
    struct place p = {.type = type, .n_dims = n_dims, .dims = {1, 1, 1, 1}};
    uint32_t existing = MAP_NONE;
    size_t size = 0;
    require(!w->is_planned);
    require(n_dims <= 4);
    if (!container_is_name(name, GGUF_NAME_SIZE_MAX) || w->n_places == GGUF_TENSORS_MAX) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "tensor '%.*s': a GGUF file takes %d tensors, with names of up to %d bytes",
                    (int)(name.size > 64 ? 64 : name.size), name.data, GGUF_TENSORS_MAX,
                    GGUF_NAME_SIZE_MAX);
    }
    for (uint32_t i = 0; i < n_dims; i++) {
        p.dims[i] = dims[i];
    }
    bool fits = dtypes[type].gguf_id >= 0 && dtype_row_size(&size, type, p.dims[0]);
    for (uint32_t i = 1; fits && i < 4; i++) {
        fits = p.dims[i] <= SIZE_MAX && size_mul(&size, size, (size_t)p.dims[i]);
    }
    if (!fits) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "tensor '%.*s': rows of %llu values cannot be stored as %s", (int)name.size,
                    name.data, (unsigned long long)p.dims[0], dtypes[type].name);
    }
    p.size = size;
    struct place *places = grown(w->places, w->n_places, sizeof(*places), err);
    w->places = places ? places : w->places;
    p.name = places ? mem_strndup(name.data, name.size, err) : NULL;
    if (!p.name) {
        return CARAT_E_MEMORY;
    }
    w->places[w->n_places] = p;
    int rc = map_put(&w->names, slice_of(p.name), (uint32_t)w->n_places, &existing, err);
    w->n_places++;
    if (rc == 0 && existing != MAP_NONE) {
        rc = fail(err, CARAT_E_FORMAT, "tensor '%s' is there twice", p.name);
    }
    return rc;
}

static uint64_t aligned(uint64_t n)
{
    return (n + GGUF_ALIGNMENT_DEFAULT - 1) / GGUF_ALIGNMENT_DEFAULT * GGUF_ALIGNMENT_DEFAULT;
}

static void write_header(struct gguf_writer *w)
{
    struct buf *b = &w->header;
    uint64_t n_values = 0;
    for (size_t i = 0; i < w->n_values; i++) {
        n_values += !w->values[i].is_gone;
    }
    b->max = GGUF_HEADER_MAX;
    buf_add(b, "GGUF", 4);
    add_u32(b, VERSION);
    add_u64(b, w->n_places);
    add_u64(b, n_values);
    for (size_t i = 0; i < w->n_values; i++) {
        if (!w->values[i].is_gone) {
            add_string(b, slice_of(w->values[i].key));
            buf_add(b, w->values[i].bytes.data, w->values[i].bytes.size);
        }
    }
    for (size_t i = 0; i < w->n_places; i++) {
        const struct place *p = &w->places[i];
        add_string(b, slice_of(p->name));
        add_u32(b, p->n_dims);
        for (uint32_t k = 0; k < p->n_dims; k++) {
            add_u64(b, p->dims[k]);
        }
        add_u32(b, (uint32_t)dtypes[p->type].gguf_id);
        add_u64(b, p->offset);
    }
    while (b->size % GGUF_ALIGNMENT_DEFAULT != 0 && !b->has_failed) {
        buf_addc(b, 0);
    }
}

int gguf_writer_plan(struct gguf_writer *w, struct carat_error *err)
{
    require(!w->is_planned);
    // The files that carat writes have the usual alignment, whatever their source had.
    gguf_unset(w, "general.alignment");
    if (w->problem) {
        return fail(err, (enum carat_status)w->problem, "%s", w->error.text);
    }
    uint64_t at = 0;
    for (size_t i = 0; i < w->n_places; i++) {
        w->places[i].offset = at;
        if (w->places[i].size > (uint64_t)INT64_MAX / 2 - at) {
            return fail(err, CARAT_E_FULL, "tensor '%s': no file is that large", w->places[i].name);
        }
        at = aligned(at + w->places[i].size);
    }
    write_header(w);
    int rc = buf_status(&w->header, err);
    if (rc) {
        return rc;
    }
    w->size = w->header.size + at;
    w->is_planned = true;
    return 0;
}

struct slice gguf_writer_header(const struct gguf_writer *w)
{
    require(w->is_planned);
    return slice_make(w->header.data, w->header.size);
}

uint64_t gguf_writer_size(const struct gguf_writer *w)
{
    require(w->is_planned);
    return w->size;
}

uint64_t gguf_writer_offset(const struct gguf_writer *w, size_t i)
{
    require(w->is_planned);
    require(i < w->n_places);
    return w->header.size + w->places[i].offset;
}

uint64_t gguf_writer_tensor_size(const struct gguf_writer *w, size_t i)
{
    require(i < w->n_places);
    return w->places[i].size;
}
