// SPDX-License-Identifier: Apache-2.0
// The media of a golden of kind "lm": pictures, frames and waves as tensors, and what the
// projections must make of them. And goldens of kind "preprocess": pictures brought to size.
#include "cli/verify.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define EMBED_TOLERANCE 1e-3 // times the tensor's rms, where that is above 1

// ----------------------------------------------------------------------------------- the inputs

bool golden_has_media(const struct golden *g, enum carat_media_type *type)
{
    static const struct {
        const char *prefix;
        enum carat_media_type type;
    } inputs[] = {
        {"in.pixel_values_videos", CARAT_MEDIA_VIDEO}, {"in.frame_", CARAT_MEDIA_VIDEO},
        {"in.pixel_values", CARAT_MEDIA_IMAGE},        {"in.image_", CARAT_MEDIA_IMAGE},
        {"in.input_features", CARAT_MEDIA_AUDIO},      {"in.wave", CARAT_MEDIA_AUDIO},
    };
    for (size_t i = 0; g->tensors && i < safetensors_n_tensors(g->tensors); i++) {
        struct slice name = slice_of(safetensors_tensor_at(g->tensors, i)->name);
        for (size_t j = 0; j < sizeof(inputs) / sizeof(inputs[0]); j++) {
            if (slice_starts(name, inputs[j].prefix)) {
                *type = inputs[j].type;
                return true;
            }
        }
    }
    return false;
}

static const struct safetensors_tensor *find_picture(const struct golden *g, const char *what,
                                                     size_t i, struct carat_error *err)
{
    char name[48];
    snprintf(name, sizeof(name), "in.%s.%zu", what, i);
    const struct safetensors_tensor *t = golden_find(g, name);
    if (!t || t->type != DTYPE_U8 || t->n_dims != 3 || t->dims[2] != 3 || t->values == 0 ||
        t->dims[0] > UINT32_MAX || t->dims[1] > UINT32_MAX) {
        fail(err, CARAT_E_FORMAT, "%s: expected a tensor U8 [height, width, 3]", name);
        return NULL;
    }
    return t;
}

// What has been taken of each kind of input.
struct taking {
    const struct golden *golden;
    const struct carat_engine *engine;
    bool is_other; // the opposite of what was recorded
    size_t n_images, n_frames, n_videos, n_waves;
};

// n pictures of one size as one piece of memory.
static int take_pictures(struct taking *t, struct carat_media **out, const char *what, size_t first,
                         size_t n, struct carat_error *err)
{
    uint8_t *pixels = NULL;
    double seconds[VERIFY_FRAMES_MAX];
    const struct safetensors_tensor *one = find_picture(t->golden, what, first, err);
    size_t size = 0;
    if (!one || !size_mul(&size, (size_t)one->size, n)) {
        return CARAT_E_FORMAT;
    }
    pixels = mem_new(size, err);
    if (!pixels) {
        return CARAT_E_MEMORY;
    }
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct safetensors_tensor *frame = find_picture(t->golden, what, first + i, err);
        seconds[i] = (double)i;
        if (!frame) {
            rc = CARAT_E_FORMAT;
        } else if (frame->dims[0] != one->dims[0] || frame->dims[1] != one->dims[1]) {
            rc = fail(err, CARAT_E_FORMAT, "in.%s.%zu: not of the first frame's size", what,
                      first + i);
        } else {
            memcpy(pixels + i * (size_t)one->size, frame->data, (size_t)one->size);
        }
    }
    for (size_t i = 0; t->is_other && i < size; i++) {
        pixels[i] = (uint8_t)(255 - pixels[i]);
    }
    bool is_film = strcmp(what, "frame_u8") == 0;
    struct carat_media_source source = {
        .type = is_film ? CARAT_MEDIA_VIDEO : CARAT_MEDIA_IMAGE,
        .pixels = pixels,
        .height = (uint32_t)one->dims[0],
        .width = (uint32_t)one->dims[1],
        .n_pixel_frames = is_film ? n : 0,
        .n_frames = is_film ? n : 0,
        .pixel_seconds = is_film ? seconds : NULL,
        .keeps_size = true,
        .block = (uint32_t)carat_engine_info(t->engine)->image_block,
    };
    rc = rc ? rc : carat_media_new(out, &source, err);
    mem_free(pixels);
    return rc;
}

static int take_film(struct taking *t, struct carat_media **out, struct carat_error *err)
{
    int32_t *counts = NULL;
    size_t n = 0;
    int rc = golden_ints(t->golden, "in.num_frames_per_video", &counts, &n, err);
    if (rc == 0 &&
        (t->n_videos >= n || counts[t->n_videos] <= 0 || counts[t->n_videos] > VERIFY_FRAMES_MAX)) {
        rc = fail(err, CARAT_E_FORMAT, "in.num_frames_per_video: no film of 1 to %d frames left",
                  VERIFY_FRAMES_MAX);
    }
    if (rc == 0) {
        size_t n_frames = (size_t)counts[t->n_videos];
        rc = take_pictures(t, out, "frame_u8", t->n_frames, n_frames, err);
        t->n_frames += n_frames;
        t->n_videos++;
    }
    mem_free(counts);
    return rc;
}

static int take_wave(struct taking *t, struct carat_media **out, struct carat_error *err)
{
    char name[48];
    float *samples = NULL;
    size_t n = 0;
    snprintf(name, sizeof(name), "in.wave.%zu", t->n_waves++);
    int rc = golden_floats(t->golden, name, &samples, &n, err);
    for (size_t i = 0; rc == 0 && t->is_other && i < n; i++) {
        samples[i] = -samples[i];
    }
    struct carat_media_source source = {
        .type = CARAT_MEDIA_AUDIO,
        .samples = samples,
        .n_samples = n,
        .sample_rate = 16000,
        .n_channels = 1,
        .segment_seconds = -1,
    };
    rc = rc ? rc : carat_media_new(out, &source, err);
    mem_free(samples);
    return rc;
}

// Medium after medium in the order of the prompt's placeholders. Frames of a film are runs of
// their own: as many as it has are passed over.
static int take_run(struct taking *t, int32_t type, struct media_set *set, struct carat_error *err)
{
    struct carat_media **out = &set->items[set->n];
    int rc = 0;
    if (set->n == VERIFY_MEDIA_MAX) {
        return fail(err, CARAT_E_FULL, "more than %d media", VERIFY_MEDIA_MAX);
    }
    if (type == 1) {
        rc = take_pictures(t, out, "image_u8", t->n_images, 1, err);
        t->n_images++;
    } else if (type == 2 && set->n_frames_left == 0) {
        rc = take_film(t, out, err);
        set->n_frames_left = rc ? 1 : carat_media_info(*out)->n_frames;
    } else if (type == 3) {
        rc = take_wave(t, out, err);
    }
    set->n_frames_left -= type == 2;
    set->n += *out != NULL;
    return rc;
}

int media_set_read(struct media_set *out, const struct golden *g, const struct carat_engine *engine,
                   bool is_other, struct carat_error *err)
{
    struct taking t = {.golden = g, .engine = engine, .is_other = is_other};
    int32_t *types = NULL;
    size_t n = 0;
    int rc = golden_ints(g, "in.mm_token_type_ids", &types, &n, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (types[i] && (i == 0 || types[i] != types[i - 1])) {
            rc = take_run(&t, types[i], out, err);
        }
    }
    mem_free(types);
    return rc;
}

void media_set_free(struct media_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        carat_media_free(set->items[i]);
    }
    set->n = 0;
}

// ------------------------------------------------------------------------------ the projections

// One recorded tensor of the projections; rows [item][padded] or without padding.
struct projected {
    const char *trace; // the name without "out."
    bool is_padded;    // [pictures, most soft tokens of one, columns]
    float *values;     // NULL: not recorded
    size_t n, n_columns, n_padded;
    size_t n_seen;
    bool has_wrong_shape;
    double squares;
    struct difference difference;
};

struct projecting {
    struct projected steps[5];
    size_t i_picture;       // frames of the media before this one
    size_t n_per_picture;   // soft tokens of a picture of this medium
    size_t n_seen, n_heard; // soft tokens of the media before this one
};

bool is_projection(const char *name)
{
    return strncmp(name, "out.vision.", 11) == 0 || strcmp(name, "out.audio.embeds") == 0;
}

static void take_row(struct projecting *p, struct projected *s, size_t row, const float *values)
{
    bool is_sound = strncmp(s->trace, "audio", 5) == 0;
    size_t at = (is_sound ? p->n_heard : p->n_seen) + row;
    if (s->is_padded) {
        size_t i = row / p->n_per_picture, k = row % p->n_per_picture;
        at = (p->i_picture + i) * s->n_padded + k;
        s->has_wrong_shape = s->has_wrong_shape || k >= s->n_padded;
    }
    if (s->has_wrong_shape || at >= s->n / s->n_columns) {
        s->has_wrong_shape = true;
        return;
    }
    const float *expected = s->values + at * s->n_columns;
    for (size_t i = 0; i < s->n_columns; i++) {
        s->squares += (double)expected[i] * (double)expected[i];
    }
    difference_add(&s->difference, values, expected, s->n_columns, at * s->n_columns);
    s->n_seen++;
}

static void on_projected(void *user, const char *name, int layer, size_t first, size_t n_rows,
                         size_t n_columns, const float *rows)
{
    struct projecting *p = user;
    (void)layer;
    for (size_t i = 0; i < sizeof(p->steps) / sizeof(p->steps[0]); i++) {
        struct projected *s = &p->steps[i];
        if (!s->values || strcmp(s->trace, name) != 0) {
            continue;
        }
        s->has_wrong_shape = s->has_wrong_shape || n_columns != s->n_columns;
        for (size_t row = 0; row < n_rows && !s->has_wrong_shape; row++) {
            take_row(p, s, first + row, rows + row * n_columns);
        }
    }
}

static int read_projected(struct projected *s, const struct golden *g, struct carat_error *err)
{
    char name[48];
    snprintf(name, sizeof(name), "out.%s", s->trace);
    const struct safetensors_tensor *t = golden_find(g, name);
    if (!t) {
        return 0;
    }
    if (t->n_dims != (s->is_padded ? 3 : 2) || t->values == 0) {
        return fail(err, CARAT_E_FORMAT, "%s: expected %d dimensions", name, s->is_padded ? 3 : 2);
    }
    s->n_columns = (size_t)t->dims[t->n_dims - 1];
    s->n_padded = s->is_padded ? (size_t)t->dims[1] : 0;
    return golden_floats(g, name, &s->values, &s->n, err);
}

// n_soft: how many rows there must have been.
static void report_projected(struct report *r, const struct projected *s, size_t n_soft)
{
    char name[48];
    snprintf(name, sizeof(name), "out.%s", s->trace);
    if (s->has_wrong_shape || s->n_seen != n_soft ||
        (!s->is_padded && s->n_seen * s->n_columns != s->n)) {
        report_result(r, false, name, "%zu values were recorded, the model gave %zu rows%s", s->n,
                      s->n_seen, s->has_wrong_shape ? " of another shape" : "");
        return;
    }
    double rms = s->difference.n ? sqrt(s->squares / (double)s->difference.n) : 0;
    report_difference(r, name, &s->difference, EMBED_TOLERANCE * (rms > 1 ? rms : 1), s->n_columns);
}

int verify_projections(struct report *r, const struct golden *g, struct carat_engine *engine,
                       const struct media_set *set, struct carat_error *err)
{
    struct projecting p = {.steps = {{.trace = "vision.patch_dense", .is_padded = true},
                                     {.trace = "vision.patch_ln2", .is_padded = true},
                                     {.trace = "vision.pos_norm", .is_padded = true},
                                     {.trace = "vision.embeds"},
                                     {.trace = "audio.embeds"}}};
    const size_t n_steps = sizeof(p.steps) / sizeof(p.steps[0]);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n_steps; i++) {
        rc = read_projected(&p.steps[i], g, err);
    }
    for (size_t i = 0; rc == 0 && i < set->n; i++) {
        const struct carat_media_info *info = carat_media_info(set->items[i]);
        p.n_per_picture = info->n_frames ? info->n_tokens / info->n_frames : 0;
        rc = carat_media_embed(engine, set->items[i], on_projected, &p, err);
        p.i_picture += info->n_frames;
        *(info->n_frames ? &p.n_seen : &p.n_heard) += info->n_tokens;
    }
    for (size_t i = 0; i < n_steps; i++) {
        const struct projected *s = &p.steps[i];
        if (rc == 0 && s->values) {
            bool is_sound = strncmp(s->trace, "audio", 5) == 0;
            report_projected(r, s, is_sound ? p.n_heard : p.n_seen);
        }
        mem_free(s->values);
    }
    return rc;
}

// ------------------------------------------------------------------------------- kind preprocess

struct preprocess {
    struct report *report;
    const struct golden *golden;
    size_t patch, pool, tokens;
};

// Compares square pieces of a picture, side by side of `side` pixels, row by row, with a recorded
// list of them and of their places.
static int compare_pieces(const struct preprocess *p, const struct carat_media *media,
                          const char *form, size_t i_picture, size_t side, struct carat_error *err)
{
    const struct carat_media_info *info = carat_media_info(media);
    const uint8_t *pixels = carat_media_frame(media, 0, NULL);
    size_t n_x = info->width / side, n = n_x * (info->height / side), n_bytes = side * side * 3;
    size_t n_near = 0, largest = 0, n_placed = 0, n_places = 0;
    int32_t *places = NULL;
    char name[64], what[64];
    snprintf(name, sizeof(name), "out.%s.positions.%zu", form, i_picture);
    int rc = golden_ints(p->golden, name, &places, &n_places, err);
    if (rc) {
        return rc;
    }
    snprintf(name, sizeof(name), "out.%s.patches.%zu", form, i_picture);
    const struct safetensors_tensor *t = golden_find(p->golden, name);
    snprintf(what, sizeof(what), "%s.%zu", form, i_picture);
    if (!t || t->type != DTYPE_U8 || t->size != n * n_bytes || n_places != 2 * n) {
        report_result(p->report, false, what, "%zu x %zu pieces of %zu pixels do not fit %s", n_x,
                      n_x ? n / n_x : 0, side, name);
        mem_free(places);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        size_t x = i % n_x, y = i / n_x;
        n_placed += places[2 * i] == (int32_t)x && places[2 * i + 1] == (int32_t)y;
        for (size_t j = 0; j < n_bytes; j++) {
            size_t row = y * side + j / (side * 3), column = x * side * 3 + j % (side * 3);
            int found = pixels[row * info->width * 3 + column], expected = t->data[i * n_bytes + j];
            size_t error = (size_t)(found > expected ? found - expected : expected - found);
            n_near += error <= 1;
            largest = error > largest ? error : largest;
        }
    }
    mem_free(places);
    double share = 100 * (double)n_near / (double)(n * n_bytes);
    report_result(p->report, n_placed == n && share >= 99 && largest <= 3, what,
                  "%zu pieces, %zu in place, %.2f %% of the bytes within 1 (99 %%), largest error "
                  "%zu (3)",
                  n, n_placed, share, largest);
    return 0;
}

static int check_picture(const struct preprocess *p, size_t i, struct carat_error *err)
{
    struct carat_media *media = NULL;
    const struct safetensors_tensor *t = find_picture(p->golden, "image_u8", i, err);
    if (!t) {
        return CARAT_E_FORMAT;
    }
    struct carat_media_source source = {
        .type = CARAT_MEDIA_IMAGE,
        .pixels = t->data,
        .height = (uint32_t)t->dims[0],
        .width = (uint32_t)t->dims[1],
        .image_tokens = (uint32_t)p->tokens,
        .block = (uint32_t)(p->patch * p->pool),
    };
    int rc = carat_media_new(&media, &source, err);
    rc = rc ? rc : compare_pieces(p, media, "unified", i, p->patch * p->pool, err);
    rc = rc ? rc : compare_pieces(p, media, "tower", i, p->patch, err);
    carat_media_free(media);
    return rc;
}

static bool is_size_right(const struct json_value *row)
{
    static const char *const names[] = {"width", "height", "max_soft_tokens", "to_width",
                                        "to_height"};
    uint64_t values[5];
    uint32_t width = 0, height = 0;
    for (size_t i = 0; i < 5; i++) {
        if (!json_u64(json_get(row, names[i]), &values[i]) || values[i] > UINT32_MAX) {
            return false;
        }
    }
    int rc = carat_image_size(&width, &height, (uint32_t)values[0], (uint32_t)values[1],
                              (uint32_t)values[2], 48, NULL);
    // 0 x 0 was recorded where the reference refuses.
    return rc ? values[3] == 0 && values[4] == 0 : width == values[3] && height == values[4];
}

void verify_preprocess(struct report *r, const struct golden *g)
{
    struct carat_error err;
    const struct json_value *meta = json_get(json_root(g->doc), "meta");
    uint64_t patch = 0, pool = 0, tokens = 0;
    char name[48];
    if (!json_u64(json_get(meta, "patch"), &patch) || !json_u64(json_get(meta, "pool"), &pool) ||
        !json_u64(json_get(meta, "max_soft_tokens"), &tokens) || patch == 0 || pool == 0 ||
        patch > 256 || pool > 256 || tokens > 1120) {
        report_result(r, false, "meta", "expected patch, pool and max_soft_tokens");
        return;
    }
    struct preprocess p = {.report = r,
                           .golden = g,
                           .patch = (size_t)patch,
                           .pool = (size_t)pool,
                           .tokens = (size_t)tokens};
    for (size_t i = 0;; i++) {
        snprintf(name, sizeof(name), "in.image_u8.%zu", i);
        if (!golden_find(g, name)) {
            break;
        }
        if (check_picture(&p, i, &err)) {
            report_error(r, name, &err);
        }
    }
    size_t n = 0, n_wrong = 0;
    for (struct json_iter it = json_iter(json_get(meta, "sizes")); json_next(&it); n++) {
        n_wrong += !is_size_right(it.value);
    }
    report_rows(r, "sizes", n, n_wrong, "all must be exact");
}
