// SPDX-License-Identifier: Apache-2.0
// Binds the tensors of pictures and sound: one table of names in either container. All sizes follow
// from the tensors' shapes; where the file states them as well, both must agree. docs/model.md,
// "Pictures and sound".
#include "model/projector.h"

#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "model/bind.h"

#define DEFAULT_POOLING    3
#define DEFAULT_RMS_EPS    1e-6
#define LAYER_NORM_EPSILON 1e-5f // no key says it

// clang-format off
const struct projector_tensor projector_table[ROLE_PROJECTOR_COUNT] = {
    [ROLE_PATCH_NORM1]       = {"v.patch_norm.1.weight",        {"vision_embedder.patch_ln1.weight",   "embed_vision.patch_ln1.weight"}},
    [ROLE_PATCH_NORM1_BIAS]  = {"v.patch_norm.1.bias",          {"vision_embedder.patch_ln1.bias",     "embed_vision.patch_ln1.bias"}},
    [ROLE_PATCH_DENSE]       = {"v.patch_embd.weight",          {"vision_embedder.patch_dense.weight", "embed_vision.patch_dense.weight"}},
    [ROLE_PATCH_BIAS]        = {"v.patch_embd.bias",            {"vision_embedder.patch_dense.bias",   "embed_vision.patch_dense.bias"}},
    [ROLE_PATCH_NORM2]       = {"v.patch_norm.2.weight",        {"vision_embedder.patch_ln2.weight",   "embed_vision.patch_ln2.weight"}},
    [ROLE_PATCH_NORM2_BIAS]  = {"v.patch_norm.2.bias",          {"vision_embedder.patch_ln2.bias",     "embed_vision.patch_ln2.bias"}},
    [ROLE_POSITIONS]         = {"v.position_embd.weight",       {"vision_embedder.pos_embedding",      "embed_vision.pos_embedding"}},
    [ROLE_POS_NORM]          = {"v.patch_norm.3.weight",        {"vision_embedder.pos_norm.weight",    "embed_vision.pos_norm.weight"}},
    [ROLE_POS_NORM_BIAS]     = {"v.patch_norm.3.bias",          {"vision_embedder.pos_norm.bias",      "embed_vision.pos_norm.bias"}},
    [ROLE_VISION_PROJECTION] = {"mm.input_projection.weight",   {"embed_vision.embedding_projection.weight",
                                                                 "embed_vision.multimodal_embedder.embedding_projection.weight"}},
    [ROLE_AUDIO_PROJECTION]  = {"mm.a.input_projection.weight", {"embed_audio.embedding_projection.weight",
                                                                 "embed_audio.multimodal_embedder.embedding_projection.weight"}},
};

// What tells the two ways in apart. The other members of the family have towers in front of a
// projection of the same name.
struct path_info {
    const char *kind;
    const char *gguf_type_key;
    const char *gguf_type;
    struct projector_tensor of_tower;
};
static const struct path_info vision_path = {
    "vision", "clip.vision.projector_type", "gemma4uv",
    {"v.blk.0.ln1.weight", {"vision_tower.patch_embedder.input_proj.weight", "vision_tower.encoder.layers.0.input_layernorm.weight"}}};
static const struct path_info audio_path = {
    "audio", "clip.audio.projector_type", "gemma4ua",
    {"a.conv1d.0.weight", {"audio_tower.subsample_conv_projection.layer0.conv.weight", "audio_tower.output_proj.weight"}}};
// clang-format on

struct projector_binder {
    struct projector *p;
    const struct model_config *config;
    struct tensor_binder tensors;
    bool is_gguf;
    bool is_clip; // a file of projections alone
    char name[PROJECTOR_NAME_SIZE];
};

const struct source_tensor *projector_find(char name[PROJECTOR_NAME_SIZE],
                                           const struct source *source,
                                           const struct projector_tensor *t)
{
    static const char *const prefixes[] = {"model.", ""};
    if (source_gguf(source)) {
        snprintf(name, PROJECTOR_NAME_SIZE, "%s", t->gguf);
        return source_find(source, name);
    }
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, PROJECTOR_NAME_SIZE, "%s%s", prefixes[i % 2], t->safetensors[i / 2]);
        const struct source_tensor *found = source_find(source, name);
        if (found) {
            return found;
        }
    }
    snprintf(name, PROJECTOR_NAME_SIZE, "%s%s", prefixes[0], t->safetensors[0]);
    return NULL;
}

static const struct source_tensor *find(struct projector_binder *b,
                                        const struct projector_tensor *t)
{
    return projector_find(b->name, b->tensors.source, t);
}

// Files of several models lie about, and their shapes alone would not say it.
static int check_hidden_size(struct projector_binder *b, enum projector_role role,
                             struct carat_error *err)
{
    const struct source_tensor *t = find(b, &projector_table[role]);
    if (t && t->n_dims == 2 && t->dims[0] != b->config->hidden_size) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: tensor '%s' leads to %llu values, but the model's hidden size is %u: the "
                    "file belongs to another model",
                    source_path(b->tensors.source), b->name, (unsigned long long)t->dims[0],
                    b->config->hidden_size);
    }
    return 0;
}

static int bind_one_matrix(struct projector_binder *b, struct weight *out, float *factor,
                           enum projector_role role, struct tensor_shape want,
                           struct carat_error *err)
{
    find(b, &projector_table[role]);
    return bind_matrix(&b->tensors, out, factor, b->name, want, err);
}

// A weight and the bias that follows it in the table.
static int bind_norm(struct projector_binder *b, const float *out[2], enum projector_role role,
                     uint64_t n, struct carat_error *err)
{
    for (int i = 0; i < 2; i++) {
        find(b, &projector_table[role + i]);
        int rc = bind_vector(&b->tensors, &out[i], b->name, n, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

// ---------------------------------------------------------------------------------- configuration

// A number that the file may state; 0 where it does not.
static int stated_number(const struct projector_binder *b, const char *gguf_key,
                         const char *json_key, uint64_t *out, struct carat_error *err)
{
    const struct source *s = b->tensors.source;
    *out = 0;
    const char *key = b->is_gguf ? gguf_key : json_key;
    if (!key) {
        return 0;
    }
    int rc = b->is_gguf ? gguf_get_u64(source_gguf(s), key, out, err)
                        : json_get_u64(source_config(s), key, out, err);
    return rc < 0 ? rc : 0;
}

static int check_stated(const struct projector_binder *b, const char *gguf_key,
                        const char *json_key, uint64_t want, struct carat_error *err)
{
    uint64_t value = 0;
    int rc = stated_number(b, gguf_key, json_key, &value, err);
    if (rc == 0 && value != 0 && value != want) {
        rc = fail(err, CARAT_E_FORMAT, "%s: %s: expected %llu as the tensors have, found %llu",
                  source_path(b->tensors.source), b->is_gguf ? gguf_key : json_key,
                  (unsigned long long)want, (unsigned long long)value);
    }
    return rc;
}

// GGUF calls the epsilon of the norm before the projection that of the layer norms.
static int read_eps(const struct projector_binder *b, const char *gguf_key, const char *json_key,
                    float *out, struct carat_error *err)
{
    const struct source *s = b->tensors.source;
    double eps = DEFAULT_RMS_EPS;
    int rc = b->is_gguf ? gguf_get_f64(source_gguf(s), gguf_key, &eps, err)
                        : json_get_f64(source_config(s), json_key, &eps, err);
    if (rc < 0) {
        return rc;
    }
    if (!isfinite(eps) || eps < 0 || eps > 1) {
        return fail(err, CARAT_E_FORMAT, "%s: %s: expected a number from 0 to 1, found %g",
                    source_path(s), b->is_gguf ? gguf_key : json_key, eps);
    }
    *out = (float)eps;
    return 0;
}

static int check_range(const struct projector_binder *b, const char *what, uint64_t value,
                       uint64_t max, struct carat_error *err)
{
    if (value < 1 || value > max) {
        return fail(err, CARAT_E_FORMAT, "%s: tensor '%s': %s: expected 1 to %llu, found %llu",
                    source_path(b->tensors.source), b->name, what, (unsigned long long)max,
                    (unsigned long long)value);
    }
    return 0;
}

// The side of the square that has this many values in three channels; 0: there is none.
static uint32_t block_side(uint64_t n_values)
{
    for (uint32_t side = 1; side <= PROJECTOR_BLOCK_MAX; side++) {
        if ((uint64_t)side * side * 3 == n_values) {
            return side;
        }
    }
    return 0;
}

// Pictures are cut into patches, and squares of patches are one block.
static int check_block(const struct projector_binder *b, struct carat_error *err)
{
    uint64_t patch = 0;
    uint64_t pooling = 0;
    int rc = stated_number(b, "clip.vision.patch_size", "vision_config.patch_size", &patch, err);
    if (rc == 0) {
        rc = stated_number(b, "clip.vision.projector.scale_factor",
                           "vision_config.pooling_kernel_size", &pooling, err);
    }
    if (rc || patch == 0) {
        return rc;
    }
    pooling = pooling == 0 ? DEFAULT_POOLING : pooling;
    if (patch > PROJECTOR_BLOCK_MAX || pooling > PROJECTOR_BLOCK_MAX ||
        patch * pooling != b->p->block) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: patches of %llu pixels, %llu on a side: expected blocks of %u pixels as "
                    "the tensors have",
                    source_path(b->tensors.source), (unsigned long long)patch,
                    (unsigned long long)pooling, b->p->block);
    }
    return check_stated(b, NULL, "vision_config.model_patch_size", b->p->block, err);
}

// ---------------------------------------------------------------------------------- the two paths

static int read_vision_sizes(struct projector_binder *b, struct carat_error *err)
{
    struct projector *p = b->p;
    const struct source_tensor *dense = find(b, &projector_table[ROLE_PATCH_DENSE]);
    if (!dense || dense->n_dims != 2 || block_side(dense->dims[1]) == 0) {
        return fail(err, CARAT_E_FORMAT, "%s: tensor '%s': %s", source_path(b->tensors.source),
                    b->name,
                    !dense ? "is missing"
                           : "expected two dimensions, the second of square blocks in 3 channels");
    }
    p->block = block_side(dense->dims[1]);
    int rc = check_range(b, "rows", dense->dims[0], CONFIG_WIDTH_MAX, err);
    if (rc) {
        return rc;
    }
    p->width = (uint32_t)dense->dims[0];
    const struct source_tensor *positions = find(b, &projector_table[ROLE_POSITIONS]);
    if (!positions || positions->n_dims != 3) {
        return fail(err, CARAT_E_FORMAT, "%s: tensor '%s' %s", source_path(b->tensors.source),
                    b->name, positions ? "does not have three dimensions" : "is missing");
    }
    uint64_t n = positions->dims[p->is_axis_major ? 1 : 0];
    rc = check_range(b, "positions", n, PROJECTOR_POSITIONS_MAX, err);
    p->n_positions = (uint32_t)n;
    return rc;
}

static int read_vision_config(struct projector_binder *b, struct carat_error *err)
{
    struct projector *p = b->p;
    int rc = check_block(b, err);
    if (rc == 0) {
        rc = check_stated(b, "clip.vision.embedding_length", "vision_config.mm_embed_dim", p->width,
                          err);
    }
    if (rc == 0) {
        rc = check_stated(b, NULL, "vision_config.mm_posemb_size", p->n_positions, err);
    }
    return rc ? rc
              : read_eps(b, "clip.vision.attention.layer_norm_epsilon",
                         "vision_config.rms_norm_eps", &p->vision_rms_eps, err);
}

static int bind_vision(struct projector_binder *b, struct carat_error *err)
{
    struct projector *p = b->p;
    int rc = read_vision_sizes(b, err);
    if (rc == 0) {
        rc = read_vision_config(b, err);
    }
    if (rc) {
        return rc;
    }
    const uint64_t n_values = (uint64_t)p->block * p->block * 3;
    const struct tensor_shape dense = {0, p->width, n_values};
    const struct tensor_shape projection = {0, b->config->hidden_size, p->width};
    const struct tensor_shape positions = {p->is_axis_major ? 2 : p->n_positions,
                                           p->is_axis_major ? p->n_positions : 2, p->width};
    rc = check_hidden_size(b, ROLE_VISION_PROJECTION, err);
    if (rc == 0) {
        rc = bind_norm(b, p->patch_norm1, ROLE_PATCH_NORM1, n_values, err);
    }
    if (rc == 0) {
        rc = bind_one_matrix(b, &p->patch_dense, &p->patch_dense_factor, ROLE_PATCH_DENSE, dense,
                             err);
    }
    if (rc == 0) {
        find(b, &projector_table[ROLE_PATCH_BIAS]);
        rc = bind_vector(&b->tensors, &p->patch_bias, b->name, p->width, err);
    }
    if (rc == 0) {
        rc = bind_norm(b, p->patch_norm2, ROLE_PATCH_NORM2, p->width, err);
    }
    if (rc == 0) {
        rc =
            bind_one_matrix(b, &p->positions, &p->positions_factor, ROLE_POSITIONS, positions, err);
    }
    if (rc == 0) {
        rc = bind_norm(b, p->pos_norm, ROLE_POS_NORM, p->width, err);
    }
    if (rc == 0) {
        rc = bind_one_matrix(b, &p->vision_projection, &p->vision_projection_factor,
                             ROLE_VISION_PROJECTION, projection, err);
    }
    p->norm_eps = LAYER_NORM_EPSILON;
    p->has_vision = true;
    return rc;
}

static int bind_audio(struct projector_binder *b, struct carat_error *err)
{
    struct projector *p = b->p;
    const struct source_tensor *t = find(b, &projector_table[ROLE_AUDIO_PROJECTION]);
    int rc = check_range(b, "columns", t->n_dims > 0 ? t->dims[t->n_dims - 1] : 0,
                         PROJECTOR_FRAME_MAX, err);
    if (rc) {
        return rc;
    }
    p->frame_samples = (uint32_t)t->dims[t->n_dims - 1];
    rc = check_stated(b, "clip.audio.embedding_length", "audio_config.audio_embed_dim",
                      p->frame_samples, err);
    if (rc == 0) {
        rc = check_hidden_size(b, ROLE_AUDIO_PROJECTION, err);
    }
    if (rc == 0) {
        rc = read_eps(b, "clip.audio.attention.layer_norm_epsilon", "audio_config.rms_norm_eps",
                      &p->audio_rms_eps, err);
    }
    if (rc == 0) {
        const struct tensor_shape want = {0, b->config->hidden_size, p->frame_samples};
        rc = bind_one_matrix(b, &p->audio_projection, &p->audio_projection_factor,
                             ROLE_AUDIO_PROJECTION, want, err);
    }
    p->has_audio = true;
    return rc;
}

// ---------------------------------------------------------------------------------- what is there

static int refuse_tower(const struct projector_binder *b, const struct path_info *path,
                        struct slice type, struct carat_error *err)
{
    return fail(err, CARAT_E_UNSUPPORTED,
                "%s: this file holds the %s tower of another model (%.*s); carat runs the "
                "projections of Gemma 4 12B (gemma4uv, gemma4ua), which has no towers",
                source_path(b->tensors.source), path->kind, (int)(type.size > 64 ? 64 : type.size),
                type.size > 0 ? type.data : "unnamed");
}

// A tower in front of a projection: a model that has it is still a decoder of text, but a file of
// projections alone is of no use.
static int has_tower(struct projector_binder *b, const struct path_info *path, bool *out,
                     struct carat_error *err)
{
    struct slice type = {0};
    int rc = b->is_gguf
                 ? gguf_get_string(source_gguf(b->tensors.source), path->gguf_type_key, &type, err)
                 : 0;
    if (rc < 0) {
        return rc;
    }
    *out = (type.size > 0 && !slice_is(type, path->gguf_type)) || find(b, &path->of_tower);
    return *out && b->is_clip ? refuse_tower(b, path, type, err) : 0;
}

static bool has_any(struct projector_binder *b, int first, int last)
{
    for (int role = first; role <= last; role++) {
        if (find(b, &projector_table[role])) {
            return true;
        }
    }
    return false;
}

static int bind_all(struct projector_binder *b, struct carat_error *err)
{
    bool has_vision_tower = false;
    bool has_audio_tower = false;
    int rc = has_tower(b, &vision_path, &has_vision_tower, err);
    if (rc == 0) {
        rc = has_tower(b, &audio_path, &has_audio_tower, err);
    }
    if (rc == 0 && !has_vision_tower && has_any(b, ROLE_PATCH_NORM1, ROLE_VISION_PROJECTION)) {
        rc = bind_vision(b, err);
    }
    if (rc == 0 && !has_audio_tower && has_any(b, ROLE_AUDIO_PROJECTION, ROLE_AUDIO_PROJECTION)) {
        rc = bind_audio(b, err);
    }
    return rc;
}

int projector_bind(struct projector *out, const struct model_config *config,
                   const struct source *source, struct carat_error *err)
{
    struct projector p = {0};
    const struct gguf *g = source_gguf(source);
    struct slice arch = {0};
    struct projector_binder b = {.p = &p,
                                 .config = config,
                                 .tensors = {.source = source, .arena = &p.arena},
                                 .is_gguf = g != NULL};
    if (g && gguf_get_string(g, "general.architecture", &arch, NULL) == 0) {
        b.is_clip = slice_is(arch, "clip");
    }
    // A converter to GGUF reorders columns and positions on its way (gguf.md section 5.2).
    p.is_channel_major = b.is_gguf;
    p.is_axis_major = b.is_gguf;
    int rc = bind_all(&b, err);
    if (rc) {
        projector_release(&p);
        return rc;
    }
    p.hidden_size = config->hidden_size;
    p.file_size = b.tensors.file_size;
    p.packed_size = b.tensors.packed_size;
    p.n_parameters = b.tensors.n_parameters;
    p.copied_size = p.arena.taken;
    *out = p;
    return 0;
}

void projector_release(struct projector *p)
{
    arena_release(&p->arena);
    *p = (struct projector){0};
}
