// SPDX-License-Identifier: Apache-2.0
// carat batch: a file of requests to a file of answers. How it goes on after an interruption is in
// batch_journal.c, what answers is src/server/ without HTTP.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "cli/batch.h"
#include "cli/loading.h"
#include "cli/slots.h"
#include "server/local.h"

#define REWIND_TOKENS 1024 // prompts with a common beginning take it from the one before
#define LINE_MAX_MB   64

struct batch_settings {
    const char *shard;
    struct option_count slots, workers;
    struct option_number call_seconds, line_mb;
    bool fetches_urls;
    bool has_no_loop_guard;
    bool retries, starts_over;
    bool is_json, is_quiet;
    struct sampling_settings sampling;
    struct model_settings model;
};

#define AT(field) offsetof(struct batch_settings, field)
static const struct option work_rows[] = {
    {"parallel", OPTION_COUNT, "N",
     "requests that are computed together (default: 4); each has a kv cache of its own", AT(slots),
     1, 256, NULL},
    {"shard", OPTION_TEXT, "I/N",
     "answer only lines whose number is I modulo N; I is 0 to N-1, and each shard has its own OUT",
     AT(shard), 0, 0, NULL},
    {"retry", OPTION_FLAG, NULL, "answer again what has failed before", AT(retries), 0, 0, NULL},
    {"restart", OPTION_FLAG, NULL, "throw away the answers in OUT and begin anew", AT(starts_over),
     0, 0, NULL},
    {"workers", OPTION_COUNT, "N", "threads that read requests and decode media (default: 2)",
     AT(workers), 1, 64, NULL},
    {"timeout", OPTION_NUMBER, "S", "longest time of one request (default: 0, no limit)",
     AT(call_seconds), 0, 1e7, NULL},
    {"line-max", OPTION_NUMBER, "MB", "longest line of the input (default: 64)", AT(line_mb), 0.001,
     1000, NULL},
    {"fetch-urls", OPTION_FLAG, NULL,
     "fetch pictures and sound that requests name by http: and https: addresses; never from "
     "private networks",
     AT(fetches_urls), 0, 0, NULL},
    {"no-loop-guard", OPTION_FLAG, NULL, "let answers go round in circles", AT(has_no_loop_guard),
     0, 0, NULL},
    {"json", OPTION_FLAG, NULL, "print what came of it as a JSON object", AT(is_json), 0, 0, NULL},
    {"quiet", OPTION_FLAG, NULL, "no progress, only errors", AT(is_quiet), 0, 0, NULL},
    {.name = NULL},
};
#undef AT

// What a run has, beside its options.
struct batch {
    const struct batch_settings *settings;
    const char *model, *input, *output;
    struct batch_shard shard;
    size_t line_max;
    struct buf folder; // of the input
    struct batch_table table;
    struct batch_journal journal;
    struct loaded loaded;
    struct carat_logit_bias *biases;
    struct serve_options options;
    struct batch_run run;
};

// ------------------------------------------------------------------------------ options

static int read_shard(struct batch_shard *out, const char *text)
{
    char first[24] = "";
    const char *slash = text ? strchr(text, '/') : NULL;
    *out = (struct batch_shard){.n = 1};
    if (!text) {
        return EXIT_OK;
    }
    size_t size = slash ? (size_t)(slash - text) : 0;
    if (size > 0 && size < sizeof(first)) {
        memcpy(first, text, size);
    }
    if (!slash || !parse_count(slash + 1, 1, 1e9, &out->n) ||
        !parse_count(first, 0, (double)(out->n - 1), &out->i)) {
        say("batch: --shard: expected I/N with I from 0 to N-1, as in 0/4, found '%s'", text);
        return EXIT_USAGE;
    }
    return EXIT_OK;
}

static bool is_same_file(const char *a, const char *b)
{
    struct buf x = {0}, y = {0};
    bool is_same =
        os_full_path(&x, a) && os_full_path(&y, b) && strcmp(buf_text(&x), buf_text(&y)) == 0;
    buf_release(&x);
    buf_release(&y);
    return is_same;
}

static int read_words(struct batch *b, const struct command_call *call)
{
    const struct batch_settings *s = call->options;
    if (call->n_args < 2) {
        say("batch: expected [MODEL] IN.jsonl OUT.jsonl ('carat help batch' shows examples)");
        return EXIT_USAGE;
    }
    b->settings = s;
    b->model = call->n_args == 3 ? call->args[0] : NULL;
    b->input = call->args[call->n_args - 2];
    b->output = call->args[call->n_args - 1];
    b->line_max = (size_t)((s->line_mb.is_set ? s->line_mb.value : LINE_MAX_MB) * 1e6);
    if (s->retries && s->starts_over) {
        say("batch: --restart answers everything again: --retry has nothing to add");
        return EXIT_USAGE;
    }
    if (is_same_file(b->input, b->output)) {
        say("batch: the input and the output are the same file");
        return EXIT_USAGE;
    }
    return read_shard(&b->shard, s->shard);
}

// Files that requests name lie beside the input.
static int find_folder(struct batch *b, struct carat_error *err)
{
    const char *slash = strrchr(b->input, '/');
    if (slash) {
        buf_add(&b->folder, b->input, slash > b->input ? (size_t)(slash - b->input) : 1);
    } else {
        buf_addc(&b->folder, '.');
    }
    return buf_status(&b->folder, err);
}

static int set_options(struct batch *b, struct carat_error *err)
{
    const struct batch_settings *s = b->settings;
    struct serve_options *o = &b->options;
    struct carat_memory need;
    serve_options_init(o);
    o->has_decoder = true;
    o->engine = b->loaded.engine;
    o->n_slots = s->slots.is_set ? (size_t)s->slots.value : o->n_slots;
    o->n_workers = s->workers.is_set ? (size_t)s->workers.value : o->n_workers;
    // Enough that a slot which gets free finds the next prompt ready.
    b->run.n_pending_max = 2 * o->n_slots + o->n_workers;
    o->queue_max = b->run.n_pending_max;
    o->call_seconds = s->call_seconds.value;
    o->body_size_max = b->line_max;
    o->media_folder = b->folder.data;
    o->fetches_urls = s->fetches_urls;
    o->has_loop_guard = !s->has_no_loop_guard;
    settings_session(&o->session, &s->model, NULL);
    o->session.rewind_max = REWIND_TOKENS;
    o->session.returns_to_prompt = true;
    int rc = settings_sampling(&o->sampling, &s->sampling, o->engine, &b->biases, err);
    rc = rc ? rc : slots_plan_memory(&need, o->engine, &o->session, o->n_slots, err);
    if (rc == 0) {
        o->session.context_max = need.context_max;
        slots_warn(&need);
    }
    return rc;
}

// ------------------------------------------------------------------------------ the end

static void add_count(struct buf *out, const char *name, uint64_t n)
{
    buf_addf(out, "\"%s\":%llu,", name, (unsigned long long)n);
}

static void print_json(const struct batch *b, struct output *out)
{
    const struct batch_run *r = &b->run;
    const struct batch_table *t = &b->table;
    struct buf text = {0};
    buf_addc(&text, '{');
    add_count(&text, "requests", t->n_requests);
    add_count(&text, "answered", t->n_done + r->n_answered);
    add_count(&text, "answered_before", t->n_done);
    add_count(&text, "failed", t->n_failed + r->n_failed);
    add_count(&text, "prompt_tokens", r->prompt_tokens);
    add_count(&text, "cached_tokens", r->cached_tokens);
    add_count(&text, "answer_tokens", r->answer_tokens);
    buf_adds(&text, "\"seconds\":");
    buf_add_number(&text, r->seconds);
    buf_adds(&text, ",\"answer_tokens_per_second\":");
    buf_add_number(&text, r->seconds > 0 ? (double)r->answer_tokens / r->seconds : 0);
    buf_addf(&text, ",\"interrupted\":%s}\n", r->was_interrupted ? "true" : "false");
    output_write(out, buf_text(&text), text.size);
    buf_release(&text);
}

static void say_end(const struct batch *b)
{
    const struct batch_run *r = &b->run;
    const struct batch_table *t = &b->table;
    double rate = r->seconds > 0 ? (double)r->answer_tokens / r->seconds : 0;
    say_plain("[%s of %s requests answered, %s failed%s; %s and %s tokens read and written in "
              "%.1f s, %.0f a second]",
              count_text(t->n_done + r->n_answered).text, count_text(t->n_requests).text,
              count_text(t->n_failed + r->n_failed).text,
              t->n_done ? ", some of them before this run" : "", count_text(r->prompt_tokens).text,
              count_text(r->answer_tokens).text, r->seconds, rate);
    if (r->was_interrupted) {
        say_plain("[the same command goes on from here]");
    }
}

static int finish(const struct batch *b, struct output *out)
{
    if (b->settings->is_json) {
        print_json(b, out);
    } else if (!b->settings->is_quiet) {
        say_end(b);
    }
    return b->run.was_interrupted                    ? EXIT_INTERRUPTED
           : b->table.n_failed + b->run.n_failed > 0 ? EXIT_FAILED
                                                     : EXIT_OK;
}

// ------------------------------------------------------------------------------ running

static int prepare(struct batch *b, struct carat_error *err)
{
    const struct batch_settings *s = b->settings;
    enum batch_past past = s->starts_over ? BATCH_START_OVER
                           : s->retries   ? BATCH_RETRY_FAILED
                                          : BATCH_GO_ON;
    int rc = find_folder(b, err);
    rc = rc ? rc : os_catch_signals(false, err);
    rc = rc ? rc : batch_table_read(&b->table, b->input, b->line_max, b->shard, err);
    rc = rc ? rc : batch_journal_open(&b->journal, b->output, past, err);
    rc = rc ? rc : batch_journal_match(&b->journal, &b->table, b->input, b->output, err);
    if (rc == 0 && b->journal.was_torn && !s->is_quiet) {
        say_plain("[%s: the last line had not been written to its end, and is answered again]",
                  b->output);
    }
    return rc;
}

static int answer(struct batch *b, const struct output *out, struct carat_error *err)
{
    const struct batch_settings *s = b->settings;
    struct loading_options loading = {
        .model = b->model, .settings = &s->model, .is_quiet = s->is_quiet};
    int rc = loaded_open_engine(&b->loaded, &loading, out, err);
    rc = rc ? rc : set_options(b, err);
    rc = rc ? rc : local_open(&b->run.local, &b->options, err);
    if (rc) {
        return rc;
    }
    b->run.input = b->input;
    b->run.line_max = b->line_max;
    b->run.table = &b->table;
    b->run.journal = &b->journal;
    b->run.shows_progress = out->errors_are_terminal && !s->is_quiet;
    return batch_run(&b->run, err);
}

static int run_batch(const struct command_call *call)
{
    struct carat_error err;
    struct batch b = {.model = NULL};
    int code = read_words(&b, call);
    if (code) {
        return code;
    }
    int rc = prepare(&b, &err);
    if (rc == 0 && b.table.n_done < b.table.n_requests) {
        rc = answer(&b, call->out, &err);
    }
    local_close(b.run.local);
    code = rc == 0 ? finish(&b, call->out) : rc == CARAT_E_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
    if (rc) {
        code = os_interrupted() ? EXIT_INTERRUPTED : code;
        say("%s", err.text);
    }
    loaded_release(&b.loaded);
    mem_free(b.biases);
    batch_journal_close(&b.journal);
    batch_table_release(&b.table);
    buf_release(&b.folder);
    return code;
}

const struct command command_batch = {
    .name = "batch",
    .summary = "answer a file of requests, going on where an earlier run ended",
    .synopsis = "[MODEL] IN.jsonl OUT.jsonl [options]",
    .details =
        "Reads requests in the form of OpenAI's Batch API, one JSON object a line: "
        "{\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": "
        "{...}}. Endpoints are /v1/chat/completions, /v1/completions, /v1/embeddings and "
        "/v1/responses. The answers are those that carat serve gives, and go to OUT as they are "
        "complete, a line each: {\"id\", \"custom_id\", \"response\": {\"status_code\", "
        "\"request_id\", \"body\"}, \"error\"}. A request that cannot be answered gets a line that "
        "says why; the others go on.\n\n"
        "Pictures, sound and films may be given by path, read relative to the folder of IN: "
        "{\"type\": \"image_url\", \"image_url\": {\"url\": \"cat.png\"}}.\n\n"
        "OUT is also the record of what is done. Interrupted by whatever, the same command goes "
        "on from there: no line is answered twice, none is left out. An input that was changed "
        "meanwhile in lines that are answered is refused. Ctrl-C lets running requests end, a "
        "second one stops at once.\n\n"
        "The exit code is 0 when every request was answered, 1 when some failed, 2 when nothing "
        "was begun because of the command line or the files, 130 after Ctrl-C.",
    .groups =
        (const struct option_group[]){
            {"Options", work_rows, 0},
            {"Defaults of requests", sampling_setting_rows,
             offsetof(struct batch_settings, sampling)},
            {"Model", model_setting_rows, offsetof(struct batch_settings, model)},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat batch gemma.gguf in.jsonl out.jsonl", "again after an interruption: goes on"},
            {"carat batch gemma.gguf in.jsonl out.jsonl --parallel 16 --context 4096",
             "many short requests at a time"},
            {"carat batch gemma.gguf in.jsonl out.$I.jsonl --shard $I/8",
             "one of eight machines; 'cat out.*.jsonl' joins them"},
            {"carat batch gemma.gguf in.jsonl out.jsonl --retry", "what has failed, once more"},
            {"carat batch gemma.gguf in.jsonl out.jsonl --seed 1 --json", "figures at the end"},
            {.line = NULL},
        },
    .options_size = sizeof(struct batch_settings),
    .args_max = 3,
    .run = run_batch,
};
