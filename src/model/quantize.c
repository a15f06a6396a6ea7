// SPDX-License-Identifier: Apache-2.0
// carat_quantize: opens what is there, chooses types, plans the file, and streams the tensors into
// it. What the job is made of, metadata and types included, is hashed into the key of the partial
// file, so that only the same job goes on with it.
#include "model/quantize.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "model/importance.h"
#include "model/metadata.h"

#define SAMPLES     256 // places of a source that are looked at to know it again
#define SAMPLE_SIZE 64

// One file to be made.
struct product {
    char *path;
    struct catalog catalog;
    struct gguf_writer *writer;
};

struct job {
    const struct carat_quantize_options *o;
    struct source *source;
    struct source *projector_source; // NULL: the source's own
    struct model_config config;
    struct projector projector; // of whatever source has one, for its metadata
    bool is_checkpoint;
    enum carat_projector_place place;
    struct product model;
    struct product apart; // projections; no writer: none
    const struct recipe *recipe;
    struct transcoder t;
    struct carat_quantize_result result;
};

// -------------------------------------------------------------------------------------- importance

int importance_for(struct column_importance *out, const struct carat_importance *importance,
                   const struct item *item, struct carat_error *err)
{
    size_t n = 0;
    const float *values = NULL;
    *out = (struct column_importance){0};
    if (!importance || !item->is_matrix) {
        return 0;
    }
    values = carat_importance_of(importance, item->name, &n);
    // The matrix that makes the logits goes by either name.
    if (!values && item->kind == MATRIX_EMBED) {
        values = carat_importance_of(importance, "output.weight", &n);
    }
    if (!values && item->kind == MATRIX_QKV) {
        char name[TENSOR_NAME_SIZE];
        weights_name(name, ROLE_Q, (size_t)item->layer, NULL);
        values = carat_importance_of(importance, name, &n);
    }
    if (!values) {
        return 0;
    }
    bool fits = n == item->columns || (item->dims[2] > 1 && n == item->columns * item->dims[2]);
    if (!fits) {
        return fail(err, CARAT_E_FORMAT,
                    "importance of '%s': expected %llu columns as the matrix has, found %zu: it "
                    "belongs to another model",
                    item->name, (unsigned long long)item->columns, n);
    }
    *out = (struct column_importance){values, n};
    return 0;
}

// ------------------------------------------------------------------------------------------
// opening

static bool has_projector(const struct source *s)
{
    char name[PROJECTOR_NAME_SIZE];
    for (int role = 0; role < ROLE_PROJECTOR_COUNT; role++) {
        if (projector_find(name, s, &projector_table[role])) {
            return true;
        }
    }
    return false;
}

// A checkpoint has to be a whole model that carat runs: its names and shapes are not trusted. Of a
// GGUF file any member of the family will do, because its tensors and metadata are taken over.
static int check_checkpoint(struct job *j, struct carat_error *err)
{
    struct weights weights = {0};
    int rc = config_read(&j->config, j->source, err);
    rc = rc ? rc : weights_bind(&weights, &j->config, j->source, err);
    if (rc == 0) {
        rc = projector_bind(&j->projector, &j->config, j->source, err);
    }
    weights_release(&weights);
    return rc;
}

static int open_sources(struct job *j, struct carat_error *err)
{
    int rc = source_open(&j->source, j->o->source, true, err);
    if (rc) {
        return rc;
    }
    j->is_checkpoint = source_gguf(j->source) == NULL;
    j->place = j->o->projector_place;
    if (j->is_checkpoint) {
        rc = check_checkpoint(j, err);
    }
    if (rc == 0 && j->o->projector) {
        rc = source_open(&j->projector_source, j->o->projector, true, err);
        if (rc == 0 && (!source_gguf(j->projector_source) || !has_projector(j->projector_source))) {
            rc = fail(err, CARAT_E_ARGUMENT,
                      "%s: expected a GGUF file with the projections of pictures and sound",
                      j->o->projector);
        }
    }
    if (rc == 0 && j->place == CARAT_PROJECTOR_AUTO) {
        j->place =
            j->is_checkpoint && !j->o->projector ? CARAT_PROJECTOR_APART : CARAT_PROJECTOR_INSIDE;
    }
    return rc;
}

// -----------------------------------------------------------------------------------------
// metadata

static bool is_split_key(struct slice key)
{
    return slice_starts(key, "split.");
}

static void copy_keys(struct gguf_writer *w, const struct gguf *g, bool only_projector,
                      bool no_projector)
{
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        struct slice key = gguf_key_at(g, i);
        bool is_projector = slice_starts(key, "clip.");
        if (!is_split_key(key) && !(only_projector && !is_projector) &&
            !(no_projector && is_projector)) {
            gguf_set_value(w, key, gguf_value_at(g, i));
        }
    }
}

static struct slice text_of(const struct gguf *g, const char *key)
{
    struct slice s = {0};
    gguf_get_string(g, key, &s, NULL);
    return s;
}

static uint64_t n_parameters(const struct catalog *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        n += c->items[i].columns * c->items[i].rows;
    }
    return n;
}

// The file type that describes most of the bytes, for files without a recipe.
static uint32_t main_file_type(const struct catalog *c)
{
    uint64_t sizes[DTYPE_COUNT] = {0};
    enum dtype most = DTYPE_F32;
    for (size_t i = 0; i < c->n; i++) {
        sizes[c->items[i].to] += c->items[i].is_matrix ? c->items[i].columns * c->items[i].rows : 0;
    }
    for (int t = 0; t < DTYPE_COUNT; t++) {
        most = sizes[t] > sizes[most] ? (enum dtype)t : most;
    }
    const struct recipe *r = recipe_find(dtypes[most].name);
    return r ? recipe_file_type(r) : 0;
}

static int set_model_keys(struct job *j, struct carat_error *err)
{
    struct gguf_writer *w = j->model.writer;
    const struct gguf *g = source_gguf(j->source);
    const struct gguf *projector = j->projector_source ? source_gguf(j->projector_source) : NULL;
    int rc = 0;
    if (g) {
        copy_keys(w, g, false, j->place != CARAT_PROJECTOR_INSIDE);
    } else {
        rc = metadata_set_model(w, j->source, &j->config, n_parameters(&j->model.catalog), err);
    }
    if (rc == 0 && j->place == CARAT_PROJECTOR_INSIDE && projector) {
        copy_keys(w, projector, true, false);
    } else if (rc == 0 && j->place == CARAT_PROJECTOR_INSIDE && j->is_checkpoint) {
        rc = metadata_set_projector(w, j->source, &j->projector, err);
    }
    if (rc == 0 && (j->o->type || j->is_checkpoint)) {
        gguf_set_u32(w, "general.quantization_version", 2);
        gguf_set_u32(w, "general.file_type",
                     j->recipe ? recipe_file_type(j->recipe) : main_file_type(&j->model.catalog));
    }
    if (rc == 0 && j->o->importance) {
        struct carat_importance_info info;
        carat_importance_info(j->o->importance, &info);
        gguf_set_u32(w, "quantize.imatrix.entries_count", (uint32_t)info.n_matrices);
    }
    return rc;
}

static int set_projector_keys(struct job *j, struct carat_error *err)
{
    struct gguf_writer *w = j->apart.writer;
    const struct source *from = j->projector_source ? j->projector_source : j->source;
    const struct gguf *g = source_gguf(from);
    if (!g) {
        gguf_set_string(w, "general.architecture", slice_of("clip"));
        gguf_set_string(w, "general.type", slice_of("mmproj"));
        gguf_set_u32(w, "general.file_type", recipe_file_type(recipe_find("BF16")));
        gguf_set_u32(w, "general.quantization_version", 2);
        return metadata_set_projector(w, from, &j->projector, err);
    }
    bool is_clip = slice_is(text_of(g, "general.architecture"), "clip");
    gguf_set_string(w, "general.architecture", slice_of("clip"));
    gguf_set_string(w, "general.type", slice_of("mmproj"));
    if (!is_clip && text_of(g, "general.name").size > 0) {
        gguf_set_string(w, "general.name", text_of(g, "general.name"));
    }
    copy_keys(w, g, !is_clip, false);
    gguf_set_u32(w, "general.quantization_version", 2);
    return 0;
}

// -----------------------------------------------------------------------------------------
// planning

static int plan_product(struct product *p, struct carat_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < p->catalog.n; i++) {
        const struct item *it = &p->catalog.items[i];
        if (!dtypes[it->to].pack && it->to != it->type) {
            return fail(err, CARAT_E_UNSUPPORTED, "tensor '%s': carat does not write %s", it->name,
                        dtypes[it->to].name);
        }
        rc = gguf_writer_add(p->writer, slice_of(it->name), it->to, it->n_dims, it->dims, err);
    }
    return rc ? rc : gguf_writer_plan(p->writer, err);
}

static void tell_left_out(const struct job *j)
{
    const struct catalog *const catalogs[] = {&j->model.catalog, &j->apart.catalog};
    size_t n = catalog_left_out(j->source, catalogs, 2);
    if (n > 0) {
        log_line(CARAT_LOG_WARNING,
                 "%s: %zu of its %zu tensors are not of the kind that carat runs and are left out",
                 source_path(j->source), n, source_n_tensors(j->source));
    }
}

static int fill_catalogs(struct job *j, struct carat_error *err)
{
    bool is_own = !j->projector_source;
    // A checkpoint with towers has a projection as well, of which alone nothing can be made.
    bool has_any =
        !is_own || !j->is_checkpoint || j->projector.has_vision || j->projector.has_audio;
    bool is_inside = has_any && j->place == CARAT_PROJECTOR_INSIDE;
    const struct recipe *recipe = j->o->type ? recipe_find(j->o->type) : NULL;
    bool is_exact = !j->o->type || (recipe && recipe_type(recipe) == DTYPE_F32);
    unsigned projector = CATALOG_PROJECTOR | (is_exact ? CATALOG_EXACT : 0);
    const struct source *from = is_own ? j->source : j->projector_source;
    int rc = catalog_add(&j->model.catalog, j->source, &j->config,
                         CATALOG_MODEL | (is_own && is_inside ? projector : 0), err);
    if (rc == 0 && !is_own && is_inside) {
        rc = catalog_add(&j->model.catalog, from, &j->config, projector, err);
    }
    if (rc == 0 && has_any && j->place == CARAT_PROJECTOR_APART) {
        rc = catalog_add(&j->apart.catalog, from, &j->config, projector, err);
    }
    if (rc == 0 && j->model.catalog.n == 0) {
        rc = fail(err, CARAT_E_FORMAT, "%s: holds no tensors", j->o->source);
    }
    if (rc == 0 && is_own && j->is_checkpoint && j->place != CARAT_PROJECTOR_NONE) {
        tell_left_out(j);
    }
    return rc;
}

// Query heads for each key head of the first layer.
static size_t n_grouped(const struct job *j)
{
    uint64_t heads = 1;
    uint64_t kv_heads = 1;
    const struct gguf *g = source_gguf(j->source);
    struct gguf_array array;
    char key[96];
    if (!g) {
        return j->config.n_heads / j->config.layers[0].n_kv_heads;
    }
    struct slice arch = text_of(g, "general.architecture");
    snprintf(key, sizeof(key), "%.*s.attention.head_count", (int)(arch.size > 32 ? 32 : arch.size),
             arch.data ? arch.data : "");
    gguf_get_u64(g, key, &heads, NULL);
    snprintf(key, sizeof(key), "%.*s.attention.head_count_kv",
             (int)(arch.size > 32 ? 32 : arch.size), arch.data ? arch.data : "");
    if (gguf_get_array(g, key, &array, NULL) == 0 && array.count > 0) {
        int64_t first = gguf_array_next_i64(&array);
        kv_heads = first > 0 ? (uint64_t)first : 1;
    } else {
        gguf_get_u64(g, key, &kv_heads, NULL);
    }
    return (size_t)(heads / (kv_heads ? kv_heads : 1));
}

// "mmproj-NAME" beside "NAME".
static int name_apart(struct job *j, struct carat_error *err)
{
    const char *target = j->o->target;
    const char *slash = strrchr(target, '/');
    const char *name = slash ? slash + 1 : target;
    size_t room = strlen(target) + 16;
    if (j->o->projector_target) {
        j->apart.path = mem_strdup(j->o->projector_target, err);
        return j->apart.path ? 0 : CARAT_E_MEMORY;
    }
    j->apart.path = mem_new(room, err);
    if (!j->apart.path) {
        return CARAT_E_MEMORY;
    }
    snprintf(j->apart.path, room, "%.*smmproj-%s", (int)(name - target), target, name);
    return 0;
}

static int plan(struct job *j, struct carat_error *err)
{
    // What the header takes is known only with the types, which change nothing in its size: for
    // auto it is planned with those of the source first.
    uint64_t header_size = 0;
    int rc = fill_catalogs(j, err);
    if (rc == 0 && j->o->type && strncmp(j->o->type, "auto:", 5) == 0) {
        struct job trial = {.o = j->o,
                            .source = j->source,
                            .projector_source = j->projector_source,
                            .config = j->config,
                            .projector = j->projector,
                            .place = j->place,
                            .is_checkpoint = j->is_checkpoint,
                            .model = {.catalog = j->model.catalog}};
        rc = gguf_writer_new(&trial.model.writer, err);
        rc = rc ? rc : set_model_keys(&trial, err);
        rc = rc ? rc : plan_product(&trial.model, err);
        header_size = rc ? 0 : gguf_writer_header(trial.model.writer).size;
        gguf_writer_free(trial.model.writer);
    }
    rc = rc ? rc
            : quantize_choose(&j->model.catalog, j->o, n_grouped(j), header_size, &j->t, &j->recipe,
                              err);
    rc = rc ? rc : gguf_writer_new(&j->model.writer, err);
    rc = rc ? rc : set_model_keys(j, err);
    rc = rc ? rc : plan_product(&j->model, err);
    j->model.path = rc ? NULL : mem_strdup(j->o->target, err);
    if (rc == 0 && !j->model.path) {
        rc = CARAT_E_MEMORY;
    }
    if (rc || j->apart.catalog.n == 0) {
        return rc;
    }
    rc = name_apart(j, err);
    rc = rc ? rc : gguf_writer_new(&j->apart.writer, err);
    rc = rc ? rc : set_projector_keys(j, err);
    return rc ? rc : plan_product(&j->apart, err);
}

// ------------------------------------------------------------------------------------------
// writing

static void hash_source(struct hash *h, const struct source *s)
{
    hash_add_u64(h, source_n_maps(s));
    for (size_t i = 0; i < source_n_maps(s); i++) {
        const struct os_map *m = source_map_at(s, i);
        hash_add_u64(h, m->size);
        for (size_t k = 0; k < SAMPLES && m->size >= SAMPLE_SIZE; k++) {
            size_t at = (size_t)((double)(m->size - SAMPLE_SIZE) * (double)k / (SAMPLES - 1));
            hash_add(h, m->data + at, SAMPLE_SIZE);
        }
    }
}

static void make_key(uint8_t key[HASH_SIZE], const struct job *j, const struct product *p)
{
    struct hash h;
    struct slice header = gguf_writer_header(p->writer);
    hash_init(&h, NULL);
    hash_add_u64(&h, 1); // changes when the same job would give other bytes
    hash_source(&h, j->source);
    if (j->projector_source) {
        hash_source(&h, j->projector_source);
    }
    hash_add(&h, header.data, header.size);
    for (size_t i = 0; i < p->catalog.n && j->o->importance; i++) {
        size_t n = 0;
        const float *values = carat_importance_of(j->o->importance, p->catalog.items[i].name, &n);
        hash_add(&h, values, values ? n * sizeof(float) : 0);
    }
    hash_digest(&h, key);
}

static void report_item(const struct job *j, const struct item *it, const double figures[2])
{
    if (!j->o->on_tensor) {
        return;
    }
    j->o->on_tensor(j->o->tensor_user,
                    &(struct carat_tensor_report){
                        .name = it->name,
                        .role = it->is_projector ? "projector" : matrix_kind_name(it->kind),
                        .layer = it->layer,
                        .from = dtypes[it->type].name,
                        .to = dtypes[it->to].name,
                        .instead_of = it->asked != it->to ? dtypes[it->asked].name : NULL,
                        .n_values = it->columns * it->rows,
                        .from_size = it->size,
                        .to_size = item_size_as(it, it->to),
                        .error = figures[0],
                        .energy = figures[1],
                        .is_projector = it->is_projector,
                        .is_planned = j->o->is_dry_run,
                    });
}

static int write_item(struct job *j, const struct product *p, size_t i, struct partial *file,
                      struct carat_error *err)
{
    const struct item *it = &p->catalog.items[i];
    struct column_importance importance;
    struct transcode_sum sum;
    int rc = importance_for(&importance, j->o->importance, it, err);
    rc = rc ? rc : partial_zeros(file, gguf_writer_offset(p->writer, i) - file->at, err);
    rc = rc ? rc : transcode_item(&j->t, it, importance, j->o->measures_errors, file, &sum, err);
    if (rc) {
        return rc;
    }
    bool is_copy = it->to == it->type && !it->made;
    const double figures[3] = {is_copy || j->o->measures_errors ? sum.error : -1, sum.energy, 0};
    rc = partial_step(file, figures, err);
    if (rc == 0) {
        report_item(j, it, figures);
    }
    return rc;
}

static int check_room(const struct product *p, const struct partial *file, struct carat_error *err)
{
    uint64_t left = gguf_writer_size(p->writer) - file->at;
    uint64_t room = os_disk_free(file->file.path); // lies where the file will
    return left <= room ? 0
                        : fail(err, CARAT_E_FULL,
                               "%s: %llu bytes are to be written, but the disk has only %llu left",
                               p->path, (unsigned long long)left, (unsigned long long)room);
}

static int write_product(struct job *j, const struct product *p, struct carat_error *err)
{
    uint8_t key[HASH_SIZE];
    struct partial file = {0};
    make_key(key, j, p);
    if (partial_was_finished(p->path, key)) {
        return 0;
    }
    if (os_exists(p->path) && !j->o->overwrites) {
        return fail(err, CARAT_E_ARGUMENT, "%s: is there already; it is replaced only by force",
                    p->path);
    }
    int rc = partial_open(&file, p->path, key, j->o->overwrites, err);
    rc = rc ? rc : check_room(p, &file, err);
    if (rc) {
        goto out;
    }
    size_t n_done = file.n_steps;
    if (n_done == 0) {
        struct slice header = gguf_writer_header(p->writer);
        const double none[3] = {0, 0, 0};
        rc = partial_add(&file, header.data, header.size, err);
        rc = rc ? rc : partial_step(&file, none, err);
        n_done = 1;
    } else {
        j->result.resumed_size += file.at;
    }
    for (size_t i = 0; rc == 0 && i < p->catalog.n; i++) {
        if (i + 1 < n_done) {
            j->t.done += p->catalog.items[i].made ? 0 : p->catalog.items[i].size;
            j->result.n_resumed++;
            report_item(j, &p->catalog.items[i], file.steps[i + 1].figures);
        } else {
            rc = write_item(j, p, i, &file, err);
        }
    }
    rc = rc ? rc : partial_zeros(&file, gguf_writer_size(p->writer) - file.at, err);
    rc = rc ? rc : partial_finish(&file, err);
out:
    partial_close(&file);
    return rc;
}

static void report_plan(const struct job *j, const struct product *p)
{
    static const double unknown[2] = {-1, 0};
    for (size_t i = 0; i < p->catalog.n; i++) {
        report_item(j, &p->catalog.items[i], unknown);
    }
}

static int write_all(struct job *j, struct carat_error *err)
{
    const struct product *products[2] = {j->apart.writer ? &j->apart : NULL, &j->model};
    int rc = 0;
    j->t.what = "quantizing";
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; products[k] && i < products[k]->catalog.n; i++) {
            const struct item *it = &products[k]->catalog.items[i];
            j->t.total += it->made ? 0 : it->size;
        }
    }
    // The small file first: whoever finds the large one has both.
    for (size_t k = 0; rc == 0 && k < 2; k++) {
        if (products[k]) {
            j->result.n_tensors += products[k]->catalog.n;
            if (j->o->is_dry_run) {
                report_plan(j, products[k]);
            } else {
                rc = write_product(j, products[k], err);
            }
        }
    }
    j->result.file_size = gguf_writer_size(j->model.writer);
    j->result.projector_size = j->apart.writer ? gguf_writer_size(j->apart.writer) : 0;
    return rc;
}

// --------------------------------------------------------------------------------------------
// calls

static void release_product(struct product *p)
{
    mem_free(p->path);
    catalog_release(&p->catalog);
    gguf_writer_free(p->writer);
}

int carat_quantize(const struct carat_quantize_options *options, carat_on_progress on_progress,
                   void *user, struct carat_error *err)
{
    struct job j = {.o = options};
    if (!options->source || !options->target) {
        return fail(err, CARAT_E_ARGUMENT, "quantizing needs a source and a target");
    }
    int rc = transcoder_init(&j.t, options->n_threads, err);
    j.t.on_progress = on_progress;
    j.t.user = user;
    rc = rc ? rc : open_sources(&j, err);
    rc = rc ? rc : plan(&j, err);
    rc = rc ? rc : write_all(&j, err);
    if (rc == 0 && options->result) {
        *options->result = j.result;
    }
    release_product(&j.model);
    release_product(&j.apart);
    transcoder_release(&j.t);
    projector_release(&j.projector);
    config_release(&j.config);
    source_close(j.projector_source);
    source_close(j.source);
    return rc;
}

bool carat_quantize_type_at(size_t i, struct carat_quantize_type *out)
{
    const struct recipe *r = recipe_at(i);
    if (r) {
        *out = (struct carat_quantize_type){recipe_name(r), recipe_what(r)};
    }
    return r != NULL;
}
