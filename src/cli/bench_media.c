// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_media.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"

#include <math.h>
#include <string.h>

#define IMAGE_WIDTH   4000
#define IMAGE_HEIGHT  3000
#define SOUND_RATE    48000
#define SOUND_SECONDS 30
#define ROWS_MAX      16
#define CONTEXT       2048 // most tokens of one medium, and some
#define SHARE_LIMIT   0.05 // of the decoder's time: what the path may cost at 12B size

// One medium, measured. Times are the medians of the runs, in seconds.
struct row {
    const char *what; // "image", "sound"
    uint32_t budget;  // of a picture
    size_t tokens;
    double prepare, embed, prefill;
};

struct bench {
    const struct bench_media_options *options;
    struct loaded *loaded;
    uint8_t *pixels; // what is made where no file is named
    float *samples;
    struct row rows[ROWS_MAX];
    size_t n_rows;
    uint64_t n_prefills;
};

static double median(double *values, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        double value = values[i];
        size_t at = i;
        for (; at > 0 && values[at - 1] > value; at--) {
            values[at] = values[at - 1];
        }
        values[at] = value;
    }
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

// A picture and a sound with structure at every scale, the same in every run.
static int make_inputs(struct bench *b, struct carat_error *err)
{
    const size_t n_pixels = (size_t)IMAGE_WIDTH * IMAGE_HEIGHT;
    const size_t n_samples = (size_t)SOUND_RATE * SOUND_SECONDS;
    b->pixels = mem_new(n_pixels * 3, err);
    b->samples = mem_new_array(n_samples * 2, sizeof(*b->samples), err);
    if (!b->pixels || !b->samples) {
        return CARAT_E_MEMORY;
    }
    uint64_t state = 1;
    for (size_t i = 0; i < n_pixels * 3; i++) {
        size_t x = i / 3 % IMAGE_WIDTH, y = i / 3 / IMAGE_WIDTH;
        state = state * 6364136223846793005u + 1442695040888963407u; // Knuth, MMIX
        b->pixels[i] = (uint8_t)((x * (i % 3 + 1) / 16 + y / 8 + (state >> 59)) & 255);
    }
    for (size_t i = 0; i < n_samples; i++) {
        double t = (double)i / SOUND_RATE, tone = 200 + 40 * sin(t * 3);
        b->samples[2 * i] = (float)(0.3 * sin(6.283185307179586 * tone * t));
        b->samples[2 * i + 1] = (float)(0.2 * sin(6.283185307179586 * 3.01 * tone * t));
    }
    return 0;
}

static void say_step(const struct bench *b, const struct row *row, const char *step)
{
    if (!b->options->is_visible) {
        return;
    }
    if (row->budget) {
        say_plain("[%s, %u tokens: %s]", row->what, row->budget, step);
    } else {
        say_plain("[%s: %s]", row->what, step);
    }
}

static int measure_media(struct bench *b, struct row *row, const struct carat_media_source *source,
                         double *seconds, struct carat_error *err)
{
    const size_t n_runs = b->options->n_runs;
    struct carat_media *media = NULL;
    int rc = 0;
    say_step(b, row, "preparing");
    for (size_t i = 0; rc == 0 && i < n_runs; i++) {
        carat_media_free(media);
        media = NULL;
        double started = os_seconds();
        rc = carat_media_new(&media, source, err);
        seconds[i] = os_seconds() - started;
    }
    row->prepare = median(seconds, n_runs);
    row->tokens = media ? carat_media_info(media)->n_tokens : 0;
    say_step(b, row, "embedding");
    // Once before, so that the weights of the projection are in memory, as the decoder's are.
    rc = rc ? rc : carat_media_embed(b->loaded->engine, media, NULL, NULL, err);
    for (size_t i = 0; rc == 0 && i < n_runs; i++) {
        double started = os_seconds();
        rc = carat_media_embed(b->loaded->engine, media, NULL, NULL, err);
        seconds[i] = os_seconds() - started;
    }
    row->embed = median(seconds, n_runs);
    carat_media_free(media);
    if (rc == 0 && os_interrupted()) {
        return fail(err, CARAT_E_STOPPED, "interrupted");
    }
    return rc;
}

// As many ordinary tokens as the medium has.
static int measure_prefill(struct bench *b, struct row *row, double *seconds,
                           struct carat_error *err)
{
    const size_t n_vocab = carat_engine_info(b->loaded->engine)->n_vocab;
    carat_token *tokens = mem_new_array(row->tokens + 1, sizeof(*tokens), err);
    int rc = tokens ? 0 : CARAT_E_MEMORY;
    say_step(b, row, "prefill of as many tokens");
    for (size_t run = 0; rc == 0 && run < b->options->n_runs; run++) {
        struct carat_prompt *prompt = NULL;
        uint64_t state = ++b->n_prefills; // another prompt each time: nothing is reused
        for (size_t i = 0; i < row->tokens; i++) {
            do {
                state = state * 6364136223846793005u + 1442695040888963407u;
                tokens[i] = (carat_token)((state >> 33) % n_vocab);
            } while (carat_token_is_special(b->loaded->engine, tokens[i]));
        }
        rc = carat_prompt_from_tokens(&prompt, b->loaded->engine, tokens, row->tokens, err);
        double started = os_seconds();
        rc = rc ? rc : carat_session_sync(b->loaded->session, prompt, NULL, err);
        seconds[run] = os_seconds() - started;
        carat_prompt_free(prompt);
        progress_end(&b->loaded->prefill_progress);
    }
    row->prefill = median(seconds, b->options->n_runs);
    mem_free(tokens);
    return rc;
}

static int measure(struct bench *b, struct row *row, const struct carat_media_source *source,
                   struct carat_error *err)
{
    double *seconds = mem_new_array(b->options->n_runs, sizeof(*seconds), err);
    int rc = seconds ? 0 : CARAT_E_MEMORY;
    rc = rc ? rc : measure_media(b, row, source, seconds, err);
    if (rc == 0 && (row->tokens == 0 || row->tokens > CONTEXT)) {
        rc = fail(err, CARAT_E_ARGUMENT, "bench: expected a medium of 1 to %d tokens, found %zu",
                  CONTEXT, row->tokens);
    }
    rc = rc ? rc : measure_prefill(b, row, seconds, err);
    mem_free(seconds);
    return rc;
}

static int measure_image(struct bench *b, uint32_t budget, struct carat_error *err)
{
    struct row *row = &b->rows[b->n_rows++];
    *row = (struct row){.what = "image", .budget = budget};
    struct carat_media_source source = {
        .type = CARAT_MEDIA_IMAGE,
        .path = b->options->image,
        .image_tokens = budget,
        .block = (uint32_t)carat_engine_info(b->loaded->engine)->image_block,
    };
    if (!source.path) {
        source.pixels = b->pixels;
        source.width = IMAGE_WIDTH;
        source.height = IMAGE_HEIGHT;
    }
    return measure(b, row, &source, err);
}

static int measure_sound(struct bench *b, struct carat_error *err)
{
    struct row *row = &b->rows[b->n_rows++];
    *row = (struct row){.what = "sound"};
    struct carat_media_source source = {.type = CARAT_MEDIA_AUDIO, .path = b->options->audio};
    if (!source.path) {
        source.samples = b->samples;
        source.n_samples = (size_t)SOUND_RATE * SOUND_SECONDS;
        source.sample_rate = SOUND_RATE;
        source.n_channels = 2;
    }
    return measure(b, row, &source, err);
}

static int measure_all(struct bench *b, struct carat_error *err)
{
    static const struct option_counts all = {.items = {70, 140, 280, 560, 1120}, .n = 5};
    const struct carat_model_info *info = carat_engine_info(b->loaded->engine);
    const struct option_counts *budgets =
        b->options->image_tokens.n ? &b->options->image_tokens : &all;
    int rc = 0;
    if (!info->sees && !info->hears) {
        return fail(err, CARAT_E_UNSUPPORTED,
                    "bench: the model '%s' neither sees nor hears: give the file with its "
                    "projections, often called mmproj-*.gguf, with --projector FILE",
                    info->name);
    }
    if (budgets->n >= ROWS_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "--image-tokens: more than %d values", ROWS_MAX - 1);
    }
    for (size_t i = 0; rc == 0 && info->sees && i < budgets->n; i++) {
        rc = measure_image(b, (uint32_t)budgets->items[i], err);
    }
    return rc || !info->hears ? rc : measure_sound(b, err);
}

static double share_of(const struct row *row)
{
    return row->prefill > 0 ? (row->prepare + row->embed) / row->prefill : 0;
}

static double largest_share(const struct bench *b)
{
    double largest = 0;
    for (size_t i = 0; i < b->n_rows; i++) {
        largest = fmax(largest, share_of(&b->rows[i]));
    }
    return largest;
}

static void write_json(const struct bench *b, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(b->loaded->engine);
    buf_adds(out, "{\"media\":[");
    for (size_t i = 0; i < b->n_rows; i++) {
        const struct row *row = &b->rows[i];
        buf_addf(out, "%s{\"type\":\"%s\",", i ? "," : "", row->what);
        if (row->budget) {
            buf_addf(out, "\"image_tokens\":%u,", row->budget);
        }
        buf_addf(out,
                 "\"tokens\":%zu,\"prepare_ms\":%.3f,\"embed_ms\":%.3f,\"prefill_ms\":%.3f,"
                 "\"share\":%.5f}",
                 row->tokens, row->prepare * 1e3, row->embed * 1e3, row->prefill * 1e3,
                 share_of(row));
    }
    buf_addf(out, "],\"largest_share\":%.5f,\"share_limit\":%g,\"is_within\":%s,\"model\":",
             largest_share(b), SHARE_LIMIT, largest_share(b) < SHARE_LIMIT ? "true" : "false");
    buf_add_json(out, info->name, strlen(info->name));
    buf_addf(out, ",\"weight_type\":\"%s\",\"cpu\":\"%s\",\"threads\":%zu,\"runs\":%zu}\n",
             info->weight_type, info->cpu_level, info->n_threads, b->options->n_runs);
}

static void write_table(const struct bench *b, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(b->loaded->engine);
    const struct bench_media_options *o = b->options;
    buf_addf(out, "%s, %s, %zu threads (%s)\n", info->name, info->weight_type, info->n_threads,
             info->cpu_level);
    buf_addf(out, "image: %s; sound: %s\n\n",
             o->image ? o->image : "4000 x 3000 pixels, already decoded",
             o->audio ? o->audio : "30 s, 48 kHz stereo, already decoded");
    buf_addf(out, "%-12s %8s %12s %12s %12s %12s\n", "", "tokens", "prepare ms", "embed ms",
             "prefill ms", "of prefill");
    for (size_t i = 0; i < b->n_rows; i++) {
        const struct row *row = &b->rows[i];
        struct buf name = {.max = 40};
        buf_adds(&name, row->what);
        if (row->budget) {
            buf_addf(&name, " %u", row->budget);
        }
        buf_addf(out, "%-12s %8zu %12.2f %12.2f %12.2f %10.2f %%\n", buf_text(&name), row->tokens,
                 row->prepare * 1e3, row->embed * 1e3, row->prefill * 1e3, 100 * share_of(row));
        buf_release(&name);
    }
    double largest = largest_share(b);
    buf_addf(out,
             "\nMedians of %zu runs. prepare: %s. embed: to soft tokens. prefill: the decoder's "
             "time for as\nmany tokens. The path to the decoder takes at most %.2f %% of it: %s "
             "%g %%.\n",
             o->n_runs, o->image || o->audio ? "decode and resample" : "resample", 100 * largest,
             largest < SHARE_LIMIT ? "under" : "not under", 100 * SHARE_LIMIT);
}

int bench_media(const struct bench_media_options *options, const char *model, struct loaded *l,
                struct output *out, struct carat_error *err)
{
    struct bench b = {.options = options, .loaded = l};
    struct model_settings settings = *options->settings;
    if (!settings.context.is_set) {
        settings.context = (struct option_count){.is_set = true, .value = CONTEXT};
    }
    struct loading_options loading = {
        .model = model, .settings = &settings, .is_quiet = options->is_quiet};
    int rc = make_inputs(&b, err);
    rc = rc ? rc : loaded_open(l, &loading, out, err);
    rc = rc ? rc : measure_all(&b, err);
    if (rc == 0) {
        struct buf text = {.max = 1 << 20};
        if (options->is_json) {
            write_json(&b, &text);
        } else {
            write_table(&b, &text);
        }
        output_write(out, buf_text(&text), text.size);
        buf_release(&text);
    }
    mem_free(b.pixels);
    mem_free(b.samples);
    return rc;
}
