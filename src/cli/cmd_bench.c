// SPDX-License-Identifier: Apache-2.0
// carat bench: how fast prompts are evaluated and tokens made, and what it takes in memory.
#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "cli/bench_limits.h"
#include "cli/bench_media.h"
#include "cli/loading.h"

#include <string.h>

#define RUNS_MAX 1000

struct bench_options {
    struct option_counts prefill;
    struct option_count decode;
    struct option_counts depth;
    struct option_count runs;
    bool is_media, has_limits;
    const char *image, *audio;
    struct option_counts image_tokens;
    bool is_json, is_quiet;
    struct model_settings model;
};

#define AT(field) offsetof(struct bench_options, field)
static const struct option bench_rows[] = {
    {"prefill", OPTION_COUNTS, "N,...", "lengths of prompts to evaluate; 0: none (default: 512)",
     AT(prefill), 0, 16777216, NULL},
    {"decode", OPTION_COUNT, "N", "tokens to make at each depth; 0: none (default: 32)", AT(decode),
     0, 1000000, NULL},
    {"depth", OPTION_COUNTS, "N,...", "tokens that stand before the ones made (default: 0)",
     AT(depth), 0, 16777216, NULL},
    {"runs", OPTION_COUNT, "R",
     "measure each R times, after one run that does not count (default: "
     "3)",
     AT(runs), 1, RUNS_MAX, NULL},
    {"limits", OPTION_FLAG, NULL,
     "measure what the machine can do at most, and show each speed as a share of what binds it",
     AT(has_limits), 0, 0, NULL},
    {"media", OPTION_FLAG, NULL,
     "measure what pictures and sound cost before the decoder, against the prefill of as many "
     "tokens",
     AT(is_media), 0, 0, NULL},
    {"image", OPTION_TEXT, "FILE",
     "with --media: decode this picture each time (default: 4000 x 3000 pixels, made up)",
     AT(image), 0, 0, NULL},
    {"audio", OPTION_TEXT, "FILE",
     "with --media: decode this sound each time (default: 30 s at 48 kHz, made up)", AT(audio), 0,
     0, NULL},
    {"image-tokens", OPTION_COUNTS, "N,...",
     "with --media: budgets of a picture (default: 70,140,280,560,1120)", AT(image_tokens), 70,
     1120, NULL},
    {"json", OPTION_FLAG, NULL, "print a JSON object", AT(is_json), 0, 0, NULL},
    {"quiet", OPTION_FLAG, NULL, "no progress on standard error", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};
#undef AT

// One thing that is measured.
struct measure {
    size_t tokens;
    size_t depth;
    bool is_decode;
    double seconds[RUNS_MAX];
};

struct bench {
    const struct bench_options *options;
    struct output *out;
    struct loaded loaded;
    struct carat_memory memory;
    struct carat_limits limits; // n_threads 0: not asked for
    uint64_t private_peak;      // the most that was seen
    size_t n_runs;
    struct measure *measures;
    size_t n_measures;
    carat_token *tokens; // room for the longest prompt
    bool is_visible;
};

// Prompts are the same in every run of the program: what they say does not matter, but ordinary
// tokens all over the vocabulary must be looked up. A linear congruential generator (Knuth, MMIX).
static carat_token make_token(const struct bench *b, uint64_t *state)
{
    size_t n_vocab = carat_engine_info(b->loaded.engine)->n_vocab;
    carat_token token = 0;
    for (int tries = 0; tries < 100; tries++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        token = (carat_token)((*state >> 33) % n_vocab);
        if (!carat_token_is_special(b->loaded.engine, token)) {
            break;
        }
    }
    return token;
}

static void watch_memory(struct bench *b)
{
    uint64_t now = os_memory_private();
    b->private_peak = now > b->private_peak ? now : b->private_peak;
}

// Makes the timeline n new tokens, none of them reused: the first one differs from run to run.
static int prefill(struct bench *b, size_t n, uint64_t run, double *seconds,
                   struct carat_error *err)
{
    struct carat_prompt *prompt = NULL;
    uint64_t state = run * 7919 + 1;
    b->tokens[0] = (carat_token)(run % carat_engine_info(b->loaded.engine)->n_vocab);
    for (size_t i = 1; i < n; i++) {
        b->tokens[i] = make_token(b, &state);
    }
    int rc = carat_prompt_from_tokens(&prompt, b->loaded.engine, b->tokens, n, err);
    if (rc) {
        return rc;
    }
    double started = os_seconds();
    rc = carat_session_sync(b->loaded.session, prompt, NULL, err);
    *seconds = os_seconds() - started;
    carat_prompt_free(prompt);
    progress_end(&b->loaded.prefill_progress);
    return rc;
}

static int decode(struct bench *b, const struct measure *m, uint64_t run, double *seconds,
                  struct carat_error *err)
{
    double ignored = 0;
    uint64_t state = run + 99;
    // Depth 0 has to begin with something too.
    int rc = prefill(b, m->depth ? m->depth : 1, run, &ignored, err);
    if (rc) {
        return rc;
    }
    double started = os_seconds();
    for (size_t i = 0; i < m->tokens; i++) {
        struct carat_step step = {.session = b->loaded.session, .token = make_token(b, &state)};
        rc = carat_decode(&step, 1, err);
        if (rc) {
            return rc;
        }
        if (os_interrupted()) {
            return fail(err, CARAT_E_STOPPED, "interrupted");
        }
    }
    *seconds = os_seconds() - started;
    return 0;
}

static void say_step(const struct bench *b, const struct measure *m, size_t run)
{
    if (!b->is_visible) {
        return;
    }
    struct buf line = {.max = 200};
    if (m->is_decode) {
        buf_addf(&line, "decode %zu at depth %zu", m->tokens, m->depth);
    } else {
        buf_addf(&line, "prefill %zu", m->tokens);
    }
    if (run == 0) {
        say_plain("[%s: warming up]", buf_text(&line));
    } else {
        say_plain("[%s: run %zu of %zu]", buf_text(&line), run, b->n_runs);
    }
    buf_release(&line);
}

static int measure_all(struct bench *b, struct carat_error *err)
{
    uint64_t run_number = 1;
    for (size_t i = 0; i < b->n_measures; i++) {
        struct measure *m = &b->measures[i];
        for (size_t run = 0; run <= b->n_runs; run++, run_number++) {
            double seconds = 0;
            say_step(b, m, run);
            int rc = m->is_decode ? decode(b, m, run_number, &seconds, err)
                                  : prefill(b, m->tokens, run_number, &seconds, err);
            if (rc) {
                return rc;
            }
            watch_memory(b);
            if (run > 0) {
                m->seconds[run - 1] = seconds;
            }
        }
    }
    return 0;
}

struct speeds {
    double median, min, max;
};

// How much of the machine's limit a speed is, 0 to 1; 0 where limits were not asked for.
struct share {
    double of_limit;
    bool is_reading; // of memory; else multiplying
};

static struct share share_of(const struct bench *b, const struct measure *m, double tokens_per_s)
{
    struct share share = {0, false};
    const struct carat_engine *engine = b->loaded.engine;
    struct carat_session_options session;
    struct carat_cost cost;
    settings_session(&session, &b->options->model, NULL);
    session.context_max = b->memory.context_max;
    // A step in the middle stands for all steps of a run.
    size_t first = m->is_decode ? (m->depth ? m->depth : 1) + m->tokens / 2 : 0;
    size_t n = m->is_decode ? 1 : m->tokens;
    if (b->limits.n_threads == 0 || carat_engine_cost(&cost, engine, &session, first, n, NULL)) {
        return share;
    }
    double least =
        limits_seconds(&b->limits, carat_engine_info(engine)->cpu_level, &cost, &share.is_reading);
    share.of_limit = least * tokens_per_s / (double)n;
    return share;
}

static struct speeds speeds_of(const struct measure *m, size_t n)
{
    double sorted[RUNS_MAX];
    struct speeds s;
    for (size_t i = 0; i < n; i++) {
        double speed = m->seconds[i] > 0 ? (double)m->tokens / m->seconds[i] : 0;
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > speed; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = speed;
    }
    s.min = sorted[0];
    s.max = sorted[n - 1];
    s.median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    return s;
}

static void write_json_list(const struct bench *b, struct buf *out, bool is_decode)
{
    bool is_first = true;
    for (size_t i = 0; i < b->n_measures; i++) {
        const struct measure *m = &b->measures[i];
        if (m->is_decode != is_decode) {
            continue;
        }
        struct speeds s = speeds_of(m, b->n_runs);
        buf_addf(out, "%s{", is_first ? "" : ",");
        if (is_decode) {
            buf_addf(out, "\"depth\":%zu,", m->depth);
        }
        buf_addf(out,
                 "\"tokens\":%zu,\"tokens_per_s\":%.3f,\"min_tokens_per_s\":%.3f,"
                 "\"max_tokens_per_s\":%.3f",
                 m->tokens, s.median, s.min, s.max);
        struct share share = share_of(b, m, s.median);
        if (share.of_limit > 0) {
            buf_addf(out, ",\"share_of_limit\":%.4f,\"bound_by\":\"%s\"", share.of_limit,
                     share.is_reading ? "memory" : "multiply-adds");
        }
        buf_adds(out, "}");
        is_first = false;
    }
}

static void write_json(const struct bench *b, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(b->loaded.engine);
    const struct carat_memory *m = &b->memory;
    buf_adds(out, "{\"prefill\":[");
    write_json_list(b, out, false);
    buf_adds(out, "],\"decode\":[");
    write_json_list(b, out, true);
    buf_addf(out,
             "],\"memory\":{\"weights\":%llu,\"tables\":%llu,\"kv_sliding\":%llu,\"kv_full\":%llu,"
             "\"scratch\":%llu,\"total\":%llu,\"context\":%zu,\"measured_private\":%llu,"
             "\"measured_resident_peak\":%llu}",
             (unsigned long long)m->weights, (unsigned long long)m->tables,
             (unsigned long long)m->kv_sliding, (unsigned long long)m->kv_full,
             (unsigned long long)m->scratch, (unsigned long long)m->total, m->context_max,
             (unsigned long long)b->private_peak, (unsigned long long)os_memory_resident_peak());
    if (b->limits.n_threads) {
        buf_adds(out, ",");
        limits_write_json(&b->limits, out);
    }
    buf_adds(out, ",\"model\":");
    buf_add_json(out, info->name, strlen(info->name));
    buf_addf(out,
             ",\"weight_type\":\"%s\",\"cpu\":\"%s\",\"threads\":%zu,\"runs\":%zu,"
             "\"load_s\":%.4f}\n",
             info->weight_type, info->cpu_level, info->n_threads, b->n_runs, b->loaded.load_s);
}

static void write_table(const struct bench *b, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(b->loaded.engine);
    const struct carat_memory *m = &b->memory;
    buf_addf(out, "%s, %s, %zu threads (%s), loaded in %.2f s\n\n", info->name, info->weight_type,
             info->n_threads, info->cpu_level, b->loaded.load_s);
    if (b->limits.n_threads) {
        limits_write_table(&b->limits, out);
    }
    buf_addf(out, "%-8s %8s %8s %12s %12s %12s%s\n", "", "depth", "tokens", "tokens/s", "slowest",
             "fastest", b->limits.n_threads ? "  of the limit" : "");
    for (size_t i = 0; i < b->n_measures; i++) {
        const struct measure *one = &b->measures[i];
        struct speeds s = speeds_of(one, b->n_runs);
        buf_addf(out, "%-8s %8zu %8zu %12.2f %12.2f %12.2f", one->is_decode ? "decode" : "prefill",
                 one->depth, one->tokens, s.median, s.min, s.max);
        struct share share = share_of(b, one, s.median);
        if (share.of_limit > 0) {
            buf_addf(out, "  %5.1f %% of %s", 100 * share.of_limit,
                     share.is_reading ? "memory" : "multiply-adds");
        }
        buf_adds(out, "\n");
    }
    buf_addf(out, "\ntokens/s is the median of %zu runs.\nMemory for a context of %zu tokens: ",
             b->n_runs, m->context_max);
    buf_addf(out, "%s planned (weights %s, ", size_text(m->total).text, size_text(m->weights).text);
    buf_addf(out, "kv cache %s, ", size_text(m->kv_sliding + m->kv_full).text);
    buf_addf(out, "other %s),\n", size_text(m->tables + m->scratch).text);
    buf_addf(out, "%s private and ", size_text(b->private_peak).text);
    buf_addf(out, "%s resident at most, file pages included.\n",
             size_text(os_memory_resident_peak()).text);
}

// The list of what to measure, from the options.
static int plan(struct bench *b, size_t *context, struct carat_error *err)
{
    const struct bench_options *o = b->options;
    struct option_counts prefills = o->prefill, depths = o->depth;
    size_t n_decode = o->decode.is_set ? (size_t)o->decode.value : 32;
    size_t longest = 1;
    if (prefills.n == 0) {
        prefills = (struct option_counts){.items = {512}, .n = 1};
    }
    if (depths.n == 0) {
        depths.n = 1; // depth 0
    }
    b->measures = mem_new_array(prefills.n + depths.n, sizeof(*b->measures), err);
    if (!b->measures) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < prefills.n; i++) {
        size_t n = (size_t)prefills.items[i];
        if (n > 0) {
            b->measures[b->n_measures++] = (struct measure){.tokens = n};
            longest = n > longest ? n : longest;
        }
    }
    *context = longest;
    for (size_t i = 0; n_decode > 0 && i < depths.n; i++) {
        size_t depth = (size_t)depths.items[i], start = depth ? depth : 1;
        b->measures[b->n_measures++] =
            (struct measure){.tokens = n_decode, .depth = depth, .is_decode = true};
        longest = start > longest ? start : longest;
        *context = start + n_decode > *context ? start + n_decode : *context;
    }
    b->tokens = mem_new_array(longest, sizeof(*b->tokens), err);
    return b->tokens ? 0 : CARAT_E_MEMORY;
}

static int bench_all(struct bench *b, const char *model, struct carat_error *err)
{
    size_t context = 0;
    int rc = plan(b, &context, err);
    if (rc) {
        return rc;
    }
    struct model_settings settings = b->options->model;
    if (!settings.context.is_set) {
        settings.context = (struct option_count){.is_set = true, .value = context};
    } else if (settings.context.value < context) {
        return fail(err, CARAT_E_ARGUMENT,
                    "bench: --context %llu is less than the %zu tokens that are to be measured",
                    (unsigned long long)settings.context.value, context);
    }
    struct loading_options loading = {
        .model = model, .settings = &settings, .is_quiet = b->options->is_quiet};
    rc = loaded_open(&b->loaded, &loading, b->out, err);
    if (rc) {
        return rc;
    }
    struct carat_session_options session;
    settings_session(&session, &settings, NULL);
    rc = carat_engine_estimate(&b->memory, b->loaded.engine, &session, err);
    watch_memory(b);
    rc = rc ? rc : measure_all(b, err);
    if (rc == 0 && b->options->has_limits) {
        rc = carat_measure_limits(&b->limits, carat_engine_info(b->loaded.engine)->n_threads, err);
    }
    return rc;
}

static int run_bench_media(const struct command_call *call)
{
    const struct bench_options *o = call->options;
    struct carat_error err;
    struct loaded loaded = {.engine = NULL};
    struct bench_media_options options = {
        .image = o->image,
        .audio = o->audio,
        .image_tokens = o->image_tokens,
        .n_runs = o->runs.is_set ? (size_t)o->runs.value : 3,
        .is_json = o->is_json,
        .is_visible = call->out->errors_are_terminal && !o->is_quiet,
        .settings = &o->model,
        .is_quiet = o->is_quiet,
    };
    int code = EXIT_OK;
    os_catch_interrupt();
    if (bench_media(&options, call->n_args ? call->args[0] : NULL, &loaded, call->out, &err)) {
        progress_end(&loaded.progress);
        progress_end(&loaded.prefill_progress);
        code = say_error(&err);
    }
    loaded_release(&loaded);
    return code;
}

static int run_bench(const struct command_call *call)
{
    const struct bench_options *asked = call->options;
    if (asked->is_media) {
        return run_bench_media(call);
    }
    if (asked->image || asked->audio || asked->image_tokens.n) {
        say("bench: --image, --audio and --image-tokens go with --media");
        return EXIT_USAGE;
    }
    const struct bench_options *o = call->options;
    struct carat_error err;
    struct bench b = {
        .options = o,
        .out = call->out,
        .n_runs = o->runs.is_set ? (size_t)o->runs.value : 3,
        .is_visible = call->out->errors_are_terminal && !o->is_quiet,
    };
    int code = EXIT_OK;
    os_catch_interrupt();
    if (bench_all(&b, call->n_args ? call->args[0] : NULL, &err)) {
        progress_end(&b.loaded.progress);
        progress_end(&b.loaded.prefill_progress);
        code = say_error(&err);
    } else {
        struct buf text = {.max = 1 << 20};
        if (o->is_json) {
            write_json(&b, &text);
        } else {
            write_table(&b, &text);
        }
        output_write(call->out, buf_text(&text), text.size);
        buf_release(&text);
    }
    loaded_release(&b.loaded);
    mem_free(b.measures);
    mem_free(b.tokens);
    return code;
}

const struct command command_bench = {
    .name = "bench",
    .summary = "measure speed and memory",
    .synopsis = "[MODEL] [options]",
    .details =
        "Measures how fast prompts are evaluated (prefill) and tokens are made (decode, at given "
        "depths of the conversation), and how much memory that took. The tokens are arbitrary, the "
        "same in every run. The table shows the median of the runs; JSON has it as "
        "tokens_per_s.\n\n"
        "With --media it measures instead what a picture of each budget and a sound take to be "
        "prepared (decoded, brought to size) and embedded, in milliseconds and in per cent of the "
        "time that the decoder takes for as many tokens.",
    .groups =
        (const struct option_group[]){
            {"Options", bench_rows, 0},
            {"Model", model_setting_rows, offsetof(struct bench_options, model)},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat bench gemma.gguf", "512 tokens of prompt, 32 tokens of answer"},
            {"carat bench gemma.gguf --prefill 512,4096 --decode 64 --depth 0,4096 --json",
             "several lengths, for a script"},
            {"carat bench gemma.gguf --limits", "how near that is to what the machine can do"},
            {"carat bench gemma.gguf --media --image photo.jpg --image-tokens 280",
             "what a photograph costs before the decoder"},
            {.line = NULL},
        },
    .options_size = sizeof(struct bench_options),
    .args_max = 1,
    .run = run_bench,
};
