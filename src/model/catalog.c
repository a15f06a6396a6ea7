// SPDX-License-Identifier: Apache-2.0
// Lists what a source holds as it will stand in a GGUF file. Names and the few changes between the
// two containers: docs/formats.md.
#include "model/catalog.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

#define ITEMS_MAX   GGUF_TENSORS_MAX
#define COMPARE_MAX ((uint64_t)64 << 20) // bytes looked at before they are given back

// ------------------------------------------------------------------------------------------ names

struct kind_part {
    const char *part;
    enum matrix_kind kind;
};
static const struct kind_part kind_parts[] = {
    {"token_embd.weight", MATRIX_EMBED}, {"attn_qkv.weight", MATRIX_QKV},
    {"attn_q.weight", MATRIX_Q},         {"attn_k.weight", MATRIX_K},
    {"attn_v.weight", MATRIX_V},         {"attn_output.weight", MATRIX_O},
    {"ffn_gate", MATRIX_GATE},           {"ffn_up", MATRIX_UP},
    {"ffn_down", MATRIX_DOWN},
};

// Matrices that stay as they are: small ones on which much depends.
static const char *const kept_parts[] = {"_norm.weight", "ffn_gate_inp.weight",
                                         "per_layer_model_proj", "position_embd", "pos_embd"};

static enum matrix_kind kind_of(const char *name)
{
    if (strcmp(name, "output.weight") == 0) {
        return MATRIX_HEAD;
    }
    if (strncmp(name, "per_layer", 9) == 0) {
        return MATRIX_OTHER;
    }
    for (size_t i = 0; i < sizeof(kind_parts) / sizeof(kind_parts[0]); i++) {
        if (strstr(name, kind_parts[i].part)) {
            return kind_parts[i].kind;
        }
    }
    return MATRIX_OTHER;
}

static int layer_of(const char *name)
{
    const char *p = name;
    int layer = 0;
    if (strncmp(p, "blk.", 4) == 0) {
        p += 4;
    } else if (strncmp(p + (*p ? 1 : 0), ".blk.", 5) == 0) {
        p += 6;
    } else {
        return -1;
    }
    for (; *p >= '0' && *p <= '9' && layer < 100000; p++) {
        layer = layer * 10 + (*p - '0');
    }
    return *p == '.' ? layer : -1;
}

static bool is_projector_name(const char *name)
{
    return strncmp(name, "v.", 2) == 0 || strncmp(name, "a.", 2) == 0 ||
           strncmp(name, "mm.", 3) == 0;
}

static bool is_recipe_matrix(const struct item *it)
{
    size_t n = strlen(it->name);
    bool is_weight = n >= 6 && strcmp(it->name + n - 6, "weight") == 0;
    if (!is_weight || it->rows < 2 || it->is_projector || it->type >= DTYPE_COUNT_COMPUTE) {
        return false;
    }
    for (size_t i = 0; i < sizeof(kept_parts) / sizeof(kept_parts[0]); i++) {
        if (strstr(it->name, kept_parts[i])) {
            return false;
        }
    }
    return true;
}

// ------------------------------------------------------------------------------------------ items

static struct item *new_item(struct catalog *c, struct carat_error *err)
{
    if (c->n >= ITEMS_MAX) {
        fail(err, CARAT_E_FULL, "more than %d tensors", ITEMS_MAX);
        return NULL;
    }
    if (c->n % 256 == 0) {
        struct item *items = mem_resize(c->items, (c->n + 256) * sizeof(*items), err);
        if (!items) {
            return NULL;
        }
        c->items = items;
    }
    c->items[c->n] = (struct item){.factor = 1, .dims = {1, 1, 1, 1}, .layer = -1};
    return &c->items[c->n++];
}

static void classify(struct item *it)
{
    it->columns = it->dims[0];
    it->rows = it->dims[1] * it->dims[2] * it->dims[3];
    it->kind = kind_of(it->name);
    it->layer = layer_of(it->name);
    it->is_projector = is_projector_name(it->name);
    it->is_matrix = is_recipe_matrix(it);
    it->to = it->type;
    it->asked = it->type;
}

static struct item *add_tensor(struct catalog *c, const struct source *source,
                               const struct source_tensor *t, const char *name,
                               struct carat_error *err)
{
    struct item *it = t->size > 0 ? new_item(c, err) : NULL;
    if (!it) {
        if (t->size == 0) {
            fail(err, CARAT_E_FORMAT, "%s: tensor '%s' is empty", source_path(source), name);
        }
        return NULL;
    }
    snprintf(it->name, sizeof(it->name), "%s", name);
    it->source = source;
    it->data = t->data;
    it->type = t->type;
    it->size = t->size;
    it->n_dims = t->n_dims;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        it->dims[i] = t->dims[t->n_dims - 1 - i];
    }
    classify(it);
    return it;
}

// ------------------------------------------------------------------------------------------- GGUF

// An NVFP4 matrix may have a factor beside it (bind.c). It goes into the values when these get
// another type, and is then left out; what becomes of the values is not known yet, so it is looked
// up here and dropped by whoever chooses the type.
static void find_factor(struct item *it)
{
    char name[TENSOR_NAME_SIZE + 8];
    size_t n = strlen(it->name);
    if (it->type != DTYPE_NVFP4 || n < 7) {
        return;
    }
    snprintf(name, sizeof(name), "%s.scale", it->name);
    const struct source_tensor *t = source_find(it->source, name);
    if (!t) {
        snprintf(name, sizeof(name), "%.*s.scale", (int)(n - 7), it->name);
        t = source_find(it->source, name);
    }
    if (t && t->type == DTYPE_F32 && t->size == sizeof(float)) {
        memcpy(&it->factor, t->data, sizeof(it->factor));
    } else if (t) {
        it->is_matrix = false; // factors for parts of it: it stays as it is
    }
}

static int add_gguf(struct catalog *c, const struct source *source, unsigned parts,
                    struct carat_error *err)
{
    struct slice arch = {0};
    gguf_get_string(source_gguf(source), "general.architecture", &arch, NULL);
    bool is_clip = slice_is(arch, "clip");
    for (size_t i = 0; i < source_n_tensors(source); i++) {
        const struct source_tensor *t = source_tensor_at(source, i);
        char name[TENSOR_NAME_SIZE];
        if (t->name.size >= sizeof(name)) {
            return fail(err, CARAT_E_UNSUPPORTED,
                        "%s: tensor '%.*s...': expected a name of at most %zu bytes",
                        source_path(source), 64, t->name.data, sizeof(name) - 1);
        }
        snprintf(name, sizeof(name), "%.*s", (int)t->name.size, t->name.data);
        bool is_projector = is_clip || is_projector_name(name);
        if (!(parts & (is_projector ? CATALOG_PROJECTOR : CATALOG_MODEL))) {
            continue;
        }
        struct item *it = add_tensor(c, source, t, name, err);
        if (!it) {
            return t->size == 0 ? CARAT_E_FORMAT : CARAT_E_MEMORY;
        }
        it->is_projector = is_projector;
        it->is_matrix = it->is_matrix && !is_projector;
        find_factor(it);
    }
    return 0;
}

// ------------------------------------------------------------------------------------- checkpoints

static int add_role(struct catalog *c, const struct source *source, enum tensor_role role,
                    size_t layer, const char *prefix, bool is_needed, struct carat_error *err)
{
    char there[TENSOR_NAME_SIZE];
    char name[TENSOR_NAME_SIZE];
    weights_name(there, role, layer, prefix);
    weights_name(name, role, layer, NULL);
    const struct source_tensor *t = source_find(source, there);
    if (!t && !is_needed) {
        return 0;
    }
    if (!t) {
        return fail(err, CARAT_E_FORMAT, "%s: tensor '%s' is missing", source_path(source), there);
    }
    if (t->type >= DTYPE_COUNT_COMPUTE) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: tensor '%s' has element type %s: expected BF16, F16 or F32",
                    source_path(source), there, dtypes[t->type].name);
    }
    struct item *it = add_tensor(c, source, t, name, err);
    if (!it) {
        return t->size == 0 ? CARAT_E_FORMAT : CARAT_E_MEMORY;
    }
    // The layer's scale may be a scalar there, and is one value here.
    it->n_dims = it->n_dims == 0 ? 1 : it->n_dims;
    if (tensor_table[role].is_vector) {
        it->to = it->asked = DTYPE_F32;
    }
    return 0;
}

// Checkpoints may carry the head although it is the embedding.
static bool is_same(const struct source *s, const struct source_tensor *a,
                    const struct source_tensor *b)
{
    bool is_equal = a->type == b->type && a->size == b->size;
    for (uint64_t at = 0; is_equal && at < a->size; at += COMPARE_MAX) {
        size_t n = (size_t)(a->size - at < COMPARE_MAX ? a->size - at : COMPARE_MAX);
        is_equal = memcmp(a->data + at, b->data + at, n) == 0;
        source_drop(s, a->data + at, n);
        source_drop(s, b->data + at, n);
    }
    return is_equal;
}

static bool has_own_head(const struct source *source, const char *prefix)
{
    char name[TENSOR_NAME_SIZE];
    weights_name(name, ROLE_HEAD, 0, prefix);
    const struct source_tensor *head = source_find(source, name);
    weights_name(name, ROLE_EMBED, 0, prefix);
    const struct source_tensor *embed = source_find(source, name);
    return head && embed && !is_same(source, head, embed);
}

// Which pairs of a full layer's head rotate, as divisors of their frequencies.
static int add_rope(struct catalog *c, const struct model_config *config, struct carat_error *err)
{
    uint32_t dim = 0;
    for (uint32_t i = 0; i < config->n_layers; i++) {
        dim = config->layers[i].is_sliding ? dim : config->layers[i].head_dim;
    }
    if (dim == 0) {
        return 0;
    }
    struct item *it = new_item(c, err);
    size_t n = dim / 2;
    size_t n_rotated = (size_t)(config->rope_rotated * dim / 2);
    if (!it) {
        return CARAT_E_MEMORY;
    }
    it->made = mem_new_array(n, sizeof(float), err);
    if (!it->made) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        it->made[i] = i < n_rotated ? 1.0f : 1e30f;
    }
    snprintf(it->name, sizeof(it->name), "rope_freqs.weight");
    it->type = DTYPE_F32;
    it->size = n * sizeof(float);
    it->n_dims = 1;
    it->dims[0] = n;
    classify(it);
    return 0;
}

static int add_decoder(struct catalog *c, const struct source *source,
                       const struct model_config *config, struct carat_error *err)
{
    const char *prefix = weights_prefix(source);
    int rc = add_role(c, source, ROLE_EMBED, 0, prefix, true, err);
    for (size_t layer = 0; rc == 0 && layer < config->n_layers; layer++) {
        for (int role = 0; rc == 0 && role < ROLE_COUNT; role++) {
            if (tensor_table[role].is_layer &&
                !(role == ROLE_V && config->layers[layer].has_shared_kv_vector)) {
                rc = add_role(c, source, (enum tensor_role)role, layer, prefix, true, err);
            }
        }
    }
    rc = rc ? rc : add_role(c, source, ROLE_NORM, 0, prefix, true, err);
    if (rc == 0 && has_own_head(source, prefix)) {
        rc = add_role(c, source, ROLE_HEAD, 0, prefix, true, err);
    }
    return rc ? rc : add_rope(c, config, err);
}

static uint32_t side_of(uint64_t columns)
{
    uint32_t side = 1;
    while (side <= PROJECTOR_BLOCK_MAX && (uint64_t)side * side * 3 < columns) {
        side++;
    }
    return (uint64_t)side * side * 3 == columns ? side : 0;
}

// Values as f32 in the order of a GGUF file: blocks of pixels by colour instead of colours by
// pixel, rows of positions by axis instead of axes by row (gguf.md section 5.2).
static int reorder(struct item *it, enum projector_role role, struct carat_error *err)
{
    uint64_t n = it->columns * it->rows;
    uint32_t side = side_of(it->columns);
    size_t row_size = 0;
    bool is_positions = role == ROLE_POSITIONS;
    if (it->type >= DTYPE_COUNT_COMPUTE || dtypes[it->type].block_values != 1 ||
        (!is_positions && side == 0) || (is_positions && (it->n_dims != 3 || it->dims[1] != 2))) {
        return fail(err, CARAT_E_FORMAT, "%s: tensor for '%s': not of the expected shape or type",
                    source_path(it->source), it->name);
    }
    it->made = n <= SIZE_MAX ? mem_new_array((size_t)n, sizeof(float), err) : NULL;
    float *row = mem_new_array((size_t)it->columns, sizeof(float), err);
    if (!it->made || !row || !dtype_row_size(&row_size, it->type, it->columns)) {
        mem_free(row);
        return fail(err, CARAT_E_MEMORY, "no memory for '%s'", it->name);
    }
    for (uint64_t r = 0; r < it->rows; r++) {
        dtypes[it->type].unpack(row, it->data + r * row_size, (size_t)it->columns);
        uint64_t to = is_positions ? r % 2 * (it->rows / 2) + r / 2 : r;
        float *out = it->made + to * it->columns;
        for (uint64_t i = 0; is_positions && i < it->columns; i++) {
            out[i] = row[i];
        }
        for (size_t p = 0; !is_positions && p < (size_t)side * side; p++) {
            for (size_t k = 0; k < 3; k++) {
                out[k * side * side + p] = row[p * 3 + k];
            }
        }
    }
    mem_free(row);
    if (is_positions) {
        it->dims[1] = it->dims[2];
        it->dims[2] = 2;
    }
    return 0;
}

static int add_projector(struct catalog *c, const struct source *source, bool is_exact,
                         struct carat_error *err)
{
    for (int role = 0; role < ROLE_PROJECTOR_COUNT; role++) {
        char there[PROJECTOR_NAME_SIZE];
        const struct source_tensor *t = projector_find(there, source, &projector_table[role]);
        if (!t) {
            continue;
        }
        struct item *it = add_tensor(c, source, t, projector_table[role].gguf, err);
        if (!it) {
            return t->size == 0 ? CARAT_E_FORMAT : CARAT_E_MEMORY;
        }
        it->is_projector = true;
        it->is_matrix = false;
        bool is_small = it->rows == 1 || role == ROLE_POSITIONS;
        it->to = it->asked = is_small ? DTYPE_F32 : is_exact ? it->type : DTYPE_BF16;
        if (role <= ROLE_PATCH_DENSE || role == ROLE_POSITIONS) {
            int rc = reorder(it, (enum projector_role)role, err);
            if (rc) {
                return rc;
            }
            it->type = DTYPE_F32;
        }
    }
    return 0;
}

// ---------------------------------------------------------------------------------------- catalog

// Those of a checkpoint that have no place in the new file: towers of other members, say. The copy
// of the embedding as a head has one.
size_t catalog_left_out(const struct source *source, const struct catalog *const *catalogs,
                        size_t n_catalogs)
{
    const char *prefix = weights_prefix(source);
    size_t n_taken = source_find(source, "lm_head.weight") && !has_own_head(source, prefix);
    for (size_t k = 0; k < n_catalogs; k++) {
        for (size_t i = 0; i < catalogs[k]->n; i++) {
            n_taken += catalogs[k]->items[i].data && catalogs[k]->items[i].source == source;
        }
    }
    size_t n = source_n_tensors(source);
    return n > n_taken ? n - n_taken : 0;
}

int catalog_add(struct catalog *c, const struct source *source, const struct model_config *config,
                unsigned parts, struct carat_error *err)
{
    if (source_gguf(source)) {
        return add_gguf(c, source, parts, err);
    }
    int rc = parts & CATALOG_MODEL ? add_decoder(c, source, config, err) : 0;
    return rc == 0 && (parts & CATALOG_PROJECTOR)
               ? add_projector(c, source, (parts & CATALOG_EXACT) != 0, err)
               : rc;
}

void catalog_release(struct catalog *c)
{
    for (size_t i = 0; i < c->n; i++) {
        mem_free(c->items[i].made);
    }
    mem_free(c->items);
    *c = (struct catalog){0};
}

void item_read(const struct item *item, float *out, uint64_t row, uint64_t first, size_t n)
{
    if (item->made) {
        memcpy(out, item->made + row * item->columns + first, n * sizeof(float));
    } else {
        const struct dtype_info *t = &dtypes[item->type];
        uint64_t block = (row * item->columns + first) / t->block_values;
        t->unpack(out, item->data + block * t->block_size, n);
    }
    if (item->factor != 1) {
        for (size_t i = 0; i < n; i++) {
            out[i] *= item->factor;
        }
    }
}

size_t catalog_i_value(const struct catalog *c, size_t layer)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct item *it = &c->items[i];
        n += (it->kind == MATRIX_V || it->kind == MATRIX_QKV) && it->layer >= 0 &&
             (size_t)it->layer < layer;
    }
    return n;
}

struct recipe_model catalog_model(const struct catalog *c, size_t n_grouped)
{
    struct recipe_model m = {.n_grouped = n_grouped};
    for (size_t i = 0; i < c->n; i++) {
        const struct item *it = &c->items[i];
        m.has_head = m.has_head || it->kind == MATRIX_HEAD;
        if (it->layer >= 0 && !it->is_projector && (size_t)it->layer >= m.n_layers) {
            m.n_layers = (size_t)it->layer + 1;
        }
    }
    m.n_values = catalog_i_value(c, SIZE_MAX);
    return m;
}
