// SPDX-License-Identifier: Apache-2.0
// Two kinds of file are in use. The older one (.dat) is a list of names with means times a number
// of calls; the newer one is a GGUF file with two tensors for each matrix, "NAME.in_sum2" and
// "NAME.counts".
#include "model/importance.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "base/os_file.h"
#include "base/os_part.h"
#include "formats/container.h"
#include "formats/gguf_write.h"

#define SUMS            ".in_sum2"
#define COUNTS          ".counts"
#define MATRIX_NAME_MAX GGUF_NAME_SIZE_MAX
#define CHUNK_SIZE      512 // tokens; what files count in
#define FILE_MAX        ((size_t)1 << 30)

int carat_importance_new(struct carat_importance **out, struct carat_error *err)
{
    struct carat_importance *im = mem_new(sizeof(*im), err);
    if (!im) {
        return CARAT_E_MEMORY;
    }
    *out = im;
    return 0;
}

void carat_importance_free(struct carat_importance *im)
{
    for (size_t i = 0; im && i < im->n; i++) {
        mem_free(im->matrices[i].name);
        mem_free(im->matrices[i].sums);
        mem_free(im->matrices[i].means);
    }
    if (im) {
        mem_free(im->matrices);
        map_release(&im->names);
        mem_free(im);
    }
}

static int add_entry(struct carat_importance *im, const char *name, size_t n,
                     struct carat_error *err)
{
    if (im->n >= IMPORTANCE_MATRICES_MAX) {
        return fail(err, CARAT_E_FULL, "more than %d matrices", IMPORTANCE_MATRICES_MAX);
    }
    if (im->n % 64 == 0) {
        struct importance_matrix *all = mem_resize(im->matrices, (im->n + 64) * sizeof(*all), err);
        if (!all) {
            return CARAT_E_MEMORY;
        }
        im->matrices = all;
    }
    struct importance_matrix *m = &im->matrices[im->n];
    *m = (struct importance_matrix){.n = n};
    m->name = mem_strdup(name, err);
    m->sums = m->name ? mem_new_array(n, sizeof(double), err) : NULL;
    m->means = m->sums ? mem_new_array(n, sizeof(float), err) : NULL;
    im->n++; // to be freed, whole or not
    if (!m->means) {
        return CARAT_E_MEMORY;
    }
    return map_put(&im->names, slice_of(m->name), (uint32_t)(im->n - 1), NULL, err);
}

struct importance_matrix *importance_entry(struct carat_importance *im, const char *name, size_t n,
                                           struct carat_error *err)
{
    uint32_t i = map_get(&im->names, slice_of(name));
    if (i == MAP_NONE) {
        return add_entry(im, name, n, err) ? NULL : &im->matrices[im->n - 1];
    }
    if (im->matrices[i].n != n) {
        fail(err, CARAT_E_FORMAT, "'%s': expected %zu columns as before, found %zu", name,
             im->matrices[i].n, n);
        return NULL;
    }
    return &im->matrices[i];
}

// ------------------------------------------------------------------------------------------
// reading

// A count or sum from a file.
static int check_value(double v, const char *file, const char *name, struct carat_error *err)
{
    return isfinite(v) && v >= 0
               ? 0
               : fail(err, CARAT_E_FORMAT, "%s: '%s': expected numbers of at least 0, found %g",
                      file, name, v);
}

static int read_legacy_entry(struct carat_importance *im, struct cursor *c, const char *file,
                             struct carat_error *err)
{
    char name[MATRIX_NAME_MAX + 1];
    uint32_t size = cursor_u32(c);
    const char *text = size <= MATRIX_NAME_MAX ? cursor_bytes(c, size) : NULL;
    if (!text || !container_is_name(slice_make(text, size), MATRIX_NAME_MAX)) {
        return fail(
            err, CARAT_E_FORMAT,
            "%s: at byte %zu: expected the name of a matrix: this is no imatrix file, or it "
            "is damaged",
            file, c->at);
    }
    snprintf(name, sizeof(name), "%.*s", (int)size, text);
    uint32_t n_calls = cursor_u32(c);
    uint32_t n = cursor_u32(c);
    if (c->has_failed || n == 0 || n > cursor_left(c) / sizeof(float)) {
        return fail(err, CARAT_E_FORMAT, "%s: '%s': the file is truncated or damaged", file, name);
    }
    if (map_get(&im->names, slice_of(name)) != MAP_NONE) {
        return fail(err, CARAT_E_FORMAT, "%s: '%s' is there twice", file, name);
    }
    int rc = add_entry(im, name, n, err);
    struct importance_matrix *m = rc ? NULL : &im->matrices[im->n - 1];
    // The values are means times the calls; a file that says 0 calls holds plain means.
    double calls = n_calls > 0 && n_calls <= INT32_MAX ? n_calls : 1;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        m->sums[i] = (double)cursor_f32(c);
        rc = check_value(m->sums[i], file, name, err);
    }
    if (rc == 0) {
        m->count = calls;
    }
    return rc;
}

static int read_legacy(struct carat_importance *im, struct cursor *c, const char *file,
                       struct carat_error *err)
{
    uint32_t n = cursor_u32(c);
    if (c->has_failed || n == 0 || n > IMPORTANCE_MATRICES_MAX) {
        return fail(err, CARAT_E_FORMAT, "%s: expected an imatrix file, found %s", file,
                    container_sniff(c->data, c->size));
    }
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        rc = read_legacy_entry(im, c, file, err);
    }
    // What may follow: the number of chunks and the name of the data.
    uint64_t n_chunks = rc == 0 && cursor_left(c) >= 4 ? cursor_u32(c) : 0;
    im->n_tokens = n_chunks <= INT32_MAX ? n_chunks * CHUNK_SIZE : 0;
    return rc;
}

static int read_gguf_entry(struct carat_importance *im, const struct gguf *g,
                           const struct gguf_tensor *sums, struct carat_error *err)
{
    char name[MATRIX_NAME_MAX + sizeof(COUNTS)];
    size_t base = sums->name.size - strlen(SUMS);
    snprintf(name, sizeof(name), "%.*s%s", (int)base, sums->name.data, COUNTS);
    const struct gguf_tensor *counts = gguf_find(g, name);
    name[base] = 0;
    uint64_t n_parts = counts ? counts->size / sizeof(float) : 0;
    uint64_t n = sums->size / sizeof(float);
    if (!counts || counts->type != DTYPE_F32 || sums->type != DTYPE_F32 || n == 0 ||
        n % n_parts != 0 || n > IMPORTANCE_COLUMNS_MAX) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: '%s': expected sums and counts of type F32, as many sums for each count",
                    gguf_path(g), name);
    }
    int rc = add_entry(im, name, (size_t)n, err);
    struct importance_matrix *m = rc ? NULL : &im->matrices[im->n - 1];
    struct cursor at = cursor_make(sums->data, (size_t)sums->size);
    struct cursor count_at = cursor_make(counts->data, (size_t)counts->size);
    for (uint64_t part = 0; rc == 0 && part < n_parts; part++) {
        double count = (double)cursor_f32(&count_at);
        rc = check_value(count, gguf_path(g), name, err);
        // Experts that no token came to have no sums either.
        for (uint64_t i = 0; rc == 0 && i < n / n_parts; i++) {
            double sum = (double)cursor_f32(&at);
            rc = check_value(sum, gguf_path(g), name, err);
            m->sums[part * (n / n_parts) + i] = count > 0 ? sum / count : 0;
        }
    }
    if (rc == 0 && n_parts == 1) {
        struct cursor again = cursor_make(counts->data, (size_t)counts->size);
        double count = (double)cursor_f32(&again);
        m->count = count > 0 ? count : 1;
        for (uint64_t i = 0; i < n; i++) {
            m->sums[i] *= m->count;
        }
    } else if (rc == 0) {
        m->count = 1; // already divided, each part by its own
    }
    return rc;
}

static int read_gguf(struct carat_importance *im, const struct gguf *g, struct carat_error *err)
{
    uint64_t n_chunks = 0;
    uint64_t chunk = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (slice_ends(t->name, SUMS) && t->name.size > strlen(SUMS)) {
            rc = read_gguf_entry(im, g, t, err);
        }
    }
    if (rc == 0 && im->n == 0) {
        rc = fail(err, CARAT_E_FORMAT,
                  "%s: expected an imatrix file with tensors named '...%s', found a GGUF file "
                  "without any",
                  gguf_path(g), SUMS);
    }
    if (rc == 0 && gguf_get_u64(g, "imatrix.chunk_count", &n_chunks, NULL) == 0 &&
        gguf_get_u64(g, "imatrix.chunk_size", &chunk, NULL) == 0 && n_chunks <= UINT32_MAX &&
        chunk <= UINT32_MAX) {
        im->n_tokens = n_chunks * chunk;
    }
    return rc;
}

int importance_read_memory(struct carat_importance **out, const void *data, size_t size,
                           const char *name, struct carat_error *err)
{
    struct carat_importance *im = NULL;
    struct gguf *g = NULL;
    int rc = carat_importance_new(&im, err);
    if (rc) {
        return rc;
    }
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        rc = gguf_open_memory(&g, data, size, name, err);
        rc = rc ? rc : read_gguf(im, g, err);
    } else {
        struct cursor c = cursor_make(data, size);
        rc = read_legacy(im, &c, name, err);
    }
    gguf_close(g);
    if (rc) {
        carat_importance_free(im);
        return rc;
    }
    *out = im;
    return 0;
}

int carat_importance_read(struct carat_importance **out, const char *path, struct carat_error *err)
{
    struct os_map map = {0};
    int rc = os_map_open(&map, path, err);
    if (rc == 0 && map.size > FILE_MAX) {
        rc = fail(err, CARAT_E_FULL, "%s: expected an imatrix file of at most %zu bytes", path,
                  FILE_MAX);
    }
    rc = rc ? rc : importance_read_memory(out, map.data, map.size, path, err);
    os_map_close(&map);
    return rc;
}

// ------------------------------------------------------------------------------------------
// writing

static uint32_t chunks_of(const struct carat_importance *im)
{
    uint64_t n = (im->n_tokens + CHUNK_SIZE - 1) / CHUNK_SIZE;
    return n > INT32_MAX ? INT32_MAX : (uint32_t)n;
}

static void add_u32(struct buf *b, uint32_t v)
{
    const uint8_t bytes[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
                              (uint8_t)(v >> 24)};
    buf_add(b, bytes, sizeof(bytes));
}

static float as_stored(double v)
{
    return v > (double)3.4e38f ? 3.4e38f : (float)v;
}

static void add_f32(struct buf *b, double v)
{
    float f = as_stored(v);
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    add_u32(b, bits);
}

static void write_legacy(struct buf *b, const struct carat_importance *im, const char *dataset)
{
    add_u32(b, (uint32_t)im->n);
    for (size_t i = 0; i < im->n; i++) {
        const struct importance_matrix *m = &im->matrices[i];
        uint32_t calls = chunks_of(im) > 0 ? chunks_of(im) : 1;
        add_u32(b, (uint32_t)strlen(m->name));
        buf_adds(b, m->name);
        add_u32(b, calls);
        add_u32(b, (uint32_t)m->n);
        for (size_t k = 0; k < m->n; k++) {
            add_f32(b, m->count > 0 ? m->sums[k] / m->count * calls : 0);
        }
    }
    add_u32(b, chunks_of(im));
    add_u32(b, (uint32_t)strlen(dataset));
    buf_adds(b, dataset);
}

static int plan_gguf(struct gguf_writer *w, const struct carat_importance *im, const char *dataset,
                     struct carat_error *err)
{
    const struct slice set = slice_of(dataset);
    int rc = 0;
    gguf_set_string(w, "general.type", slice_of("imatrix"));
    gguf_set_strings(w, "imatrix.datasets", &set, 1);
    gguf_set_u32(w, "imatrix.chunk_count", chunks_of(im));
    gguf_set_u32(w, "imatrix.chunk_size", CHUNK_SIZE);
    for (size_t i = 0; rc == 0 && i < im->n; i++) {
        char name[MATRIX_NAME_MAX + sizeof(SUMS)];
        const uint64_t dims[2] = {im->matrices[i].n, 1};
        const uint64_t one[2] = {1, 1};
        snprintf(name, sizeof(name), "%s" SUMS, im->matrices[i].name);
        rc = gguf_writer_add(w, slice_of(name), DTYPE_F32, 2, dims, err);
        snprintf(name, sizeof(name), "%s" COUNTS, im->matrices[i].name);
        rc = rc ? rc : gguf_writer_add(w, slice_of(name), DTYPE_F32, 2, one, err);
    }
    return rc ? rc : gguf_writer_plan(w, err);
}

static int write_gguf(struct buf *b, const struct carat_importance *im, const char *dataset,
                      struct carat_error *err)
{
    struct gguf_writer *w = NULL;
    int rc = gguf_writer_new(&w, err);
    rc = rc ? rc : plan_gguf(w, im, dataset, err);
    if (rc == 0) {
        buf_add_slice(b, gguf_writer_header(w));
    }
    for (size_t i = 0; rc == 0 && i < 2 * im->n; i++) {
        const struct importance_matrix *m = &im->matrices[i / 2];
        while (b->size < gguf_writer_offset(w, i) && !b->has_failed) {
            buf_addc(b, 0);
        }
        for (size_t k = 0; i % 2 == 0 && k < m->n; k++) {
            add_f32(b, m->sums[k]);
        }
        if (i % 2 == 1) {
            add_f32(b, m->count);
        }
    }
    while (rc == 0 && b->size < gguf_writer_size(w) && !b->has_failed) {
        buf_addc(b, 0);
    }
    gguf_writer_free(w);
    return rc;
}

int carat_importance_write(const struct carat_importance *im, const char *path, const char *dataset,
                           struct carat_error *err)
{
    struct buf b = {.max = FILE_MAX};
    struct os_writer file = {.fd = -1};
    int rc = 0;
    if (slice_ends(slice_of(path), ".dat")) {
        write_legacy(&b, im, dataset ? dataset : "");
    } else {
        rc = write_gguf(&b, im, dataset ? dataset : "", err);
    }
    rc = rc ? rc : buf_status(&b, err);
    rc = rc ? rc : os_writer_open(&file, path, err);
    if (rc == 0) {
        rc = os_writer_add(&file, b.data, b.size, err);
        rc = rc ? rc : os_writer_finish(&file, true, err);
        rc = rc ? rc : os_share(path, err);
        os_writer_close(&file);
    }
    buf_release(&b);
    return rc;
}

// -------------------------------------------------------------------------------------------
// looking

void carat_importance_info(const struct carat_importance *im, struct carat_importance_info *out)
{
    *out = (struct carat_importance_info){.n_matrices = im->n, .n_tokens = im->n_tokens};
}

const float *carat_importance_of(const struct carat_importance *im, const char *matrix, size_t *n)
{
    uint32_t i = map_get(&im->names, slice_of(matrix));
    if (i == MAP_NONE) {
        return NULL;
    }
    // Of an entry only its own means change, and they always come out the same.
    struct importance_matrix *m = &im->matrices[i];
    // Sums as a file keeps them: what was collected weighs as what will be read again.
    for (size_t k = 0; !m->is_fresh && k < m->n; k++) {
        m->means[k] = m->count > 0 ? (float)((double)as_stored(m->sums[k]) / m->count) : 0;
    }
    m->is_fresh = true;
    *n = m->n;
    return m->means;
}
