// SPDX-License-Identifier: Apache-2.0
// carat bench: how fast prompts are evaluated and tokens made, and what it takes in memory.
#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "cli/bench.h"
#include "cli/bench_media.h"

#include <string.h>

#define PREFILL_DEFAULT 512
#define DECODE_DEFAULT  32
#define ROWS_MAX        64

#define AT(field) offsetof(struct bench_options, field)
static const struct option bench_rows[] = {
    {"full", OPTION_FLAG, NULL,
     "the whole matrix, as far as the model's context reaches: --prefill 128,512,2048,8192 --depth "
     "0,4096,16384,65536 --batch 1,2,4,8,16",
     AT(is_full), 0, 0, NULL},
    {"prefill", OPTION_COUNTS, "N,...", "lengths of prompts to evaluate; 0: none (default: 512)",
     AT(prefill), 0, 16777216, NULL},
    {"decode", OPTION_COUNT, "N", "tokens to make at each depth; 0: none (default: 32)", AT(decode),
     0, 1000000, NULL},
    {"depth", OPTION_COUNTS, "N,...", "tokens that stand before the ones made (default: 0)",
     AT(depth), 0, 16777216, NULL},
    {"evaluate", OPTION_FLAG, NULL,
     "evaluate the tokens that stand before, instead of filling the kv cache with made-up rows: "
     "the same speed, after a long wait",
     AT(evaluates), 0, 0, NULL},
    {"batch", OPTION_COUNTS, "N,...",
     "conversations that decode together, beside one alone (default: none)", AT(batch), 1, ROWS_MAX,
     NULL},
    {"runs", OPTION_COUNT, "R",
     "measure each R times, after a shorter run that does not count (default: 3)", AT(runs), 1,
     BENCH_RUNS_MAX, NULL},
    {"limits", OPTION_FLAG, NULL,
     "measure what the machine can do at most, and show each speed and the start as a share of "
     "what binds it: reading memory, multiplying, or being given memory (takes up to 2 GiB for a "
     "moment)",
     AT(has_limits), 0, 0, NULL},
    {"svg", OPTION_TEXT, "FILE", "also draw the speeds, as a picture for a browser", AT(svg), 0, 0,
     NULL},
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

static const struct option_counts full_prefills = {.items = {128, 512, 2048, 8192}, .n = 4};
static const struct option_counts full_depths = {.items = {0, 4096, 16384, 65536}, .n = 4};
static const struct option_counts full_batches = {.items = {1, 2, 4, 8, 16}, .n = 5};

// What was given; else of the whole matrix what a context of `room` tokens has room for when each
// value takes `more` tokens beside its own.
static struct option_counts choose(const struct bench_options *o, struct option_counts given,
                                   const struct option_counts *full, size_t more, size_t room,
                                   const char *what)
{
    if (given.n > 0 || !o->is_full) {
        return given;
    }
    for (size_t i = 0; i < full->n; i++) {
        if (full->items[i] + more <= room) {
            given.items[given.n++] = full->items[i];
        } else if (!o->is_quiet) {
            say_plain("[%s %llu left out: the context holds %zu tokens]", what,
                      (unsigned long long)full->items[i], room);
        }
    }
    return given;
}

static void add(struct bench *b, struct measure m)
{
    m.n_rows = m.n_rows ? m.n_rows : 1;
    b->n_rows_max = m.kind == MEASURE_BATCH && m.n_rows > b->n_rows_max ? m.n_rows : b->n_rows_max;
    b->measures[b->n_measures++] = m;
}

// Batches are shown beside one row, which therefore is measured first.
static void add_batches(struct bench *b, const struct option_counts *batches, size_t n_decode)
{
    bool has_one = false;
    for (size_t i = 0; i < batches->n; i++) {
        has_one = has_one || batches->items[i] == 1;
    }
    if (batches->n > 0 && !has_one) {
        add(b, (struct measure){.kind = MEASURE_BATCH, .tokens = n_decode, .n_rows = 1});
    }
    for (size_t i = 0; i < batches->n; i++) {
        add(b, (struct measure){
                   .kind = MEASURE_BATCH, .tokens = n_decode, .n_rows = (size_t)batches->items[i]});
    }
}

// The list of what to measure, from the options. *context: the longest timeline of them.
static int plan(struct bench *b, size_t room, size_t *context, struct carat_error *err)
{
    const struct bench_options *o = b->options;
    size_t n_decode = o->decode.is_set ? (size_t)o->decode.value : DECODE_DEFAULT;
    struct option_counts prefills = choose(o, o->prefill, &full_prefills, 0, room, "prefill");
    struct option_counts depths = choose(o, o->depth, &full_depths, n_decode, room, "depth");
    struct option_counts batches = choose(o, o->batch, &full_batches, 0, SIZE_MAX, "batch");
    size_t longest = BENCH_START_TOKENS < room ? BENCH_START_TOKENS : room;
    if (prefills.n == 0) {
        prefills = (struct option_counts){.items = {PREFILL_DEFAULT}, .n = 1};
    }
    if (depths.n == 0) {
        depths.n = 1; // depth 0
    }
    b->measures = mem_new_array(prefills.n + depths.n + batches.n + 1, sizeof(*b->measures), err);
    if (!b->measures) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < prefills.n; i++) {
        size_t n = (size_t)prefills.items[i];
        if (n > 0) {
            add(b, (struct measure){.kind = MEASURE_PREFILL, .tokens = n});
            longest = n > longest ? n : longest;
        }
    }
    *context = longest;
    for (size_t i = 0; n_decode > 0 && i < depths.n; i++) {
        size_t depth = (size_t)depths.items[i], start = depth ? depth : 1;
        add(b, (struct measure){.kind = MEASURE_DECODE, .tokens = n_decode, .depth = depth});
        longest = start > longest ? start : longest;
        *context = start + n_decode > *context ? start + n_decode : *context;
    }
    if (n_decode > 0) {
        add_batches(b, &batches, n_decode);
    }
    b->tokens = mem_new_array(longest, sizeof(*b->tokens), err);
    b->sessions = mem_new_array(b->n_rows_max + 1, sizeof(struct carat_session *), err);
    b->steps = mem_new_array(b->n_rows_max + 1, sizeof(*b->steps), err);
    return b->tokens && b->sessions && b->steps ? 0 : CARAT_E_MEMORY;
}

static int choose_context(struct bench *b, struct carat_error *err)
{
    struct option_count *asked = &b->settings.context;
    size_t room =
        asked->is_set ? (size_t)asked->value : carat_engine_info(b->loaded.engine)->context_max;
    size_t context = 0;
    int rc = plan(b, room, &context, err);
    if (rc) {
        return rc;
    }
    if (asked->is_set && asked->value < context) {
        return fail(err, CARAT_E_ARGUMENT,
                    "bench: --context %llu is less than the %zu tokens that are to be measured",
                    (unsigned long long)asked->value, context);
    }
    if (!asked->is_set) {
        *asked = (struct option_count){.is_set = true, .value = context};
    }
    return 0;
}

static int bench_all(struct bench *b, const char *model, struct carat_error *err)
{
    b->settings = b->options->model;
    struct loading_options loading = {
        .model = model, .settings = &b->settings, .is_quiet = b->options->is_quiet};
    double started = os_seconds();
    int rc = loaded_open_engine(&b->loaded, &loading, b->out, err);
    rc = rc ? rc : choose_context(b, err);
    rc = rc ? rc : loaded_open_session(&b->loaded, &loading, &b->memory, err);
    rc = rc ? rc : bench_start(b, started, err);
    rc = rc ? rc : bench_measure(b, err);
    if (rc == 0 && b->options->has_limits) {
        if (b->is_visible) {
            say_plain("[limits: taking and reading memory, multiplying]");
        }
        rc = carat_measure_limits(&b->limits, carat_engine_info(b->loaded.engine)->n_threads, err);
    }
    return rc;
}

static int show(const struct bench *b, struct carat_error *err)
{
    struct buf text = {.max = 1 << 20};
    if (b->options->is_json) {
        bench_write_json(b, &text);
    } else {
        bench_write_table(b, &text);
    }
    int rc = buf_status(&text, err);
    output_write(b->out, buf_text(&text), text.size);
    if (rc == 0 && b->options->svg) {
        buf_clear(&text);
        bench_write_svg(b, &text);
        rc = buf_status(&text, err);
        rc = rc ? rc : os_write_file(b->options->svg, buf_text(&text), text.size, err);
    }
    buf_release(&text);
    return rc;
}

static void release(struct bench *b)
{
    for (size_t i = 0; b->sessions && i < b->n_rows_max; i++) {
        carat_session_free(b->sessions[i]);
    }
    loaded_release(&b->loaded);
    mem_free(b->measures);
    mem_free(b->tokens);
    mem_free(b->sessions);
    mem_free(b->steps);
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
    const struct bench_options *o = call->options;
    if (o->is_media && (o->is_full || o->svg || o->batch.n)) {
        say("bench: --full, --batch and --svg do not go with --media");
        return EXIT_USAGE;
    }
    if (o->is_media) {
        return run_bench_media(call);
    }
    if (o->image || o->audio || o->image_tokens.n) {
        say("bench: --image, --audio and --image-tokens go with --media");
        return EXIT_USAGE;
    }
    struct carat_error err;
    struct bench b = {
        .options = o,
        .out = call->out,
        .n_runs = o->runs.is_set ? (size_t)o->runs.value : 3,
        .is_visible = call->out->errors_are_terminal && !o->is_quiet,
    };
    int code = EXIT_OK;
    os_catch_interrupt();
    if (bench_all(&b, call->n_args ? call->args[0] : NULL, &err) || show(&b, &err)) {
        progress_end(&b.loaded.progress);
        progress_end(&b.loaded.prefill_progress);
        code = say_error(&err);
    }
    release(&b);
    return code;
}

const struct command command_bench = {
    .name = "bench",
    .summary = "measure speed and memory",
    .synopsis = "[MODEL] [options]",
    .details =
        "Measures how fast prompts are evaluated (prefill), tokens are made (decode, at given "
        "depths of the conversation) and conversations go on together (batch), how long the model "
        "takes to open, and how much memory that took. The tokens are arbitrary, the same in every "
        "run. What stands before a decode is filled into the kv cache, not evaluated. The table "
        "shows the median of the runs; JSON has it as tokens_per_s.\n\n"
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
            {"carat bench gemma.gguf --full --limits --svg speed.svg",
             "everything, how near it is to what the machine can do, and a drawing"},
            {"carat bench gemma.gguf --prefill 512,4096 --decode 64 --depth 0,4096 --json",
             "several lengths, for a script"},
            {"carat bench gemma.gguf --prefill 0 --batch 2,4,8",
             "what several conversations at once gain"},
            {"carat bench gemma.gguf --media --image photo.jpg --image-tokens 280",
             "what a photograph costs before the decoder"},
            {.line = NULL},
        },
    .options_size = sizeof(struct bench_options),
    .args_max = 1,
    .run = run_bench,
};
