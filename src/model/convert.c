// SPDX-License-Identifier: Apache-2.0
// carat_convert: a GGUF file to the directory of a checkpoint. Names and shapes come from the same
// tables by which either is read; docs/formats.md has the few changes between the two.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "base/os_file.h"
#include "carat_jobs.h"
#include "formats/safetensors_write.h"
#include "model/checkpoint.h"
#include "model/transcode.h"

#define SAMPLES     256 // places of a source that are looked at to know it again
#define SAMPLE_SIZE 64
#define JSON_MAX    ((size_t)256 << 20)
#define SCAN_VALUES 4096

struct conversion {
    const struct carat_convert_options *o;
    struct source *source;
    struct source *projector_source; // NULL: the source's own
    struct model_config config;
    struct weights weights;
    struct projector projector;
    struct tokenizer *tokenizer;
    struct catalog catalog;
    struct safetensors_writer writer;
    struct transcoder t;
    struct carat_quantize_result result;
    char *model_path; // of model.safetensors
    bool has_head;
};

// ------------------------------------------------------------------------------------------
// opening

static int open_all(struct conversion *c, struct carat_error *err)
{
    int rc = source_open(&c->source, c->o->source, true, err);
    if (rc == 0 && !source_gguf(c->source)) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "%s: is a checkpoint already; of it GGUF files are made, by carat quantize or by "
                  "carat convert with a target that ends in .gguf",
                  c->o->source);
    }
    if (rc == 0 && c->o->projector) {
        rc = source_open(&c->projector_source, c->o->projector, true, err);
    }
    rc = rc ? rc : config_read(&c->config, c->source, err);
    rc = rc ? rc : weights_bind(&c->weights, &c->config, c->source, err);
    rc = rc ? rc
            : projector_bind(&c->projector, &c->config,
                             c->projector_source ? c->projector_source : c->source, err);
    if (rc == 0 && c->projector_source && !c->projector.has_vision && !c->projector.has_audio) {
        rc = fail(err, CARAT_E_ARGUMENT, "%s: holds no projections of pictures and sound",
                  c->o->projector);
    }
    return rc ? rc : tokenizer_new(&c->tokenizer, c->source, err);
}

// ------------------------------------------------------------------------------------------
// tensors

static const struct item *find_item(const struct catalog *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->items[i].name, name) == 0) {
            return &c->items[i];
        }
    }
    return NULL;
}

static struct item *append(struct catalog *c, const struct item *from, const char *name)
{
    struct item *it = &c->items[c->n++];
    *it = *from;
    snprintf(it->name, sizeof(it->name), "%s", name);
    return it;
}

// Rows of a fused matrix of q, k and v.
static bool take_fused(struct catalog *out, const struct catalog *all, const struct conversion *c,
                       enum tensor_role role, size_t layer, const char *name)
{
    char fused[TENSOR_NAME_SIZE];
    snprintf(fused, sizeof(fused), "blk.%zu.attn_qkv.weight", layer);
    const struct item *it = find_item(all, fused);
    const struct layer_config *l = &c->config.layers[layer];
    uint64_t q = (uint64_t)c->config.n_heads * l->head_dim;
    uint64_t kv = (uint64_t)l->n_kv_heads * l->head_dim;
    size_t row_size = 0;
    if (!it || !dtype_row_size(&row_size, it->type, it->columns)) {
        return false;
    }
    uint64_t first = role == ROLE_Q ? 0 : role == ROLE_K ? q : q + kv;
    uint64_t rows = role == ROLE_Q ? q : kv;
    if (first + rows > it->rows) {
        return false;
    }
    struct item *part = append(out, it, name);
    part->data += first * row_size;
    part->size = rows * row_size;
    part->rows = part->dims[1] = rows;
    return true;
}

static int take_decoder(struct catalog *out, const struct catalog *all, struct conversion *c,
                        const char *prefix, struct carat_error *err)
{
    for (int role = 0; role < ROLE_COUNT; role++) {
        size_t n = tensor_table[role].is_layer ? c->config.n_layers : 1;
        for (size_t layer = 0; layer < n; layer++) {
            char there[TENSOR_NAME_SIZE];
            char name[TENSOR_NAME_SIZE];
            weights_name(there, (enum tensor_role)role, layer, NULL);
            weights_name(name, (enum tensor_role)role, layer, prefix);
            const struct item *it = find_item(all, there);
            bool is_optional = role == ROLE_HEAD ||
                               (role == ROLE_V && c->config.layers[layer].has_shared_kv_vector);
            if (it) {
                append(out, it, name);
                c->has_head = c->has_head || role == ROLE_HEAD;
            } else if (!is_optional &&
                       !take_fused(out, all, c, (enum tensor_role)role, layer, name)) {
                return fail(err, CARAT_E_FORMAT, "%s: tensor '%s' is missing", c->o->source, there);
            }
        }
    }
    return 0;
}

// Back from the order of a GGUF file: catalog.c, reorder.
static int reorder(struct item *it, enum projector_role role, struct carat_error *err)
{
    uint64_t n = it->columns * it->rows;
    bool is_positions = role == ROLE_POSITIONS;
    uint32_t side = 1;
    float *made = n <= SIZE_MAX ? mem_new_array((size_t)n, sizeof(float), err) : NULL;
    float *row = made ? mem_new_array((size_t)it->columns, sizeof(float), err) : NULL;
    if (!row) {
        mem_free(made);
        return fail(err, CARAT_E_MEMORY, "no memory for '%s'", it->name);
    }
    while (!is_positions && (uint64_t)side * side * 3 < it->columns) {
        side++;
    }
    for (uint64_t r = 0; r < it->rows; r++) {
        uint64_t half = it->rows / 2;
        float *out = made + (is_positions ? r % half * 2 + r / half : r) * it->columns;
        item_read(it, row, r, 0, (size_t)it->columns);
        for (uint64_t i = 0; is_positions && i < it->columns; i++) {
            out[i] = row[i];
        }
        for (size_t p = 0; !is_positions && p < (size_t)side * side; p++) {
            for (size_t k = 0; k < 3; k++) {
                out[p * 3 + k] = row[k * side * side + p];
            }
        }
    }
    mem_free(row);
    it->made = made;
    it->type = DTYPE_F32;
    it->factor = 1;
    if (is_positions) {
        it->dims[2] = it->dims[1];
        it->dims[1] = 2;
    }
    return 0;
}

static int take_projector(struct catalog *out, const struct catalog *all, struct carat_error *err)
{
    int rc = 0;
    for (int role = 0; rc == 0 && role < ROLE_PROJECTOR_COUNT; role++) {
        const struct item *it = find_item(all, projector_table[role].gguf);
        char name[TENSOR_NAME_SIZE];
        if (!it) {
            continue;
        }
        snprintf(name, sizeof(name), "model.%s", projector_table[role].safetensors[0]);
        struct item *taken = append(out, it, name);
        if (role <= ROLE_PATCH_DENSE || role == ROLE_POSITIONS) {
            rc = reorder(taken, (enum projector_role)role, err);
        }
    }
    return rc;
}

// Whether BF16 holds every value of the item as it is.
static bool fits_bf16(const struct item *it)
{
    float values[SCAN_VALUES];
    if (it->type == DTYPE_BF16) {
        return true;
    }
    for (uint64_t r = 0; r < it->rows; r++) {
        for (uint64_t at = 0; at < it->columns; at += SCAN_VALUES) {
            uint64_t left = it->columns - at;
            size_t n = left < SCAN_VALUES ? (size_t)left : SCAN_VALUES;
            item_read(it, values, r, at, n);
            for (size_t i = 0; i < n; i++) {
                uint32_t bits;
                memcpy(&bits, &values[i], sizeof(bits));
                if (bits & 0xFFFF) {
                    return false;
                }
            }
        }
    }
    return true;
}

static enum dtype type_for(const struct item *it, enum carat_convert_type type)
{
    switch (type) {
    case CARAT_CONVERT_BF16:
        return DTYPE_BF16;
    case CARAT_CONVERT_F16:
        return DTYPE_F16;
    case CARAT_CONVERT_F32:
        return DTYPE_F32;
    case CARAT_CONVERT_AUTO:
        break;
    }
    bool is_float = dtypes[it->type].block_values == 1;
    return !is_float || fits_bf16(it) ? DTYPE_BF16 : it->type;
}

// Every tensor with its new name and type, and the header.
static int plan(struct conversion *c, struct carat_error *err)
{
    struct catalog all = {0};
    bool has_projector = c->projector.has_vision || c->projector.has_audio;
    const struct source *projector = c->projector_source ? c->projector_source : c->source;
    int rc = catalog_add(&all, c->source, &c->config, CATALOG_MODEL, err);
    rc = rc || !has_projector ? rc
                              : catalog_add(&all, projector, &c->config, CATALOG_PROJECTOR, err);
    // Fused matrices become three.
    c->catalog.items = rc ? NULL : mem_new_array(3 * all.n + 1, sizeof(struct item), err);
    rc = rc || c->catalog.items ? rc : CARAT_E_MEMORY;
    rc = rc ? rc
            : take_decoder(&c->catalog, &all, c, has_projector ? "model.language_model." : "model.",
                           err);
    rc = rc || !has_projector ? rc : take_projector(&c->catalog, &all, err);
    catalog_release(&all);
    for (size_t i = 0; rc == 0 && i < c->catalog.n; i++) {
        struct item *it = &c->catalog.items[i];
        uint64_t dims[4];
        if (it->type >= DTYPE_COUNT_COMPUTE) {
            rc = fail(err, CARAT_E_UNSUPPORTED, "tensor '%s' has element type %s", it->name,
                      dtypes[it->type].name);
            break;
        }
        it->to = it->asked = type_for(it, c->o->type);
        for (uint32_t k = 0; k < it->n_dims; k++) {
            dims[k] = it->dims[it->n_dims - 1 - k];
        }
        rc = safetensors_writer_add(&c->writer, it->name, it->to, it->n_dims, dims, err);
    }
    return rc ? rc : safetensors_writer_plan(&c->writer, err);
}

// ------------------------------------------------------------------------------------------- files

static int write_file(const struct conversion *c, const char *name, const struct buf *text,
                      struct carat_error *err)
{
    struct buf path = {.max = 1 << 16};
    struct os_writer file = {.fd = -1};
    buf_addf(&path, "%s/%s", c->o->target, name);
    int rc = buf_status(text, err);
    rc = rc ? rc : buf_status(&path, err);
    rc = rc ? rc : os_writer_open(&file, buf_text(&path), err);
    if (rc == 0) {
        rc = os_writer_add(&file, text->data, text->size, err);
        rc = rc ? rc : os_writer_finish(&file, false, err);
        rc = rc ? rc : os_share(buf_text(&path), err);
        os_writer_close(&file);
    }
    buf_release(&path);
    return rc;
}

static const char *dtype_name(const struct conversion *c)
{
    enum dtype type = c->catalog.n > 0 ? c->catalog.items[0].to : DTYPE_BF16;
    return type == DTYPE_F32 ? "float32" : type == DTYPE_F16 ? "float16" : "bfloat16";
}

static uint32_t pooling_of(const struct conversion *c)
{
    const struct source *s = c->projector_source ? c->projector_source : c->source;
    uint64_t patch = 0;
    gguf_get_u64(source_gguf(s), "clip.vision.patch_size", &patch, NULL);
    uint32_t block = c->projector.block;
    return patch > 0 && block % patch == 0 ? block / (uint32_t)patch : 3;
}

static int write_small_files(const struct conversion *c, struct partial *model,
                             const uint8_t key[HASH_SIZE], struct carat_error *err)
{
    const struct checkpoint ck = {
        .source = c->source,
        .config = &c->config,
        .weights = &c->weights,
        .projector = &c->projector,
        .tokenizer = c->tokenizer,
        .dtype = dtype_name(c),
        .has_head = c->has_head,
        .pooling = pooling_of(c),
    };
    struct buf b = {.max = JSON_MAX};
    struct slice chat = source_chat_template(c->source);
    int rc = checkpoint_config(&b, &ck, err);
    if (rc == 0 && !os_exists(c->o->target)) {
        rc = os_make_folder(c->o->target, err);
        rc = rc ? rc : os_share(c->o->target, err);
    }
    // Its journal comes first: a configuration without one is somebody else's checkpoint.
    rc = rc ? rc : partial_open(model, c->model_path, key, c->o->overwrites, err);
    rc = rc ? rc : write_file(c, "config.json", &b, err);
    buf_clear(&b);
    rc = rc ? rc : checkpoint_tokenizer(&b, &ck, err);
    rc = rc ? rc : write_file(c, "tokenizer.json", &b, err);
    buf_clear(&b);
    checkpoint_tokenizer_config(&b, &ck);
    rc = rc ? rc : write_file(c, "tokenizer_config.json", &b, err);
    buf_clear(&b);
    checkpoint_generation(&b, &ck);
    rc = rc ? rc : write_file(c, "generation_config.json", &b, err);
    if (rc == 0 && (c->projector.has_vision || c->projector.has_audio)) {
        buf_clear(&b);
        checkpoint_processor(&b, &ck);
        rc = write_file(c, "processor_config.json", &b, err);
    }
    if (rc == 0 && chat.size > 0) {
        buf_clear(&b);
        buf_add_slice(&b, chat);
        rc = write_file(c, "chat_template.jinja", &b, err);
    }
    buf_release(&b);
    return rc;
}

static void hash_source(struct hash *h, const struct source *s)
{
    for (size_t i = 0; i < source_n_maps(s); i++) {
        const struct os_map *m = source_map_at(s, i);
        hash_add_u64(h, m->size);
        for (size_t k = 0; k < SAMPLES && m->size >= SAMPLE_SIZE; k++) {
            size_t at = (size_t)((double)(m->size - SAMPLE_SIZE) * (double)k / (SAMPLES - 1));
            hash_add(h, m->data + at, SAMPLE_SIZE);
        }
    }
}

static void report(const struct conversion *c, const struct item *it)
{
    if (c->o->on_tensor) {
        c->o->on_tensor(c->o->tensor_user,
                        &(struct carat_tensor_report){
                            .name = it->name,
                            .role = it->is_projector ? "projector" : matrix_kind_name(it->kind),
                            .layer = it->layer,
                            .from = dtypes[it->type].name,
                            .to = dtypes[it->to].name,
                            .n_values = it->columns * it->rows,
                            .from_size = it->size,
                            .to_size = it->columns * it->rows * dtypes[it->to].block_size,
                            .error = -1,
                            .is_projector = it->is_projector,
                            .is_planned = c->o->is_dry_run,
                        });
    }
}

static int write_model(struct conversion *c, struct partial *file, struct carat_error *err)
{
    const double none[3] = {0, 0, 0};
    int rc = 0;
    if (c->writer.size - file->at > os_disk_free(file->file.path)) {
        rc = fail(err, CARAT_E_FULL,
                  "%s: %llu bytes are to be written, but the disk has only %llu left",
                  c->model_path, (unsigned long long)(c->writer.size - file->at),
                  (unsigned long long)os_disk_free(file->file.path));
    }
    if (rc == 0 && file->n_steps == 0) {
        rc = partial_add(file, c->writer.header.data, c->writer.header.size, err);
        rc = rc ? rc : partial_step(file, none, err);
    }
    c->result.resumed_size = file->n_steps > 1 ? file->at : 0;
    c->result.n_resumed = file->n_steps > 1 ? file->n_steps - 1 : 0;
    for (size_t i = 0; rc == 0 && i < c->catalog.n; i++) {
        const struct item *it = &c->catalog.items[i];
        struct transcode_sum sum;
        if (i < c->result.n_resumed) {
            c->t.done += it->made ? 0 : it->size;
        } else {
            rc = transcode_item(&c->t, it, (struct column_importance){0}, false, file, &sum, err);
            rc = rc ? rc : partial_step(file, none, err);
        }
        report(c, it);
    }
    return rc ? rc : partial_finish(file, err);
}

// Nothing that is there is replaced unasked; what an earlier run of this job left may be.
static int check_target(const struct conversion *c, struct carat_error *err)
{
    struct buf config = {.max = 1 << 16};
    struct buf part = {.max = 1 << 16};
    buf_addf(&config, "%s/config.json", c->o->target);
    buf_addf(&part, "%s" PARTIAL_JOURNAL, c->model_path);
    bool is_taken =
        os_exists(c->model_path) || (os_exists(buf_text(&config)) && !os_exists(buf_text(&part)));
    int rc =
        is_taken && !c->o->overwrites
            ? fail(err, CARAT_E_ARGUMENT,
                   "%s: a checkpoint is there already; it is replaced only by force", c->o->target)
            : 0;
    buf_release(&config);
    buf_release(&part);
    return rc;
}

static int write_all(struct conversion *c, struct carat_error *err)
{
    uint8_t key[HASH_SIZE];
    struct hash h;
    c->t.what = "converting";
    c->result.n_tensors = c->catalog.n;
    c->result.file_size = c->writer.size;
    for (size_t i = 0; i < c->catalog.n; i++) {
        c->t.total += c->catalog.items[i].made ? 0 : c->catalog.items[i].size;
    }
    for (size_t i = 0; i < c->catalog.n && c->o->is_dry_run; i++) {
        report(c, &c->catalog.items[i]);
    }
    if (c->o->is_dry_run) {
        return 0;
    }
    hash_init(&h, NULL);
    hash_source(&h, c->source);
    if (c->projector_source) {
        hash_source(&h, c->projector_source);
    }
    hash_add(&h, c->writer.header.data, c->writer.header.size);
    hash_digest(&h, key);
    if (partial_was_finished(c->model_path, key)) {
        return 0;
    }
    struct partial model = {0};
    int rc = check_target(c, err);
    // The large file last: a directory that has it is whole.
    rc = rc ? rc : write_small_files(c, &model, key, err);
    rc = rc ? rc : write_model(c, &model, err);
    partial_close(&model);
    return rc;
}

int carat_convert(const struct carat_convert_options *options, carat_on_progress on_progress,
                  void *user, struct carat_error *err)
{
    struct conversion c = {.o = options};
    size_t room = options->target ? strlen(options->target) + 32 : 0;
    if (!options->source || !options->target) {
        return fail(err, CARAT_E_ARGUMENT, "converting needs a source and a target");
    }
    c.model_path = mem_new(room, err);
    int rc = c.model_path ? transcoder_init(&c.t, options->n_threads, err) : CARAT_E_MEMORY;
    c.t.on_progress = on_progress;
    c.t.user = user;
    if (rc == 0) {
        snprintf(c.model_path, room, "%s/model.safetensors", options->target);
    }
    rc = rc ? rc : open_all(&c, err);
    rc = rc ? rc : plan(&c, err);
    rc = rc ? rc : write_all(&c, err);
    if (rc == 0 && options->result) {
        *options->result = c.result;
    }
    catalog_release(&c.catalog);
    safetensors_writer_release(&c.writer);
    transcoder_release(&c.t);
    tokenizer_free(c.tokenizer);
    projector_release(&c.projector);
    weights_release(&c.weights);
    config_release(&c.config);
    source_close(c.projector_source);
    source_close(c.source);
    mem_free(c.model_path);
    return rc;
}
