// SPDX-License-Identifier: Apache-2.0
// The row files of an io folder that concern media: files under images/, audio/ and video/ that are
// decoded and brought to the model's form, and whole prompts with them.
#include "cli/verify.h"

#include "base/error.h"
#include "base/mem.h"
#include "cli/conversation.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BLOCK           48
#define TOWER_PATCH     16
#define ROW_MEAN_MAX    0.5  // of lossy pictures
#define ROW_FAR         8    // levels; but for a thousandth of the values
#define SUM_ERROR_MAX   2304 // of a patch and channel: one level on average
#define FILM_ROW_MEAN   2.0
#define FILM_SUM_ERROR  (2 * SUM_ERROR_MAX)
#define FRAME_SAMPLES   640
#define FRAME_TOLERANCE 1e-6
#define FRAME_SUM_ERROR 1e-4
#define DEFAULT_TOKENS  280 // of a picture in the reference
#define DEFAULT_FRAMES  32

static const struct json_value *member(const struct row_file *f, const char *key)
{
    return json_get(json_root(f->row), key);
}

static uint64_t integer(const struct json_value *object, const char *key)
{
    uint64_t n = 0;
    json_u64(json_get(object, key), &n);
    return n;
}

static void expect(struct row_file *f, const char *what, uint64_t expected, uint64_t found)
{
    if (f->detail->size == 0 && expected != found) {
        buf_addf(f->detail, "%s: expected %llu, found %llu", what, (unsigned long long)expected,
                 (unsigned long long)found);
    }
}

// A recorded tensor of the row; one of another type or shape is noted as wrong.
static const struct safetensors_tensor *find(struct row_file *f, const char *prefix,
                                             const char *name, enum dtype type, uint64_t values)
{
    char full[400];
    snprintf(full, sizeof(full), "%s/%s", prefix, name);
    const struct safetensors_tensor *t = f->tensors ? safetensors_find(f->tensors, full) : NULL;
    if (t && t->type == type && (values == 0 || t->values == values)) {
        return t;
    }
    if (f->detail->size == 0) {
        buf_addf(f->detail, "%s: expected a tensor of type %s with %llu values, found %s", full,
                 dtypes[type].name, (unsigned long long)values, t ? "another" : "none");
    }
    return NULL;
}

static uint32_t u32_at(const struct safetensors_tensor *t, size_t i)
{
    uint32_t value = 0;
    memcpy(&value, t->data + i * sizeof(value), sizeof(value));
    return value;
}

static int open_row_file(struct row_file *f, const char *sub_folder, const char *name,
                         struct carat_media_source *source, struct carat_media **out,
                         struct carat_error *err)
{
    struct buf folder = {.max = 1 << 16}, path = {.max = 1 << 16};
    path_join(&folder, f->folder, sub_folder);
    path_join(&path, buf_text(&folder), name);
    source->path = buf_text(&path);
    int rc = buf_status(&path, err);
    rc = rc ? rc : carat_media_new(out, source, err);
    buf_release(&folder);
    buf_release(&path);
    return rc;
}

// ---------------------------------------------------------------------------------- pixels

// How far rows of pixels are from the recorded ones.
struct nearness {
    double sum;
    size_t n, n_near, largest;
};

static void compare_bytes(struct nearness *d, const uint8_t *found, const uint8_t *expected,
                          size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t error =
            (size_t)(found[i] > expected[i] ? found[i] - expected[i] : expected[i] - found[i]);
        d->sum += (double)error;
        d->n_near += error <= ROW_FAR;
        d->largest = error > d->largest ? error : d->largest;
        d->n++;
    }
}

// A square piece of a picture, number i row by row, against n bytes in row, column, channel order.
static void compare_piece(struct nearness *d, const uint8_t *pixels, size_t width, size_t side,
                          size_t i, const uint8_t *expected)
{
    size_t x = i % (width / side) * side, y = i / (width / side) * side;
    for (size_t row = 0; row < side; row++) {
        compare_bytes(d, pixels + ((y + row) * width + x) * 3, expected + row * side * 3, side * 3);
    }
}

// The largest error of the sums of every 48-pixel patch and channel of one picture.
static double compare_sums(const uint8_t *pixels, size_t width, size_t height,
                           const struct safetensors_tensor *sums, size_t first)
{
    double largest = 0;
    size_t n_x = width / BLOCK, n = n_x * (height / BLOCK);
    for (size_t i = 0; i < n; i++) {
        uint32_t found[3] = {0, 0, 0};
        for (size_t j = 0; j < BLOCK * BLOCK; j++) {
            size_t y = i / n_x * BLOCK + j / BLOCK, x = i % n_x * BLOCK + j % BLOCK;
            for (size_t c = 0; c < 3; c++) {
                found[c] += pixels[(y * width + x) * 3 + c];
            }
        }
        for (size_t c = 0; c < 3; c++) {
            double error = fabs((double)found[c] - (double)u32_at(sums, (first + i) * 3 + c));
            largest = error > largest ? error : largest;
        }
    }
    return largest;
}

static void judge_rows(struct row_file *f, const char *what, const struct nearness *d,
                       bool is_lossy)
{
    double mean = d->n ? d->sum / (double)d->n : 0;
    double share = d->n ? (double)d->n_near / (double)d->n : 1;
    bool is_good = is_lossy ? mean <= ROW_MEAN_MAX && share >= 0.999 : d->largest == 0;
    if (is_lossy) {
        struct tally *t = &f->tally;
        t->row_mean = mean > t->row_mean ? mean : t->row_mean;
        t->row_far = 1 - share > t->row_far ? 1 - share : t->row_far;
    }
    if (!is_good && f->detail->size == 0) {
        buf_addf(f->detail, "%s: mean error %.3f, %.2f %% within %d, largest %zu", what, mean,
                 100 * share, ROW_FAR, d->largest);
    }
}

static void judge_sums(struct row_file *f, const char *what, double error, double limit,
                       bool is_lossy)
{
    if (is_lossy) {
        f->tally.sum_error = error > f->tally.sum_error ? error : f->tally.sum_error;
    }
    if (error > (is_lossy ? limit : 0) && f->detail->size == 0) {
        buf_addf(f->detail, "%s: a patch's sum is off by %.0f", what, error);
    }
}

// ---------------------------------------------------------------------------------- images.jsonl

static void compare_picks(struct row_file *f, const struct carat_media *media, const char *prefix,
                          const char *budget, const char *form, size_t side, bool is_lossy)
{
    const struct carat_media_info *info = carat_media_info(media);
    const uint8_t *pixels = carat_media_frame(media, 0, NULL);
    struct nearness d = {.n = 0};
    char name[64];
    size_t n = (info->width / side) * (info->height / side), row = side * side * 3;
    snprintf(name, sizeof(name), "%s/%spick", budget, form);
    const struct safetensors_tensor *picks = find(f, prefix, name, DTYPE_I32, 0);
    snprintf(name, sizeof(name), "%s/%srows", budget, form);
    const struct safetensors_tensor *rows =
        picks ? find(f, prefix, name, DTYPE_U8, picks->values * row) : NULL;
    for (size_t i = 0; rows && i < picks->values; i++) {
        if (u32_at(picks, i) < n) {
            compare_piece(&d, pixels, info->width, side, u32_at(picks, i), rows->data + i * row);
        }
    }
    if (rows) {
        judge_rows(f, name, &d, is_lossy);
    }
}

static void compare_positions(struct row_file *f, const struct json_value *expected,
                              const char *prefix, const char *budget, size_t n_x)
{
    char name[64];
    snprintf(name, sizeof(name), "%s/pick", budget);
    const struct safetensors_tensor *picks = find(f, prefix, name, DTYPE_I32, json_count(expected));
    size_t i = 0;
    for (struct json_iter it = json_iter(expected); picks && json_next(&it); i++) {
        struct json_iter place = json_iter(it.value);
        uint64_t x = UINT64_MAX, y = UINT64_MAX;
        if (json_next(&place)) {
            json_u64(place.value, &x);
        }
        if (json_next(&place)) {
            json_u64(place.value, &y);
        }
        expect(f, "column of a patch", x, u32_at(picks, i) % n_x);
        expect(f, "row of a patch", y, u32_at(picks, i) / n_x);
    }
}

static void compare_budget(struct row_file *f, const struct carat_media *media, const char *prefix,
                           const char *budget, const struct json_value *expected)
{
    const struct carat_media_info *info = carat_media_info(media);
    bool is_lossy = json_bool(member(f, "lossy"));
    char name[200];
    expect(f, "width", integer(json_root(f->row), "width"), info->source_width);
    expect(f, "height", integer(json_root(f->row), "height"), info->source_height);
    expect(f, "width for the model", integer(expected, "width"), info->width);
    expect(f, "height for the model", integer(expected, "height"), info->height);
    expect(f, "soft tokens", integer(expected, "soft_tokens"), info->n_tokens);
    if (f->detail->size) {
        return;
    }
    compare_positions(f, json_get(expected, "positions"), prefix, budget, info->width / BLOCK);
    compare_picks(f, media, prefix, budget, "", BLOCK, is_lossy);
    snprintf(name, sizeof(name), "%s/sums", budget);
    const struct safetensors_tensor *sums =
        find(f, prefix, name, DTYPE_U32, (uint64_t)info->n_tokens * 3);
    if (sums) {
        judge_sums(
            f, name,
            compare_sums(carat_media_frame(media, 0, NULL), info->width, info->height, sums, 0),
            SUM_ERROR_MAX, is_lossy);
    }
    snprintf(name, sizeof(name), "%s/%s/tower_pick", prefix, budget);
    if (safetensors_find(f->tensors, name)) {
        compare_picks(f, media, prefix, budget, "tower_", TOWER_PATCH, is_lossy);
    }
}

int check_image_row(struct row_file *f, struct carat_error *err)
{
    struct slice name = json_string(member(f, "name")), decode = json_string(member(f, "decode"));
    char file[100], prefix[130];
    snprintf(file, sizeof(file), "%.*s", (int)name.size, name.size ? name.data : "");
    snprintf(prefix, sizeof(prefix), "%s/%.*s", file, (int)(decode.size > 20 ? 20 : decode.size),
             decode.size ? decode.data : "");
    f->tally.n_lossy += json_bool(member(f, "lossy"));
    for (struct json_iter it = json_iter(member(f, "budgets")); json_next(&it);) {
        char budget[16];
        struct carat_media *media = NULL;
        snprintf(budget, sizeof(budget), "%.*s", (int)(it.key.size > 8 ? 8 : it.key.size),
                 it.key.data);
        struct carat_media_source source = {.type = CARAT_MEDIA_IMAGE,
                                            .blends_alpha = slice_is(decode, "white")};
        for (const char *c = budget; *c; c++) {
            source.image_tokens = source.image_tokens * 10 + (uint32_t)(*c - '0');
        }
        int rc = open_row_file(f, "images", file, &source, &media, err);
        if (rc) {
            return rc;
        }
        compare_budget(f, media, prefix, budget, it.value);
        carat_media_free(media);
    }
    return 0;
}

void tell_images(const struct tally *t, struct buf *out)
{
    buf_addf(out,
             "lossless ones exact; of %zu lossy ones the mean error is at most %.3f (%.1f), "
             "%.2f %% of the values are beyond %d (0.1 %%), sums off by %.0f (%d)",
             t->n_lossy, t->row_mean, ROW_MEAN_MAX, 100 * t->row_far, ROW_FAR, t->sum_error,
             SUM_ERROR_MAX);
}

// ---------------------------------------------------------------------------------- audio.jsonl

static void compare_frames(struct row_file *f, const char *name, const float *samples, size_t n)
{
    size_t n_frames = (n + FRAME_SAMPLES - 1) / FRAME_SAMPLES;
    double largest = 0, largest_sum = 0;
    const struct safetensors_tensor *sums = find(f, name, "frame_sums", DTYPE_F64, n_frames);
    if (n_frames == 0 || !sums) {
        return;
    }
    const struct safetensors_tensor *picks = find(f, name, "pick", DTYPE_I32, 0);
    const struct safetensors_tensor *frames =
        picks ? find(f, name, "frames", DTYPE_F32, picks->values * FRAME_SAMPLES) : NULL;
    for (size_t i = 0; frames && i < picks->values; i++) {
        for (size_t j = 0; j < FRAME_SAMPLES; j++) {
            size_t at = (size_t)u32_at(picks, i) * FRAME_SAMPLES + j;
            float expected = 0, found = at < n ? samples[at] : 0;
            memcpy(&expected, frames->data + (i * FRAME_SAMPLES + j) * sizeof(expected),
                   sizeof(expected));
            largest = fmax(largest, fabs((double)found - (double)expected));
        }
    }
    for (size_t i = 0; i < n_frames; i++) {
        double expected = 0, found = 0;
        memcpy(&expected, sums->data + i * sizeof(expected), sizeof(expected));
        for (size_t j = i * FRAME_SAMPLES; j < n && j < (i + 1) * FRAME_SAMPLES; j++) {
            found += (double)samples[j];
        }
        largest_sum = fmax(largest_sum, fabs(found - expected));
    }
    f->tally.frame_error = fmax(f->tally.frame_error, largest);
    f->tally.frame_sum_error = fmax(f->tally.frame_sum_error, largest_sum);
    if ((largest > FRAME_TOLERANCE || largest_sum > FRAME_SUM_ERROR) && f->detail->size == 0) {
        buf_addf(f->detail, "a sample is off by %.2g, a frame's sum by %.2g", largest, largest_sum);
    }
}

static void compare_wave(struct row_file *f, const char *name, const float *samples, size_t n)
{
    double signal = 0, noise = 0, least = json_double(member(f, "min_snr_db"));
    const struct safetensors_tensor *wave = find(f, name, "waveform_i16", DTYPE_I16, n);
    for (size_t i = 0; wave && i < n; i++) {
        int16_t value = 0;
        memcpy(&value, wave->data + i * sizeof(value), sizeof(value));
        double expected = (double)value / 32768, error = (double)samples[i] - expected;
        signal += expected * expected;
        noise += error * error;
    }
    double snr = noise > 0 ? 10 * log10(signal / noise) : (double)INFINITY;
    struct tally *t = &f->tally;
    if (wave && (t->n_lossy == 0 || snr - least < t->snr_reserve)) {
        t->snr_reserve = snr - least;
    }
    t->n_lossy++;
    if (wave && !(snr >= least) && f->detail->size == 0) {
        buf_addf(f->detail, "signal to noise: expected at least %.1f dB, found %.1f", least, snr);
    }
}

int check_audio_row(struct row_file *f, struct carat_error *err)
{
    struct slice name = json_string(member(f, "name"));
    struct carat_media *media = NULL;
    char file[100];
    size_t n = 0;
    snprintf(file, sizeof(file), "%.*s", (int)name.size, name.size ? name.data : "");
    f->tally.n_tower += member(f, "tower") != NULL;
    if (!carat_media_has("ffmpeg") && !slice_ends(name, ".wav")) {
        f->tally.n_left_out++;
        return 0;
    }
    struct carat_media_source source = {.type = CARAT_MEDIA_AUDIO, .segment_seconds = -1};
    int rc = open_row_file(f, "audio", file, &source, &media, err);
    if (rc) {
        return rc;
    }
    const struct carat_media_info *info = carat_media_info(media);
    const float *samples = carat_media_samples(media, &n);
    expect(f, "rate", integer(json_root(f->row), "rate"), info->source_rate);
    expect(f, "channels", integer(json_root(f->row), "channels"), info->source_channels);
    expect(f, "samples", integer(json_root(f->row), "samples"), n);
    expect(f, "soft tokens", integer(json_root(f->row), "soft_tokens"), info->n_tokens);
    if (f->detail->size == 0 && json_bool(member(f, "exact"))) {
        compare_frames(f, file, samples, n);
    } else if (f->detail->size == 0) {
        compare_wave(f, file, samples, n);
    }
    carat_media_free(media);
    return 0;
}

void tell_audio(const struct tally *t, struct buf *out)
{
    buf_addf(out,
             "samples off by %.2g at most (%g), frames' sums by %.2g (%g); %zu resampled or lossy "
             "ones at least %.1f dB better than asked",
             t->frame_error, FRAME_TOLERANCE, t->frame_sum_error, FRAME_SUM_ERROR, t->n_lossy,
             t->snr_reserve);
}

// ------------------------------------------------------------------------------------- prompts

// Ids as runs [[id, count], ...]; runs of `loose` may be one longer or shorter.
static void compare_runs(struct row_file *f, const char *what, const struct json_value *runs,
                         const carat_token *ids, size_t n, carat_token loose)
{
    size_t at = 0;
    for (struct json_iter it = json_iter(runs); f->detail->size == 0 && json_next(&it);) {
        struct json_iter run = json_iter(it.value);
        uint64_t id = 0, count = 0;
        if (!json_next(&run) || !json_u64(run.value, &id) || !json_next(&run) ||
            !json_u64(run.value, &count)) {
            buf_addf(f->detail, "%s: expected pairs of id and count", what);
            return;
        }
        size_t found = 0;
        while (at + found < n && ids[at + found] == (carat_token)id) {
            found++;
        }
        // Equal ids may stand in two runs that follow one another.
        found = found > count && (carat_token)id != loose ? (size_t)count : found;
        bool is_near = (carat_token)id == loose && found + 1 >= count && found <= count + 1;
        if (found != count && !is_near) {
            buf_addf(f->detail, "%s differ at %zu: expected %llu times %llu, found %zu, then %lld",
                     what, at, (unsigned long long)count, (unsigned long long)id, found,
                     at + found < n ? (long long)ids[at + found] : -1LL);
        }
        at += found;
    }
    if (f->detail->size == 0 && at != n) {
        buf_addf(f->detail, "%s: expected %zu, found %zu", what, at, n);
    }
}

// Placeholders by their type: 1 picture, 2 film, 3 sound, 0 all else.
static int types_of(struct row_file *f, carat_token **out, const carat_token *ids, size_t n,
                    struct carat_error *err)
{
    static const char *const names[] = {"<|image|>", "<|video|>", "<|audio|>"};
    carat_token placeholders[3], *types = mem_new_array(n + 1, sizeof(*types), err);
    if (!types) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < 3; i++) {
        carat_tokenize(f->engine, names[i], strlen(names[i]), CARAT_TOKENIZE_SPECIAL,
                       &placeholders[i], 1, NULL);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < 3; j++) {
            types[i] = ids[i] == placeholders[j] ? (carat_token)(j + 1) : types[i];
        }
    }
    *out = types;
    return 0;
}

static int compare_conversation(struct row_file *f, const struct conversation *c, bool thinks,
                                const struct json_value *ids_rle,
                                const struct json_value *types_rle, bool is_loose,
                                struct carat_error *err)
{
    struct carat_prompt *prompt = NULL;
    carat_token *types = NULL, audio = CARAT_TOKEN_NONE;
    size_t n = 0;
    struct carat_chat chat = {.messages = c->messages,
                              .n_messages = c->n,
                              .chat_template = CARAT_TEMPLATE_CANONICAL,
                              .thinks = thinks,
                              .trusts_markers = true};
    int rc = carat_prompt_from_chat(&prompt, f->engine, &chat, err);
    if (rc) {
        return rc;
    }
    if (is_loose) {
        carat_tokenize(f->engine, "<|audio|>", 9, CARAT_TOKENIZE_SPECIAL, &audio, 1, NULL);
    }
    const carat_token *ids = carat_prompt_tokens(prompt, &n);
    compare_runs(f, is_loose ? "ids with sound" : "ids", ids_rle, ids, n, audio);
    if (types_rle) {
        rc = types_of(f, &types, ids, n, err);
        if (rc == 0) {
            compare_runs(f, "types", types_rle, types, n, CARAT_TOKEN_NONE);
        }
    }
    mem_free(types);
    carat_prompt_free(prompt);
    return rc;
}

int check_mixed_row(struct row_file *f, struct carat_error *err)
{
    struct conversation c = {.messages = NULL};
    struct buf folder = {.max = 1 << 16};
    uint64_t tokens = integer(member(f, "processor_kwargs"), "max_soft_tokens");
    path_join(&folder, f->folder, "");
    c.media_folder = buf_text(&folder);
    c.media_how = (struct media_how){.image_tokens = tokens ? (uint32_t)tokens : DEFAULT_TOKENS,
                                     .segment_seconds = -1};
    int rc = conversation_read(&c, member(f, "messages"), 0, err);
    rc = rc ? rc : conversation_open_media(&c, f->engine, NULL, err);
    rc = rc ? rc
            : compare_conversation(f, &c, json_bool(member(f, "enable_thinking")),
                                   member(f, "ids_rle"), member(f, "types_rle"), false, err);
    conversation_release(&c);
    buf_release(&folder);
    return rc;
}

// ---------------------------------------------------------------------------------- video.jsonl

static void compare_times(struct row_file *f, const struct carat_media *media,
                          const struct json_value *expected)
{
    const struct carat_media_info *info = carat_media_info(media);
    struct json_iter frames = json_iter(json_get(expected, "frames"));
    struct json_iter times = json_iter(json_get(expected, "timestamps"));
    double fps = json_double(json_get(expected, "fps"));
    expect(f, "frames", json_count(json_get(expected, "frames")), info->n_frames);
    for (size_t i = 0; i < info->n_frames && json_next(&frames) && json_next(&times); i++) {
        char stamp[32];
        double seconds = 0;
        uint64_t number = 0;
        carat_media_frame(media, i, &seconds);
        json_u64(frames.value, &number);
        expect(f, "number of a frame", number, (uint64_t)llround(seconds * fps));
        uint64_t whole = (uint64_t)floor(seconds);
        snprintf(stamp, sizeof(stamp), "%02llu:%02llu", (unsigned long long)(whole / 60),
                 (unsigned long long)(whole % 60));
        row_compare_text(f, "time of a frame", json_string(times.value), slice_of(stamp));
    }
}

static void compare_film_pixels(struct row_file *f, const char *name,
                                const struct carat_media *media)
{
    const struct carat_media_info *info = carat_media_info(media);
    size_t n = (info->width / BLOCK) * (info->height / BLOCK);
    const size_t picks[3] = {0, n / 2, n - 1}, row = BLOCK * BLOCK * 3;
    struct nearness d = {.n = 0};
    double sum_error = 0;
    const struct safetensors_tensor *sums =
        find(f, name, "sums", DTYPE_U32, (uint64_t)info->n_frames * n * 3);
    const struct safetensors_tensor *numbers = find(f, name, "row_frames", DTYPE_I32, 0);
    const struct safetensors_tensor *rows =
        numbers ? find(f, name, "rows", DTYPE_U8, numbers->values * 3 * row) : NULL;
    for (size_t i = 0; rows && i < numbers->values; i++) {
        const uint8_t *pixels = carat_media_frame(media, u32_at(numbers, i), NULL);
        for (size_t j = 0; pixels && j < 3; j++) {
            compare_piece(&d, pixels, info->width, BLOCK, picks[j], rows->data + (i * 3 + j) * row);
        }
    }
    for (size_t i = 0; sums && i < info->n_frames; i++) {
        sum_error = fmax(sum_error, compare_sums(carat_media_frame(media, i, NULL), info->width,
                                                 info->height, sums, i * n));
    }
    double mean = d.n ? d.sum / (double)d.n : 0;
    f->tally.row_mean = fmax(f->tally.row_mean, mean);
    judge_sums(f, "sums", sum_error, FILM_SUM_ERROR, true);
    if (rows && mean > FILM_ROW_MEAN && f->detail->size == 0) {
        buf_addf(f->detail, "rows: mean error %.2f", mean);
    }
}

// How one case of a row asks for frames: "default", "num_frames=8", "fps=2".
static bool read_case(struct slice key, struct carat_media_source *source)
{
    char text[40];
    double value = 0;
    snprintf(text, sizeof(text), "%.*s", (int)(key.size > 39 ? 39 : key.size), key.data);
    if (strcmp(text, "default") == 0) {
        source->n_frames = DEFAULT_FRAMES;
    } else if (sscanf(text, "num_frames=%lf", &value) == 1 && value >= 1 && value <= 1024) {
        source->n_frames = (size_t)value;
    } else if (sscanf(text, "fps=%lf", &value) == 1 && value > 0) {
        source->frames_per_second = value;
    } else {
        return false;
    }
    return true;
}

static int check_case(struct row_file *f, const char *name, struct slice key,
                      const struct json_value *expected, struct carat_error *err)
{
    struct carat_media *media = NULL;
    struct carat_media_source source = {.type = CARAT_MEDIA_VIDEO, .drops_sound = true};
    if (!read_case(key, &source)) {
        return 0;
    }
    int rc = open_row_file(f, "video", name, &source, &media, err);
    if (rc) {
        return rc;
    }
    const struct carat_media_info *info = carat_media_info(media);
    if (json_get(expected, "error")) {
        // The reference refuses a film that is shorter than asked for; here all of it is shown.
        expect(f, "frames", info->source_frames, info->n_frames);
    } else {
        expect(f, "frames of the file", integer(expected, "total_frames"), info->source_frames);
        expect(f, "width", integer(expected, "width"), info->source_width);
        expect(f, "height", integer(expected, "height"), info->source_height);
        expect(f, "soft tokens", integer(expected, "soft_tokens_per_frame") * info->n_frames,
               info->n_tokens);
        double fps = json_double(json_get(expected, "fps"));
        if (fabs(fps - info->source_fps) > 1e-6 * fps && f->detail->size == 0) {
            buf_addf(f->detail, "frames per second: expected %.9g, found %.9g", fps,
                     info->source_fps);
        }
        compare_times(f, media, expected);
        if (f->detail->size == 0 && slice_is(key, "default")) {
            compare_film_pixels(f, name, media);
        }
    }
    carat_media_free(media);
    return 0;
}

static int check_film_prompt(struct row_file *f, const char *name, bool has_sound,
                             const struct json_value *expected, struct carat_error *err)
{
    struct slice text = json_string(json_get(expected, "text"));
    struct buf path = {.max = 1 << 16}, relative = {.max = 1 << 16};
    struct conversation c = {.messages = NULL};
    buf_addf(&relative, "video/%s", name);
    path_join(&path, f->folder, buf_text(&relative));
    struct attachment film = {
        .type = CARAT_MEDIA_VIDEO,
        .source = buf_text(&path),
        .how = {.n_frames = DEFAULT_FRAMES, .drops_sound = !has_sound, .segment_seconds = -1},
    };
    int rc = conversation_add_media(&c, "user", &film, 1, text.data, text.size, 1, err);
    rc = rc ? rc : conversation_open_media(&c, f->engine, NULL, err);
    rc = rc ? rc
            : compare_conversation(f, &c, false, json_get(expected, "ids_rle"), NULL, has_sound,
                                   err);
    conversation_release(&c);
    buf_release(&path);
    buf_release(&relative);
    return rc;
}

int check_video_row(struct row_file *f, struct carat_error *err)
{
    struct slice name = json_string(member(f, "name"));
    char file[100];
    int rc = 0;
    snprintf(file, sizeof(file), "%.*s", (int)name.size, name.size ? name.data : "");
    for (struct json_iter it = json_iter(json_root(f->row)); rc == 0 && json_next(&it);) {
        bool has_sound = slice_is(it.key, "prompt_audio");
        if (json_kind(it.value) != JSON_OBJECT) {
            continue;
        }
        if (has_sound || slice_is(it.key, "prompt")) {
            rc = json_get(it.value, "ids_rle")
                     ? check_film_prompt(f, file, has_sound, it.value, err)
                     : 0;
        } else {
            rc = check_case(f, file, it.key, it.value, err);
        }
    }
    return rc;
}

void tell_video(const struct tally *t, struct buf *out)
{
    buf_addf(out,
             "frames, times and prompts exact; pixels off by %.2f on average at most (%.0f), sums "
             "by %.0f (%d)",
             t->row_mean, FILM_ROW_MEAN, t->sum_error, FILM_SUM_ERROR);
}
