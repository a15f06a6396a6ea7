// SPDX-License-Identifier: Apache-2.0
// GGUF version 3: header, metadata, tensor list, data. The container is described in
// docs/formats.md. Opening walks the header once, checks every size against the file and builds two
// maps by name; values stay in the mapping and are read when asked for.
#include "formats/gguf.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "formats/container.h"

#define GGUF_VERSION          3
#define GGUF_KEY_BYTES_MIN    13 // length of the name, type, a value of one byte
#define GGUF_TENSOR_BYTES_MIN 24 // length of the name, number of dimensions, type, offset

struct gguf_key {
    struct slice name;
    enum gguf_type type;
    enum gguf_type element; // of an array
    uint64_t count;         // elements of an array
    const uint8_t *data;    // a scalar's bytes, a string's, or all elements of an array
    size_t size;
};

struct gguf {
    struct os_map map;
    bool owns_map;
    char *path;
    struct cursor at; // while opening
    struct gguf_key *keys;
    size_t n_keys;
    struct map keys_by_name;
    struct gguf_tensor *tensors;
    size_t n_tensors;
    struct map tensors_by_name;
};

struct value_type {
    const char *name; // in "array of 3 ..."
    uint8_t size;     // bytes in a file; 0 for those that vary
};
static const struct value_type value_types[] = {
    [GGUF_U8] = {"u8", 1},        [GGUF_I8] = {"i8", 1},      [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},      [GGUF_U32] = {"u32", 4},    [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},      [GGUF_BOOL] = {"bools", 1}, [GGUF_STRING] = {"strings", 0},
    [GGUF_ARRAY] = {"arrays", 0}, [GGUF_U64] = {"u64", 8},    [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};
#define GGUF_N_TYPES (sizeof(value_types) / sizeof(value_types[0]))

/* ------------------------------------------------------------------------------------ opening */

// The cursor ran out: the file is short, or its header is larger than what is read.
static int fail_short(const struct gguf *g, const char *where, struct carat_error *err)
{
    if (g->at.size < g->map.size) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: metadata and tensor list are larger than %zu bytes, which is the limit",
                    g->path, GGUF_HEADER_MAX);
    }
    return fail(err, CARAT_E_FORMAT,
                "%s: the file ends after %zu bytes, within its %s: it is truncated or damaged",
                g->path, g->map.size, where);
}

static int check_start(struct gguf *g, struct carat_error *err)
{
    const char *magic = cursor_bytes(&g->at, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0) {
        return fail(err, CARAT_E_FORMAT, "%s: expected a GGUF file, found %s", g->path,
                    container_sniff(g->map.data, g->map.size));
    }
    uint32_t version = cursor_u32(&g->at);
    if (g->at.has_failed) {
        return fail_short(g, "first 24 bytes", err);
    }
    if (version > 0 && (version & 0xFFFF) == 0) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: expected a little-endian GGUF file, found a big-endian one; convert it",
                    g->path);
    }
    if (version != GGUF_VERSION) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: expected GGUF version %d, found version %" PRIu32 "%s", g->path,
                    GGUF_VERSION, version,
                    version < GGUF_VERSION ? "; convert the model again" : "");
    }
    return 0;
}

// A count from the header against its limit and against the bytes that are left.
static int check_count(const struct gguf *g, uint64_t count, uint64_t max, size_t bytes_min,
                       const char *what, struct carat_error *err)
{
    if (count > max) {
        return fail(err, CARAT_E_FORMAT, "%s: expected at most %" PRIu64 " %s, found %" PRIu64,
                    g->path, max, what, count);
    }
    if (count > cursor_left(&g->at) / bytes_min) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: the header says %" PRIu64 " %s, but only %zu bytes follow it: the file is "
                    "truncated or damaged",
                    g->path, count, what, cursor_left(&g->at));
    }
    return 0;
}

static struct slice read_string(struct gguf *g)
{
    uint64_t size = cursor_u64(&g->at);
    const char *data = cursor_bytes(&g->at, size);
    return slice_make(data, data ? (size_t)size : 0);
}

static int read_array(struct gguf *g, struct gguf_key *key, struct carat_error *err)
{
    int name_size = (int)key->name.size;
    uint32_t element = cursor_u32(&g->at);
    uint64_t count = cursor_u64(&g->at);
    if (g->at.has_failed) {
        return fail_short(g, "metadata", err);
    }
    if (element >= GGUF_N_TYPES) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: key '%.*s': expected an element type below %zu, found %" PRIu32, g->path,
                    name_size, key->name.data, GGUF_N_TYPES, element);
    }
    if (element == GGUF_ARRAY) {
        return fail(err, CARAT_E_UNSUPPORTED, "%s: key '%.*s': arrays of arrays cannot be read",
                    g->path, name_size, key->name.data);
    }
    size_t element_size = value_types[element].size ? value_types[element].size : 8;
    if (count > GGUF_ARRAY_MAX) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: key '%.*s': an array of %" PRIu64 " elements is too large: the limit is "
                    "%" PRIu64,
                    g->path, name_size, key->name.data, count, GGUF_ARRAY_MAX);
    }
    if (count > cursor_left(&g->at) / element_size) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: key '%.*s': an array of %" PRIu64 " elements, but only %zu bytes follow: "
                    "the file is truncated or damaged",
                    g->path, name_size, key->name.data, count, cursor_left(&g->at));
    }
    key->element = (enum gguf_type)element;
    key->count = count;
    size_t start = g->at.at;
    if (element == GGUF_STRING) {
        for (uint64_t i = 0; i < count && !g->at.has_failed; i++) {
            cursor_skip(&g->at, cursor_u64(&g->at));
        }
    } else {
        cursor_skip(&g->at, count * element_size);
    }
    if (g->at.has_failed) {
        return fail_short(g, "metadata", err);
    }
    key->data = g->at.data + start;
    key->size = g->at.at - start;
    return 0;
}

static int read_key(struct gguf *g, struct gguf_key *key, struct carat_error *err)
{
    size_t start = g->at.at;
    key->name = read_string(g);
    uint32_t type = cursor_u32(&g->at);
    if (g->at.has_failed) {
        return fail_short(g, "metadata", err);
    }
    if (!container_is_name(key->name, GGUF_KEY_SIZE_MAX)) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: the key at byte %zu: expected 1 to %d bytes of UTF-8 without control "
                    "characters, found %zu other bytes",
                    g->path, start, GGUF_KEY_SIZE_MAX, key->name.size);
    }
    if (type >= GGUF_N_TYPES) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: key '%.*s': expected a value type below %zu, found %" PRIu32, g->path,
                    (int)key->name.size, key->name.data, GGUF_N_TYPES, type);
    }
    key->type = (enum gguf_type)type;
    if (type == GGUF_ARRAY) {
        return read_array(g, key, err);
    }
    key->size = value_types[type].size;
    if (type == GGUF_STRING) {
        struct slice s = read_string(g);
        key->data = (const uint8_t *)s.data;
        key->size = s.size;
    } else {
        key->data = cursor_bytes(&g->at, key->size);
    }
    return g->at.has_failed ? fail_short(g, "metadata", err) : 0;
}

static int read_keys(struct gguf *g, uint64_t count, struct carat_error *err)
{
    int rc = check_count(g, count, GGUF_KEYS_MAX, GGUF_KEY_BYTES_MIN, "metadata keys", err);
    if (rc) {
        return rc;
    }
    g->keys = mem_new_array((size_t)count, sizeof(*g->keys), err);
    if (!g->keys) {
        return CARAT_E_MEMORY;
    }
    rc = map_reserve(&g->keys_by_name, (size_t)count, err);
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        struct gguf_key *key = &g->keys[i];
        uint32_t existing = MAP_NONE;
        rc = read_key(g, key, err);
        if (rc == 0) {
            rc = map_put(&g->keys_by_name, key->name, i, &existing, err);
        }
        if (rc == 0 && existing != MAP_NONE) {
            rc = fail(err, CARAT_E_FORMAT, "%s: key '%.*s' is there twice", g->path,
                      (int)key->name.size, key->name.data);
        }
        g->n_keys = i + 1;
    }
    return rc;
}

// The size in bytes from dimensions and type.
static int size_tensor(const struct gguf *g, struct gguf_tensor *t, struct carat_error *err)
{
    int name_size = (int)t->name.size;
    size_t size;
    if (t->dims[0] % dtypes[t->type].block_values != 0) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%.*s': rows of %" PRIu64 " values cannot be %s, which has blocks "
                    "of %" PRIu32,
                    g->path, name_size, t->name.data, t->dims[0], dtypes[t->type].name,
                    dtypes[t->type].block_values);
    }
    bool fits = dtype_row_size(&size, t->type, t->dims[0]);
    for (uint32_t i = 1; i < 4 && fits; i++) {
        fits = t->dims[i] <= SIZE_MAX && size_mul(&size, size, (size_t)t->dims[i]);
    }
    if (!fits) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%.*s': %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64
                    " values of %s: no file is that large",
                    g->path, name_size, t->name.data, t->dims[0], t->dims[1], t->dims[2],
                    t->dims[3], dtypes[t->type].name);
    }
    t->size = size;
    return 0;
}

static int read_tensor(struct gguf *g, struct gguf_tensor *t, struct carat_error *err)
{
    size_t start = g->at.at;
    t->name = read_string(g);
    t->n_dims = cursor_u32(&g->at);
    if (g->at.has_failed) {
        return fail_short(g, "list of tensors", err);
    }
    int name_size = (int)t->name.size;
    if (!container_is_name(t->name, GGUF_NAME_SIZE_MAX)) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: the tensor's name at byte %zu: expected 1 to %d bytes of UTF-8 without "
                    "control characters, found %zu other bytes",
                    g->path, start, GGUF_NAME_SIZE_MAX, t->name.size);
    }
    if (t->n_dims > 4) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%.*s': expected at most 4 dimensions, found %" PRIu32, g->path,
                    name_size, t->name.data, t->n_dims);
    }
    for (uint32_t i = 0; i < 4; i++) {
        t->dims[i] = i < t->n_dims ? cursor_u64(&g->at) : 1;
        if (t->dims[i] == 0 && !g->at.has_failed) {
            return fail(err, CARAT_E_FORMAT, "%s: tensor '%.*s': dimension %" PRIu32 " is 0",
                        g->path, name_size, t->name.data, i);
        }
    }
    uint32_t type = cursor_u32(&g->at);
    t->offset = cursor_u64(&g->at);
    if (g->at.has_failed) {
        return fail_short(g, "list of tensors", err);
    }
    t->type = dtype_from_gguf(type);
    if (t->type == DTYPE_NONE) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: tensor '%.*s': element type %" PRIu32 " is not known", g->path, name_size,
                    t->name.data, type);
    }
    return size_tensor(g, t, err);
}

static int read_tensors(struct gguf *g, uint64_t count, struct carat_error *err)
{
    int rc = check_count(g, count, GGUF_TENSORS_MAX, GGUF_TENSOR_BYTES_MIN, "tensors", err);
    if (rc) {
        return rc;
    }
    g->tensors = mem_new_array((size_t)count, sizeof(*g->tensors), err);
    if (!g->tensors) {
        return CARAT_E_MEMORY;
    }
    rc = map_reserve(&g->tensors_by_name, (size_t)count, err);
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        uint32_t existing = MAP_NONE;
        rc = read_tensor(g, t, err);
        if (rc == 0) {
            rc = map_put(&g->tensors_by_name, t->name, i, &existing, err);
        }
        if (rc == 0 && existing != MAP_NONE) {
            rc = fail(err, CARAT_E_FORMAT, "%s: tensor '%.*s' is there twice", g->path,
                      (int)t->name.size, t->name.data);
        }
        g->n_tensors = i + 1;
    }
    return rc;
}

static int read_alignment(const struct gguf *g, uint64_t *out, struct carat_error *err)
{
    uint64_t alignment = GGUF_ALIGNMENT_DEFAULT;
    int rc = gguf_get_u64(g, "general.alignment", &alignment, err);
    if (rc < 0) {
        return rc;
    }
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > GGUF_ALIGNMENT_MAX) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: key 'general.alignment': expected a power of two up to %" PRIu64
                    ", found %" PRIu64,
                    g->path, GGUF_ALIGNMENT_MAX, alignment);
    }
    *out = alignment;
    return 0;
}

// One tensor's place: aligned, after the one before it, inside the file. Offsets count from start.
static int place_tensor(struct gguf *g, struct gguf_tensor *t, const struct gguf_tensor *before,
                        uint64_t start, uint64_t alignment, struct carat_error *err)
{
    int name_size = (int)t->name.size;
    uint64_t left = g->map.size > start ? g->map.size - start : 0;
    if (t->offset % alignment != 0) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%.*s': expected an offset that is a multiple of %" PRIu64
                    ", found %" PRIu64,
                    g->path, name_size, t->name.data, alignment, t->offset);
    }
    if (t->offset > left || t->size > left - t->offset) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%.*s': expected %" PRIu64 " bytes at offset %" PRIu64
                    " of the data, but the file ends %" PRIu64
                    " bytes after the data's start: it is truncated; download it again",
                    g->path, name_size, t->name.data, t->size, t->offset, left);
    }
    t->offset += start;
    if (before && t->offset < before->offset + before->size) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%.*s': starts at byte %" PRIu64
                    ", before the end of tensor '%.*s', the one before it, at byte %" PRIu64,
                    g->path, name_size, t->name.data, t->offset, (int)before->name.size,
                    before->name.data, before->offset + before->size);
    }
    t->data = g->map.data + t->offset;
    return 0;
}

static int place_tensors(struct gguf *g, struct carat_error *err)
{
    uint64_t alignment = GGUF_ALIGNMENT_DEFAULT;
    int rc = read_alignment(g, &alignment, err);
    if (rc) {
        return rc;
    }
    uint64_t start = (g->at.at + alignment - 1) / alignment * alignment;
    for (size_t i = 0; i < g->n_tensors && rc == 0; i++) {
        const struct gguf_tensor *before = i > 0 ? &g->tensors[i - 1] : NULL;
        rc = place_tensor(g, &g->tensors[i], before, start, alignment, err);
    }
    return rc;
}

// g->map is set; fills the rest.
static int parse(struct gguf *g, struct carat_error *err)
{
    size_t header_max = g->map.size < GGUF_HEADER_MAX ? g->map.size : GGUF_HEADER_MAX;
    g->at = cursor_make(g->map.data, header_max);
    int rc = check_start(g, err);
    if (rc) {
        return rc;
    }
    uint64_t n_tensors = cursor_u64(&g->at);
    uint64_t n_keys = cursor_u64(&g->at);
    if (g->at.has_failed) {
        return fail_short(g, "first 24 bytes", err);
    }
    rc = read_keys(g, n_keys, err);
    if (rc == 0) {
        rc = read_tensors(g, n_tensors, err);
    }
    if (rc == 0) {
        rc = place_tensors(g, err);
    }
    return rc;
}

static int open_map(struct gguf **out, const struct os_map *map, const char *path, bool owns_map,
                    struct carat_error *err)
{
    int rc = CARAT_E_MEMORY;
    struct gguf *g = mem_new(sizeof(*g), err);
    if (!g) {
        goto out;
    }
    g->path = mem_strdup(path, err);
    if (!g->path) {
        goto out;
    }
    g->map = *map;
    rc = parse(g, err);
    if (rc) {
        goto out;
    }
    g->owns_map = owns_map;
    *out = g;
    g = NULL;
out:
    gguf_close(g);
    return rc;
}

int gguf_open(struct gguf **out, const char *path, struct carat_error *err)
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

int gguf_open_memory(struct gguf **out, const void *data, size_t size, const char *name,
                     struct carat_error *err)
{
    struct os_map map = {.data = data, .size = size};
    return open_map(out, &map, name, false, err);
}

void gguf_close(struct gguf *g)
{
    if (g) {
        map_release(&g->keys_by_name);
        map_release(&g->tensors_by_name);
        mem_free(g->keys);
        mem_free(g->tensors);
        mem_free(g->path);
        if (g->owns_map) {
            os_map_close(&g->map);
        }
        mem_free(g);
    }
}

/* ------------------------------------------------------------------------------------ looking */

const struct os_map *gguf_map(const struct gguf *g)
{
    return &g->map;
}

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

size_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    require(i < g->n_tensors);
    return &g->tensors[i];
}

const struct gguf_tensor *gguf_find(const struct gguf *g, const char *name)
{
    uint32_t i = map_get(&g->tensors_by_name, slice_of(name));
    return i == MAP_NONE ? NULL : &g->tensors[i];
}

size_t gguf_n_keys(const struct gguf *g)
{
    return g->n_keys;
}

struct slice gguf_key_at(const struct gguf *g, size_t i)
{
    require(i < g->n_keys);
    return g->keys[i].name;
}

struct gguf_value gguf_value_at(const struct gguf *g, size_t i)
{
    require(i < g->n_keys);
    const struct gguf_key *k = &g->keys[i];
    return (struct gguf_value){k->type, k->element, k->count,
                               slice_make((const char *)k->data, k->size)};
}

static const struct gguf_key *find_key(const struct gguf *g, const char *key)
{
    uint32_t i = map_get(&g->keys_by_name, slice_of(key));
    return i == MAP_NONE ? NULL : &g->keys[i];
}

bool gguf_has(const struct gguf *g, const char *key)
{
    return find_key(g, key) != NULL;
}

static bool is_integer(enum gguf_type type)
{
    return (type <= GGUF_I32) || type == GGUF_U64 || type == GGUF_I64;
}

// A number of any integer type or a bool: its sign and its bits, so that all of u64 and i64 fit.
struct integer {
    uint64_t value; // two's complement when negative
    bool is_negative;
};

static struct integer signed_integer(int64_t value)
{
    return (struct integer){.value = (uint64_t)value, .is_negative = value < 0};
}

static struct integer read_integer(struct cursor *c, enum gguf_type type)
{
    switch (type) {
    case GGUF_U8:
        return (struct integer){.value = cursor_u8(c)};
    case GGUF_BOOL:
        return (struct integer){.value = cursor_u8(c) != 0};
    case GGUF_I8:
        return signed_integer((int8_t)cursor_u8(c));
    case GGUF_U16:
        return (struct integer){.value = cursor_u16(c)};
    case GGUF_I16:
        return signed_integer((int16_t)cursor_u16(c));
    case GGUF_U32:
        return (struct integer){.value = cursor_u32(c)};
    case GGUF_I32:
        return signed_integer((int32_t)cursor_u32(c));
    case GGUF_U64:
        return (struct integer){.value = cursor_u64(c)};
    case GGUF_I64:
        return signed_integer((int64_t)cursor_u64(c));
    default:
        return (struct integer){0};
    }
}

static double read_double(struct cursor *c, enum gguf_type type)
{
    if (type == GGUF_F32) {
        return (double)cursor_f32(c);
    }
    if (type == GGUF_F64) {
        return cursor_f64(c);
    }
    struct integer n = read_integer(c, type);
    return n.is_negative ? (double)(int64_t)n.value : (double)n.value;
}

static void scalar_text(struct cursor *c, enum gguf_type type, struct buf *out)
{
    if (type == GGUF_F32 || type == GGUF_F64) {
        buf_addf(out, "%.*g", type == GGUF_F32 ? 7 : 15, read_double(c, type));
    } else if (type == GGUF_BOOL) {
        buf_adds(out, cursor_u8(c) ? "true" : "false");
    } else {
        struct integer n = read_integer(c, type);
        if (n.is_negative) {
            buf_addf(out, "%" PRId64, (int64_t)n.value);
        } else {
            buf_addf(out, "%" PRIu64, n.value);
        }
    }
}

static void string_text(struct slice s, struct buf *out, size_t max)
{
    bool is_cut = s.size > max;
    if (is_cut) {
        for (s.size = max; s.size > 0 && (s.data[s.size] & 0xC0) == 0x80; s.size--) {
            // not in the middle of a character
        }
    }
    buf_add_json(out, s.data, s.size);
    buf_adds(out, is_cut ? "..." : "");
}

static void key_text(const struct gguf_key *key, struct buf *out, size_t max)
{
    struct cursor c = cursor_make(key->data, key->size);
    if (key->type == GGUF_STRING) {
        string_text(slice_make((const char *)key->data, key->size), out, max);
    } else if (key->type == GGUF_ARRAY) {
        buf_addf(out, "array of %" PRIu64 " %s", key->count, value_types[key->element].name);
    } else {
        scalar_text(&c, key->type, out);
    }
}

void gguf_value_text(const struct gguf *g, size_t i, struct buf *out, size_t max)
{
    require(i < g->n_keys);
    key_text(&g->keys[i], out, max);
}

static int fail_value(const struct gguf *g, const struct gguf_key *key, const char *expected,
                      struct carat_error *err)
{
    struct buf found = {0};
    key_text(key, &found, 60);
    int rc = fail(err, CARAT_E_FORMAT, "%s: key '%.*s': expected %s, found %s", g->path,
                  (int)key->name.size, key->name.data, expected, buf_text(&found));
    buf_release(&found);
    return rc;
}

int gguf_get_u64(const struct gguf *g, const char *name, uint64_t *out, struct carat_error *err)
{
    const struct gguf_key *key = find_key(g, name);
    if (!key) {
        return 1;
    }
    struct cursor c = cursor_make(key->data, key->size);
    struct integer n = read_integer(&c, key->type);
    if (!is_integer(key->type) || n.is_negative) {
        return fail_value(g, key, "a whole number, 0 or more", err);
    }
    *out = n.value;
    return 0;
}

int gguf_get_f64(const struct gguf *g, const char *name, double *out, struct carat_error *err)
{
    const struct gguf_key *key = find_key(g, name);
    if (!key) {
        return 1;
    }
    if (!is_integer(key->type) && key->type != GGUF_F32 && key->type != GGUF_F64) {
        return fail_value(g, key, "a number", err);
    }
    struct cursor c = cursor_make(key->data, key->size);
    *out = read_double(&c, key->type);
    return 0;
}

int gguf_get_bool(const struct gguf *g, const char *name, bool *out, struct carat_error *err)
{
    const struct gguf_key *key = find_key(g, name);
    if (!key) {
        return 1;
    }
    if (key->type != GGUF_BOOL) {
        return fail_value(g, key, "true or false", err);
    }
    *out = key->data[0] != 0;
    return 0;
}

int gguf_get_string(const struct gguf *g, const char *name, struct slice *out,
                    struct carat_error *err)
{
    const struct gguf_key *key = find_key(g, name);
    if (!key) {
        return 1;
    }
    if (key->type != GGUF_STRING) {
        return fail_value(g, key, "a string", err);
    }
    *out = slice_make((const char *)key->data, key->size);
    return 0;
}

int gguf_get_array(const struct gguf *g, const char *name, struct gguf_array *out,
                   struct carat_error *err)
{
    uint32_t i = map_get(&g->keys_by_name, slice_of(name));
    if (i == MAP_NONE) {
        return 1;
    }
    const struct gguf_key *key = &g->keys[i];
    if (key->type != GGUF_ARRAY) {
        return fail_value(g, key, "an array", err);
    }
    *out = (struct gguf_array){
        .type = key->element,
        .count = key->count,
        .at = cursor_make(key->data, key->size),
        .path = g->path,
        .key = name,
    };
    return 0;
}

struct slice gguf_array_next_string(struct gguf_array *a)
{
    if (a->type != GGUF_STRING) {
        return (struct slice){0};
    }
    uint64_t size = cursor_u64(&a->at);
    const char *data = cursor_bytes(&a->at, size);
    return slice_make(data, data ? (size_t)size : 0);
}

int64_t gguf_array_next_i64(struct gguf_array *a)
{
    struct integer n = read_integer(&a->at, a->type);
    bool is_large = !n.is_negative && n.value > INT64_MAX;
    return is_large ? INT64_MAX : (int64_t)n.value;
}

double gguf_array_next_f64(struct gguf_array *a)
{
    return read_double(&a->at, a->type);
}
