// SPDX-License-Identifier: Apache-2.0
// The projections of pictures and sound: each step against the reference's, from a checkpoint and
// from an mmproj file; the same bits however a picture is cut; and every wrong file refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

#include "base/mem.h"
#include "base/os.h"
#include "base/str.h"
#include "model/load.h"

#define HF     TEST_DATA "/fixtures/unified-text/model"
#define MMPROJ TEST_DATA "/fixtures/unified-gguf/mmproj-bf16.gguf"
#define GOLDEN TEST_DATA "/fixtures/unified-mixed/golden.safetensors"

static char scratch[64];

static int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch, sizeof(scratch), "/tmp/carat-test-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
    (void)state;
    char path[128];
    static const char *const names[] = {"config.json", "model.safetensors", "mmproj.gguf"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", scratch, names[i]);
        unlink(path);
    }
    return rmdir(scratch);
}

static const char *in_scratch(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", scratch, name);
    return path;
}

// A projector beside the decoder of the fixtures, and all that its use needs.
struct bench {
    struct source *model;
    struct source *source;
    struct model_config config;
    struct projector p;
    struct device *dev;
    struct embedder e;
};

static int bench_open(struct bench *b, const char *path, struct carat_error *err)
{
    const struct device_options options = {.n_threads = 2, .activations = CARAT_ACTIVATIONS_FLOAT};
    *b = (struct bench){0};
    int rc = source_open(&b->model, HF, false, err);
    if (rc == 0) {
        rc = config_read(&b->config, b->model, err);
    }
    if (rc == 0) {
        rc = source_open(&b->source, path, true, err);
    }
    if (rc == 0) {
        rc = projector_bind(&b->p, &b->config, b->source, err);
    }
    if (rc == 0) {
        rc = device_new_cpu(&b->dev, &options, err);
    }
    if (rc == 0) {
        struct device_limits limits = {0};
        embedder_limits(&limits, &b->p);
        rc = device_reserve(b->dev, &limits, err);
    }
    if (rc == 0) {
        struct load load = {.device = b->dev};
        rc = load_projector(&load, &b->p, b->source, err);
    }
    return rc ? rc : embedder_reserve(&b->e, &b->p, b->dev, err);
}

static void bench_close(struct bench *b)
{
    embedder_release(&b->e);
    if (b->dev) {
        unload_projector(b->dev, &b->p);
    }
    device_free(b->dev);
    projector_release(&b->p);
    config_release(&b->config);
    source_close(b->source);
    source_close(b->model);
}

static void open_or_fail(struct bench *b, const char *path)
{
    struct carat_error err = {0};
    if (bench_open(b, path, &err)) {
        fail_msg("%s", err.text);
    }
}

// ----------------------------------------------------------------------------------- the goldens

struct golden {
    struct safetensors *file;
    size_t item;   // number of the picture or sound among those of the file
    size_t before; // soft tokens of those before it
    size_t n_compared;
};

// model.md: within 1e-3 of the tensor's size.
static void check_rows(const char *name, const uint8_t *bytes, const float *found, size_t n)
{
    float *want = mem_new_array(n, sizeof(float), NULL);
    memcpy(want, bytes, n * sizeof(float));
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        squares += (double)want[i] * (double)want[i];
    }
    const double tolerance = 1e-3 * fmax(1, sqrt(squares / (double)n));
    for (size_t i = 0; i < n; i++) {
        if (!(fabs((double)want[i] - (double)found[i]) <= tolerance)) {
            fail_msg("%s: value %zu: expected %g, found %g, tolerance %g", name, i, (double)want[i],
                     (double)found[i], tolerance);
        }
    }
    mem_free(want);
}

// Steps are stored per picture, filled up to the longest; what enters the decoder without gaps.
static void on_tensor(void *user, const char *name, int layer, size_t first, size_t n,
                      size_t columns, const float *data)
{
    struct golden *g = user;
    char full[64];
    assert_int_equal(layer, -1);
    snprintf(full, sizeof(full), "out.%s", name);
    const struct safetensors_tensor *t = safetensors_find(g->file, full);
    assert_non_null(t);
    assert_int_equal(t->dims[t->n_dims - 1], columns);
    const size_t row = t->n_dims == 3 ? g->item * (size_t)t->dims[1] + first : g->before + first;
    assert_true((row + n) * columns <= t->values);
    check_rows(full, t->data + row * columns * sizeof(float), data, n * columns);
    g->n_compared++;
}

static bool read_picture(struct soft_span *span, const struct golden *g, const char *form)
{
    char name[32];
    snprintf(name, sizeof(name), form, g->item);
    const struct safetensors_tensor *t = safetensors_find(g->file, name);
    if (!t) {
        return false;
    }
    *span = (struct soft_span){.kind = SOFT_IMAGE,
                               .pixels = t->data,
                               .height = (uint32_t)t->dims[0],
                               .width = (uint32_t)t->dims[1]};
    return true;
}

static void embed_all(struct bench *b, struct soft_span *span, struct golden *g)
{
    float *out = mem_new_array(span->n, b->p.hidden_size * sizeof(float), NULL);
    const struct tensor rows = tensor_make(out, span->n, b->p.hidden_size);
    const struct embed_trace trace = {on_tensor, g};
    if (span->kind == SOFT_IMAGE) {
        embed_image(&b->e, rows, span, trace);
    } else {
        embed_audio(&b->e, rows, span, trace);
    }
    g->before += span->n;
    mem_free(out);
}

static size_t check_goldens(const char *model, const char *golden)
{
    static const char *const forms[] = {"in.image_u8.%zu", "in.frame_u8.%zu"};
    struct bench b;
    struct golden g = {0};
    struct soft_span span;
    open_or_fail(&b, model);
    assert_int_equal(safetensors_open(&g.file, golden, NULL), 0);
    for (size_t i = 0; i < 2; i++) {
        g.before = 0;
        for (g.item = 0; read_picture(&span, &g, forms[i]); g.item++) {
            span.n = (size_t)(span.width / b.p.block) * (span.height / b.p.block);
            embed_all(&b, &span, &g);
        }
    }
    g.before = 0;
    for (g.item = 0;; g.item++) {
        char name[32];
        snprintf(name, sizeof(name), "in.wave.%zu", g.item);
        const struct safetensors_tensor *t = safetensors_find(g.file, name);
        if (!t) {
            break;
        }
        float *samples = mem_new((size_t)t->size, NULL);
        memcpy(samples, t->data, (size_t)t->size);
        span = (struct soft_span){
            .kind = SOFT_AUDIO, .samples = samples, .n_samples = (size_t)t->values};
        span.n = (span.n_samples + b.p.frame_samples - 1) / b.p.frame_samples;
        embed_all(&b, &span, &g);
        mem_free(samples);
    }
    safetensors_close(g.file);
    bench_close(&b);
    return g.n_compared;
}

static void test_checkpoint_gives_the_references_numbers(void **state)
{
    (void)state;
    assert_int_equal(check_goldens(HF, GOLDEN), 2 * 4 + 1); // pictures in four steps, a sound
}

static void test_gguf_gives_the_references_numbers(void **state)
{
    (void)state;
    assert_int_equal(check_goldens(MMPROJ, GOLDEN), 2 * 4 + 1);
}

static void test_sizes_are_those_of_the_files(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bench b;
        open_or_fail(&b, i == 0 ? HF : MMPROJ);
        assert_true(b.p.has_vision);
        assert_true(b.p.has_audio);
        assert_int_equal(b.p.block, 12);
        assert_int_equal(b.p.width, 48);
        assert_int_equal(b.p.n_positions, 24);
        assert_int_equal(b.p.frame_samples, 640);
        assert_int_equal(b.p.is_channel_major, i);
        assert_int_equal(b.p.is_axis_major, i);
        // dense, two projections, positions; 432 + 48 + 48 weights and biases of norms, a bias
        assert_int_equal(b.p.n_parameters, 48 * (432 + 48 + 640 + 2 * 24) + 2 * 528 + 48);
        assert_true(b.p.copied_size >= (2 * 528 + 48) * sizeof(float));
        bench_close(&b);
    }
}

// ------------------------------------------------------------------------- however it is cut

enum { ROWS = 13, COLUMNS = 12, TOKENS = ROWS * COLUMNS }; // more than EMBED_ROWS

static void test_pictures_may_be_cut_anywhere(void **state)
{
    (void)state;
    static const size_t cuts[] = {1, 7, EMBED_ROWS, EMBED_ROWS + 1};
    struct bench b;
    open_or_fail(&b, HF);
    const size_t size = (size_t)TOKENS * b.p.block * b.p.block * 3;
    uint8_t *pixels = mem_new(size, NULL);
    for (size_t i = 0; i < size; i++) {
        pixels[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    struct soft_span span = {.kind = SOFT_IMAGE,
                             .n = TOKENS,
                             .pixels = pixels,
                             .width = COLUMNS * b.p.block,
                             .height = ROWS * b.p.block};
    static float whole[TOKENS * 48];
    static float parts[TOKENS * 48];
    embed_image(&b.e, tensor_make(whole, TOKENS, 48), &span, (struct embed_trace){0});
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        memset(parts, 0, sizeof(parts));
        for (span.skipped = 0; span.skipped < TOKENS; span.skipped += span.n) {
            const size_t left = TOKENS - span.skipped;
            span.n = left < cuts[i] ? left : cuts[i];
            struct tensor out = tensor_make(parts + span.skipped * 48, span.n, 48);
            embed_image(&b.e, out, &span, (struct embed_trace){0});
        }
        assert_memory_equal(whole, parts, sizeof(whole));
    }
    mem_free(pixels);
    bench_close(&b);
}

// The norm takes the loudness away; silence stays silence; the last frame is filled with zeros.
static void test_sounds_are_frames_without_loudness(void **state)
{
    (void)state;
    enum { FRAMES = EMBED_ROWS + 3, LAST = 100 };
    static float samples[(FRAMES - 1) * 640 + LAST];
    static float padded[FRAMES * 640];
    static float want[FRAMES * 48];
    static float found[FRAMES * 48];
    struct bench b;
    open_or_fail(&b, HF);
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        samples[i] = i < 2 * 640 ? 0.0f : sinf((float)i * (float)i * 1e-3f);
        padded[i] = samples[i] * 0.25f;
    }
    struct soft_span span = {.kind = SOFT_AUDIO,
                             .n = FRAMES,
                             .samples = padded,
                             .n_samples = sizeof(padded) / sizeof(padded[0])};
    embed_audio(&b.e, tensor_make(want, FRAMES, 48), &span, (struct embed_trace){0});
    span.samples = samples;
    span.n_samples = sizeof(samples) / sizeof(samples[0]);
    for (size_t cut = 1; cut <= FRAMES; cut += 65) {
        for (span.skipped = 0; span.skipped < FRAMES; span.skipped += span.n) {
            const size_t left = FRAMES - span.skipped;
            span.n = left < cut ? left : cut;
            struct tensor out = tensor_make(found + span.skipped * 48, span.n, 48);
            embed_audio(&b.e, out, &span, (struct embed_trace){0});
        }
        for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++) {
            assert_true(i >= 2 * 48 || found[i] == 0.0f);
            assert_true(fabsf(found[i] - want[i]) <= 1e-3f);
        }
    }
    bench_close(&b);
}

// ---------------------------------------------------------------------------------- other files

// Every `from` in the text becomes `to`.
static void replace_all(struct buf *out, const char *text, size_t size, const char *from,
                        const char *to)
{
    const size_t length = strlen(from);
    size_t n_found = 0;
    for (size_t i = 0; i < size;) {
        if (size - i >= length && memcmp(text + i, from, length) == 0) {
            buf_adds(out, to);
            i += length;
            n_found++;
        } else {
            buf_addc(out, text[i++]);
        }
    }
    assert_true(n_found > 0);
}

// The checkpoint with one thing changed in its config.json, and one in its tensors' names or
// shapes. NULL: nothing.
struct change {
    const char *from, *to;
};

static void write_checkpoint(struct change config, struct change header)
{
    struct buf text = {0};
    struct buf changed = {0};
    assert_int_equal(os_read_file(&text, HF "/config.json", 1 << 20, NULL), 0);
    if (config.from) {
        replace_all(&changed, text.data, text.size, config.from, config.to);
    } else {
        buf_add(&changed, text.data, text.size);
    }
    assert_int_equal(os_write_file(in_scratch("config.json"), changed.data, changed.size, NULL), 0);
    buf_clear(&text);
    buf_clear(&changed);
    assert_int_equal(os_read_file(&text, HF "/model.safetensors", 1 << 24, NULL), 0);
    uint64_t size = 0;
    memcpy(&size, text.data, sizeof(size));
    struct buf names = {0};
    if (header.from) {
        replace_all(&names, text.data + 8, (size_t)size, header.from, header.to);
    } else {
        buf_add(&names, text.data + 8, (size_t)size);
    }
    const uint64_t new_size = names.size;
    buf_add(&changed, &new_size, sizeof(new_size));
    buf_add(&changed, names.data, names.size);
    buf_add(&changed, text.data + 8 + size, text.size - 8 - (size_t)size);
    assert_int_equal(
        os_write_file(in_scratch("model.safetensors"), changed.data, changed.size, NULL), 0);
    buf_release(&text);
    buf_release(&changed);
    buf_release(&names);
}

static void test_both_spellings_are_read(void **state)
{
    (void)state;
    static const struct change changes[] = {
        {"model.vision_embedder.", "model.embed_vision."},
        {"model.vision_embedder.", "vision_embedder."},
        {"model.vision_embedder.", "embed_vision."},
        {"embed_vision.embedding_projection",
         "embed_vision.multimodal_embedder.embedding_projection"},
        {"embed_audio.embedding_projection",
         "embed_audio.multimodal_embedder.embedding_projection"},
    };
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        write_checkpoint((struct change){0}, changes[i]);
        assert_int_equal(check_goldens(scratch, GOLDEN), 2 * 4 + 1);
    }
}

static void expect_paths(const char *path, bool has_vision, bool has_audio)
{
    struct bench b;
    open_or_fail(&b, path);
    assert_int_equal(b.p.has_vision, has_vision);
    assert_int_equal(b.p.has_audio, has_audio);
    bench_close(&b);
}

static void test_paths_are_there_as_their_tensors_are(void **state)
{
    (void)state;
    write_checkpoint((struct change){0}, (struct change){"embed_audio", "other"});
    expect_paths(scratch, true, false);
    write_checkpoint((struct change){0}, (struct change){"vision", "other"});
    expect_paths(scratch, false, true);
    // The towers of another member: a decoder of text.
    write_checkpoint((struct change){0},
                     (struct change){"vision_embedder.patch_ln1.bias",
                                     "vision_tower.patch_embedder.input_proj.weight"});
    expect_paths(scratch, false, true);
    write_checkpoint((struct change){0}, (struct change){"vision_embedder.patch_ln1.bias",
                                                         "audio_tower.output_proj.weight"});
    struct bench b;
    struct carat_error err = {0};
    assert_int_equal(bench_open(&b, scratch, &err), CARAT_E_FORMAT); // it lacks that bias now
    bench_close(&b);
}

static void expect_refusal(const char *path, const char *want)
{
    struct bench b;
    struct carat_error err = {0};
    const int rc = bench_open(&b, path, &err);
    bench_close(&b);
    if (rc == 0) {
        fail_msg("expected a refusal with \"%s\"", want);
    }
    if (!strstr(err.text, want)) {
        fail_msg("expected \"%s\" in: %s", want, err.text);
    }
}

static void test_wrong_checkpoint_is_refused(void **state)
{
    (void)state;
    static const struct {
        struct change config, header;
        const char *want;
    } cases[] = {
        {{"\"patch_size\": 4", "\"patch_size\": 5"}, {0}, "blocks of 12 pixels"},
        {{"\"patch_size\": 4", "\"patch_size\": 4611686018427387905"}, {0}, "blocks of 12 pixels"},
        {{"\"patch_size\": 4", "\"patch_size\": \"4\""}, {0}, "vision_config.patch_size"},
        {{"\"patch_size\": 4", "\"model_patch_size\": 16, \"patch_size\": 4"},
         {0},
         "vision_config.model_patch_size: expected 12"},
        {{"\"pooling_kernel_size\": 3", "\"pooling_kernel_size\": 4"}, {0}, "blocks of 12 pixels"},
        {{"\"mm_embed_dim\": 48", "\"mm_embed_dim\": 49"}, {0}, "mm_embed_dim: expected 48"},
        {{"\"mm_posemb_size\": 24", "\"mm_posemb_size\": 9"}, {0}, "mm_posemb_size: expected 24"},
        {{"\"audio_embed_dim\": 640", "\"audio_embed_dim\": 320"}, {0}, "expected 640"},
        {{"\"rms_norm_eps\": 1e-06\n }", "\"rms_norm_eps\": -1\n }"}, {0}, "rms_norm_eps"},
        {{0}, {"patch_ln1.weight", "patch_ln3.weight"}, "patch_ln1.weight' is missing"},
        {{0}, {"patch_ln2.bias", "patch_ln4.bias"}, "vision_embedder.patch_ln2.bias' is missing"},
        {{0}, {"pos_embedding", "pos_table"}, "vision_embedder.pos_embedding' is missing"},
        {{0}, {"[24,2,48]", "[48,48]"}, "does not have three dimensions"},
        {{0}, {"[24,2,48]", "[2,24,48]"}, "mm_posemb_size: expected 2 as"},
        {{0}, {"[48,432]", "[432,48]"}, "expected blocks of 4 pixels"},
        {{0}, {"[48,432]", "[96,216]"}, "square blocks"},
        {{0}, {"[48,432]", "[20736]"}, "square blocks"},
        {{0}, {"[48,640]", "[60,512]"}, "expected 512"},
        {{"\"audio_embed_dim\": 640", "\"audio_embed_dim\": 320"},
         {"[48,640]", "[96,320]"},
         "leads to 96 values, but the model's hidden size is 48"},
        {{0}, {"[48,640]", "[1,30720]"}, "expected 1 to 4096, found 30720"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_checkpoint(cases[i].config, cases[i].header);
        expect_refusal(scratch, cases[i].want);
    }
}

// Texts of the same length, in names and keys alike.
static void write_gguf(struct change change)
{
    struct buf file = {0};
    struct buf changed = {0};
    assert_int_equal(strlen(change.from), strlen(change.to));
    assert_int_equal(os_read_file(&file, MMPROJ, 1 << 24, NULL), 0);
    replace_all(&changed, file.data, file.size, change.from, change.to);
    assert_int_equal(os_write_file(in_scratch("mmproj.gguf"), changed.data, changed.size, NULL), 0);
    buf_release(&file);
    buf_release(&changed);
}

static void test_wrong_gguf_is_refused(void **state)
{
    (void)state;
    static const struct {
        struct change change;
        const char *want;
    } cases[] = {
        {{"gemma4uv", "gemma4v2"}, "vision tower of another model (gemma4v2)"},
        {{"gemma4ua", "qwen3vl2"}, "audio tower of another model (qwen3vl2)"},
        {{"v.patch_norm.1.weight", "v.patch_norm.9.weight"}, "v.patch_norm.1.weight' is missing"},
        {{"v.patch_embd.bias", "v.patch_embd.bios"}, "v.patch_embd.bias' is missing"},
        {{"mm.input_projection.weight", "mm.output_projection.eight"},
         "mm.input_projection.weight' is missing"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_gguf(cases[i].change);
        expect_refusal(in_scratch("mmproj.gguf"), cases[i].want);
    }
}

// A file of another kind that holds the projections as well, without the keys of an mmproj file:
// the sizes follow from the tensors.
static void test_projections_may_stand_in_the_models_file(void **state)
{
    (void)state;
    write_gguf((struct change){"clip", "crop"});
    assert_int_equal(check_goldens(in_scratch("mmproj.gguf"), GOLDEN), 2 * 4 + 1);
    // With a tower such a file is a decoder of text.
    struct buf file = {0};
    struct buf changed = {0};
    assert_int_equal(os_read_file(&file, in_scratch("mmproj.gguf"), 1 << 24, NULL), 0);
    replace_all(&changed, file.data, file.size, "crop.vision.projector_type",
                "clip.vision.projector_type");
    buf_clear(&file);
    replace_all(&file, changed.data, changed.size, "gemma4uv", "gemma4v2");
    assert_int_equal(os_write_file(in_scratch("mmproj.gguf"), file.data, file.size, NULL), 0);
    expect_paths(in_scratch("mmproj.gguf"), false, true);
    buf_release(&file);
    buf_release(&changed);
}

static void test_binding_survives_lack_of_memory(void **state)
{
    (void)state;
    const size_t before = mem_bytes_now();
    for (size_t nth = 1; nth < 500; nth++) {
        struct bench b;
        struct carat_error err = {0};
        mem_fail_nth(nth);
        const int rc = bench_open(&b, MMPROJ, &err);
        mem_fail_nth(0);
        bench_close(&b);
        assert_int_equal(mem_bytes_now(), before);
        if (rc == 0) {
            assert_true(nth > 10);
            return;
        }
        assert_int_equal(rc, CARAT_E_MEMORY);
    }
    fail_msg("it never succeeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoint_gives_the_references_numbers),
        cmocka_unit_test(test_gguf_gives_the_references_numbers),
        cmocka_unit_test(test_sizes_are_those_of_the_files),
        cmocka_unit_test(test_pictures_may_be_cut_anywhere),
        cmocka_unit_test(test_sounds_are_frames_without_loudness),
        cmocka_unit_test(test_both_spellings_are_read),
        cmocka_unit_test(test_paths_are_there_as_their_tensors_are),
        cmocka_unit_test(test_wrong_checkpoint_is_refused),
        cmocka_unit_test(test_wrong_gguf_is_refused),
        cmocka_unit_test(test_projections_may_stand_in_the_models_file),
        cmocka_unit_test(test_binding_survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
