// SPDX-License-Identifier: Apache-2.0
// Rows of logits come from the engine one by one. A handful of them is gathered, because each
// takes as long as a step of the network's own, and then measured on all cores.
#include "cli/eval_pass.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "base/pool.h"
#include "cli/loading.h"

struct row {
    float *logits;             // [n_vocab]
    struct logit_row found;    // packed, where it is recorded or compared
    struct logit_row expected; // the reference's
    double total;
};

struct work {
    const struct eval_pass *pass;
    struct eval_model *model;
    struct loaded loaded;
    size_t n_vocab, n_layers;
    bool packs;
    struct logit_writer writer;
    struct logit_reader reader;
    struct pool *pool;
    float *logits;   // of all rows
    uint16_t *codes; // of both packed forms of all rows
    struct row rows[EVAL_ROWS_MAX];
    size_t n_rows;
    size_t n_records; // finished
    const struct eval_window *window;
    size_t i_next; // token of the window that the next row foretells
    uint64_t done; // tokens evaluated, of windows before
    struct progress progress;
    int rc; // what went wrong in a callback
    struct carat_error *err;
};

void eval_model_release(struct eval_model *m)
{
    mem_free(m->path);
    mem_free(m->records);
    m->path = NULL;
    m->records = NULL;
}

void eval_vocabulary_hash(const struct carat_engine *engine, uint8_t out[HASH_SIZE])
{
    const size_t n = carat_engine_info(engine)->n_vocab;
    struct hash h;
    hash_init(&h, NULL);
    hash_add_u64(&h, n);
    for (size_t i = 0; i < n; i++) {
        size_t size = 0;
        const char *text = carat_token_text(engine, (carat_token)i, &size);
        hash_add_u64(&h, size);
        hash_add(&h, text ? text : "", size);
        hash_add_u64(&h, carat_token_is_special(engine, (carat_token)i));
    }
    hash_digest(&h, out);
}

// ------------------------------------------------------------------------------------------- rows

static void measure_row(void *context, size_t i, size_t thread)
{
    struct work *w = context;
    struct row *row = &w->rows[i];
    struct eval_record *r = &w->model->records[w->n_records + i];
    (void)thread;
    row->total = logits_total(row->logits, w->n_vocab);
    if (!isfinite(row->total)) {
        return;
    }
    size_t top = 0;
    for (size_t j = 1; j < w->n_vocab; j++) {
        top = row->logits[j] > row->logits[top] ? j : top;
    }
    r->top = (uint32_t)top;
    r->logprob = (float)((double)row->logits[r->token] - row->total);
    if (w->packs) {
        logit_row_pack(&row->found, row->logits, w->n_vocab, row->total, r->token);
    }
    if (w->pass->against_path) {
        r->divergence = logit_rows_divergence(&row->expected, &row->found, w->n_vocab);
        r->reference_logprob = row->expected.logprob;
        r->reference_top = row->expected.top;
    }
}

// Measures the rows that were gathered.
static int flush(struct work *w)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && w->pass->against_path && i < w->n_rows; i++) {
        rc = logit_reader_next(&w->reader, &w->rows[i].expected, w->err);
    }
    if (rc) {
        return rc;
    }
    pool_run(w->pool, w->n_rows, measure_row, w);
    for (size_t i = 0; rc == 0 && i < w->n_rows; i++) {
        if (!isfinite(w->rows[i].total)) {
            const struct eval_record *r = &w->model->records[w->n_records + i];
            return fail(w->err, CARAT_E_FORMAT,
                        "%s: logits are not finite in window %u at position %u: the model is "
                        "damaged, or F16 is too narrow for it",
                        w->model->name, r->window, r->position);
        }
        rc = w->pass->record_path ? logit_writer_add(&w->writer, &w->rows[i].found, w->err) : 0;
    }
    w->n_records += w->n_rows;
    w->n_rows = 0;
    return rc;
}

// Takes the row that foretells the next token of the window.
static void take_row(struct work *w, const float *logits)
{
    const struct eval_plan *plan = w->pass->plan;
    const carat_token token = plan->tokens[w->window->first + w->i_next];
    size_t n_bytes = 0;
    carat_token_text(w->loaded.engine, token, &n_bytes);
    w->model->records[w->n_records + w->n_rows] = (struct eval_record){
        .token = (uint32_t)token,
        .n_bytes = (uint32_t)n_bytes,
        .domain = w->window->domain,
        .window = (uint32_t)(w->window - plan->windows),
        .position = (uint32_t)w->i_next + 1,
    };
    memcpy(w->rows[w->n_rows++].logits, logits, w->n_vocab * sizeof(*logits));
    w->i_next++;
    if (w->n_rows == EVAL_ROWS_MAX) {
        w->rc = flush(w);
    }
}

static void on_tensor(void *user, const char *name, int layer, size_t first, size_t n_rows,
                      size_t n_columns, const float *rows)
{
    struct work *w = user;
    (void)n_columns;
    if (w->window && strcmp(name, "logits") == 0 && w->rc == 0 && first == w->i_next) {
        take_row(w, rows);
    } else if (strcmp(name, "hidden") == 0) {
        double share = (double)(layer + 1) / (double)w->n_layers;
        uint64_t done = w->done + first + (uint64_t)(share * (double)n_rows);
        progress_report(&w->progress, "evaluating", done, w->pass->plan->n_evaluated);
    }
}

// -------------------------------------------------------------------------------------- windows

// Brings the timeline to the token before the first scored one, whose row comes by itself, then
// appends the others, whose rows come by the callback.
static int run_window(struct work *w, const struct eval_window *window)
{
    const struct eval_plan *plan = w->pass->plan;
    const carat_token *tokens = plan->tokens + window->first;
    struct carat_prompt *prompt = NULL;
    carat_token *start = mem_new_array(window->n_unscored + 1, sizeof(*start), w->err);
    int rc = start ? 0 : CARAT_E_MEMORY;
    w->window = NULL;
    if (rc == 0) {
        start[0] = plan->bos;
        memcpy(start + 1, tokens, window->n_unscored * sizeof(*tokens));
        rc = carat_prompt_from_tokens(&prompt, w->loaded.engine, start, window->n_unscored + 1,
                                      w->err);
    }
    rc = rc ? rc : carat_session_sync(w->loaded.session, prompt, NULL, w->err);
    if (rc == 0) {
        w->window = window;
        w->i_next = window->n_unscored;
        take_row(w, carat_session_logits(w->loaded.session));
        rc = w->rc;
    }
    if (rc == 0 && w->i_next < window->n) {
        size_t n = window->n - w->i_next;
        rc = carat_session_score(w->loaded.session, tokens + window->n_unscored, n, NULL, w->err);
        rc = rc ? rc : w->rc;
    }
    w->done += window->n;
    carat_prompt_free(prompt);
    mem_free(start);
    return rc;
}

static int run_windows(struct work *w)
{
    const struct eval_plan *plan = w->pass->plan;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->n_windows; i++) {
        rc = run_window(w, &plan->windows[i]);
        if (rc == 0 && !progress_report(&w->progress, "evaluating", w->done, plan->n_evaluated)) {
            rc = fail(w->err, CARAT_E_STOPPED, "interrupted");
        }
    }
    rc = rc ? rc : flush(w);
    progress_end(&w->progress);
    return rc;
}

// ------------------------------------------------------------------------------------- opening

static void describe(struct work *w)
{
    const struct carat_model_info *info = carat_engine_info(w->loaded.engine);
    struct eval_model *m = w->model;
    struct os_file_info file;
    m->weights_size = info->weights_size;
    m->n_parameters = info->n_parameters;
    m->size = info->weights_size;
    if (os_file_info(&file, buf_text(&w->loaded.path)) && !file.is_directory &&
        file.size > m->size) { // the first of a split set is smaller
        m->size = file.size;
    }
}

static int open_model(struct work *w)
{
    const struct eval_options *o = w->pass->options;
    struct model_settings settings = o->model;
    settings.context.is_set = true;
    settings.context.value = w->pass->plan->rule.context;
    const struct loading_options loading = {
        .model = w->model->path,
        .settings = &settings,
        .is_quiet = o->is_quiet,
        .is_verbose = !o->is_quiet,
        .on_tensor = on_tensor,
        .tensor_user = w,
    };
    int rc = loaded_open(&w->loaded, &loading, w->pass->output, w->err);
    if (rc == 0) {
        w->n_vocab = carat_engine_info(w->loaded.engine)->n_vocab;
        w->n_layers = carat_engine_info(w->loaded.engine)->n_layers;
        w->progress.is_visible = w->pass->output->errors_are_terminal && !o->is_quiet;
        describe(w);
    }
    return rc;
}

static int take_memory(struct work *w)
{
    const size_t n_scored = w->pass->plan->n_scored, n_values = EVAL_ROWS_MAX * w->n_vocab;
    w->model->records = mem_new_array(n_scored, sizeof(struct eval_record), w->err);
    w->logits = w->model->records ? mem_new_array(n_values, sizeof(float), w->err) : NULL;
    w->codes = w->logits ? mem_new_array(2 * n_values, sizeof(uint16_t), w->err) : NULL;
    if (!w->codes) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < EVAL_ROWS_MAX; i++) {
        w->rows[i].logits = w->logits + i * w->n_vocab;
        w->rows[i].found.codes = w->codes + 2 * i * w->n_vocab;
        w->rows[i].expected.codes = w->codes + (2 * i + 1) * w->n_vocab;
    }
    return pool_new(&w->pool, (size_t)w->pass->options->model.threads.value, w->err);
}

static int open_files(struct work *w)
{
    const struct eval_pass *pass = w->pass;
    struct logit_head head = {
        .n_vocab = (uint32_t)w->n_vocab,
        .n_rows = pass->plan->n_scored,
        .model_size = w->model->size,
        .n_parameters = w->model->n_parameters,
        .weights_size = w->model->weights_size,
    };
    w->packs = pass->record_path || pass->against_path;
    memcpy(head.vocabulary, pass->vocabulary, HASH_SIZE);
    memcpy(head.name, w->model->name, sizeof(head.name));
    eval_plan_hash(pass->plan, head.plan);
    int rc = 0;
    if (pass->record_path) {
        rc = logit_writer_open(&w->writer, pass->record_path, &head, w->err);
    }
    if (rc == 0 && pass->against_path) {
        rc = logit_reader_open(&w->reader, pass->against_path, w->err);
    }
    return rc;
}

int eval_pass_run(const struct eval_pass *pass, struct eval_model *m, struct carat_error *err)
{
    struct work *w = mem_new(sizeof(*w), err);
    if (!w) {
        return CARAT_E_MEMORY;
    }
    const double started = os_seconds();
    w->pass = pass;
    w->model = m;
    w->err = err;
    int rc = open_model(w);
    rc = rc ? rc : take_memory(w);
    rc = rc ? rc : open_files(w);
    rc = rc ? rc : run_windows(w);
    if (rc == 0 && pass->record_path) {
        rc = logit_writer_finish(&w->writer, err);
    }
    m->seconds = os_seconds() - started;
    logit_writer_close(&w->writer);
    logit_reader_close(&w->reader);
    pool_free(w->pool);
    loaded_release(&w->loaded);
    mem_free(w->logits);
    mem_free(w->codes);
    mem_free(w);
    return rc;
}
