// SPDX-License-Identifier: Apache-2.0
// Asks the questions of some files: several at a time, in rounds that read prompts and write
// answers together. What comes out does not depend on how many there are in a round.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "cli/batch.h"
#include "cli/eval_tasks_score.h"
#include "cli/slots.h"

#define CONTEXT_DEFAULT  8192
#define TOKENS_DEFAULT   1024
#define PARALLEL_DEFAULT 4
#define REWIND_TOKENS    1024 // choices are scored behind the same prompt, one after the other
#define ANSWERS_MAX      ((size_t)10000000)
#define TEXT_MAX         ((size_t)64 << 20)
#define SHOWN_MAX        20 // failures that are told one by one
#define REDRAW_S         0.2
#define PATIENCE_S       0.4 // no progress before that

// ------------------------------------------------------------------------------ lines

struct reader {
    const struct eval_tasks_options *options;
    size_t file; // its number
    bool is_open;
    struct batch_lines lines;
    struct buf folder; // of the file, with its slash
    struct media_how how;
};

static void reader_init(struct reader *r, const struct eval_tasks_options *o)
{
    *r = (struct reader){.options = o};
    r->how.image_tokens = (uint32_t)o->settings->image_tokens.value;
    r->how.n_frames = (size_t)o->settings->video_frames.value;
}

static void reader_release(struct reader *r)
{
    batch_lines_close(&r->lines);
    buf_release(&r->folder);
}

static int open_file(struct reader *r, struct carat_error *err)
{
    const char *path = r->options->files[r->file], *slash = strrchr(path, '/');
    buf_clear(&r->folder);
    buf_add(&r->folder, path, slash ? (size_t)(slash - path) + 1 : 0);
    int rc = buf_status(&r->folder, err);
    rc = rc ? rc : batch_lines_open(&r->lines, path, EVAL_LINE_MAX, err);
    r->is_open = rc == 0;
    return rc;
}

static int read_line(struct reader *r, struct eval_task *t, struct carat_error *err)
{
    const struct batch_lines *l = &r->lines;
    int rc = l->is_long ? fail(err, CARAT_E_FULL, "expected at most %zu bytes", EVAL_LINE_MAX)
                        : eval_task_read(t, slice_make(buf_text(&l->line), l->line.size),
                                         buf_text(&r->folder), &r->how, err);
    if (rc) {
        char where[500];
        snprintf(where, sizeof(where), "%s: line %llu", r->options->files[r->file],
                 (unsigned long long)l->number);
        fail_prefix(err, where);
        eval_task_release(t);
    }
    return rc;
}

// The next question; *is_there is false behind the last one of the last file.
static int next_question(struct reader *r, struct eval_task *t, bool *is_there,
                         struct carat_error *err)
{
    *is_there = false;
    while (r->file < r->options->n_files) {
        int rc = r->is_open ? 0 : open_file(r, err);
        rc = rc ? rc : batch_lines_next(&r->lines, is_there, err);
        if (rc) {
            return rc;
        }
        if (!*is_there) {
            batch_lines_close(&r->lines);
            r->is_open = false;
            r->file++;
        } else if (!batch_line_is_blank(&r->lines)) {
            return read_line(r, t, err);
        }
    }
    return 0;
}

int eval_check_lines(uint64_t *n_lines, const struct eval_tasks_options *o, struct carat_error *err)
{
    struct reader r;
    bool is_there = true;
    uint64_t n = 0;
    int rc = 0;
    reader_init(&r, o);
    while (rc == 0 && is_there) {
        struct eval_task t = {.n_expected = 0};
        rc = os_interrupted() ? fail(err, CARAT_E_STOPPED, "interrupted")
                              : next_question(&r, &t, &is_there, err);
        n += rc == 0 && is_there;
        eval_task_release(&t);
    }
    reader_release(&r);
    if (rc == 0 && n > ANSWERS_MAX) {
        rc = fail(err, CARAT_E_FULL, "expected at most %zu questions, found %llu", ANSWERS_MAX,
                  (unsigned long long)n);
    }
    *n_lines = n;
    return rc || n > 0 ? rc : fail(err, CARAT_E_FORMAT, "%s: no questions", o->files[0]);
}

// ------------------------------------------------------------------------------ a question

enum slot_state { SLOT_FREE, SLOT_READING, SLOT_WRITING };

struct slot {
    enum slot_state state;
    struct carat_session *session;
    struct eval_task task;
    struct carat_prompt *prompt;
    struct carat_sampler *sampler;
    struct carat_parser *parser;
    struct buf text, thought;
    struct eval_calls calls;
    size_t answer; // its number
    size_t n_tokens, tokens_max;
    carat_token next;
};

struct asker {
    const struct eval_asking *asking;
    struct carat_engine *engine;
    struct carat_cache *cache;
    struct reader reader;
    struct slot *slots; // [n_slots]
    size_t n_slots, n_busy;
    struct carat_step *steps; // [n_slots]
    struct carat_sampling sampling;
    bool has_more;
    uint64_t n_done, n_failed;
    double started, drawn;
    bool is_drawn;
};

static void clear_progress(struct asker *x)
{
    if (x->is_drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    x->is_drawn = false;
    x->drawn = 0;
}

static void draw_progress(struct asker *x)
{
    double now = os_seconds(), elapsed = now - x->started;
    if (!x->asking->shows_progress || elapsed < PATIENCE_S || now - x->drawn < REDRAW_S) {
        return;
    }
    uint64_t n = x->asking->n_lines;
    fprintf(stderr, "\r\033[K%llu of %llu questions answered", (unsigned long long)x->n_done,
            (unsigned long long)n);
    if (x->n_done > 0) {
        double left = elapsed / (double)x->n_done * (double)(n - x->n_done);
        fprintf(stderr, ", %.0f:%02.0f:%02.0f left", floor(left / 3600), floor(fmod(left / 60, 60)),
                floor(fmod(left, 60)));
    }
    fflush(stderr);
    x->drawn = now;
    x->is_drawn = true;
}

static void slot_end(struct slot *s)
{
    carat_prompt_free(s->prompt);
    carat_sampler_free(s->sampler);
    carat_parser_free(s->parser);
    buf_release(&s->text);
    buf_release(&s->thought);
    buf_release(&s->calls.json);
    eval_task_release(&s->task);
    *s = (struct slot){.session = s->session};
}

static struct eval_answer *answer_of(struct asker *x, const struct slot *s)
{
    return &x->asking->scores->answers[s->answer];
}

// The expected answers as JSON: one, or a list.
static char *describe_expected(const struct eval_task *t, struct carat_error *err)
{
    struct buf out = {.max = TEXT_MAX};
    size_t n = 0;
    for (size_t i = 0; i < t->n_expected; i++) {
        const struct eval_expected *e = &t->expected[i];
        buf_adds(&out, n++ ? "," : "");
        if (e->calls) {
            buf_adds(&out, e->calls);
        } else {
            buf_add_json(&out, e->text.data, e->text.size);
        }
    }
    for (size_t i = 0; i < t->n_choices; i++) {
        if (t->choices[i].is_right) {
            buf_adds(&out, n++ ? "," : "");
            buf_add_json(&out, t->choices[i].text.data, t->choices[i].text.size);
        }
    }
    struct buf list = {.max = TEXT_MAX};
    buf_addf(&list, n == 1 ? "%s" : "[%s]", buf_text(&out));
    char *text = buf_status(&out, err) || buf_status(&list, err) ? NULL : buf_take(&list);
    buf_release(&out);
    buf_release(&list);
    return text;
}

// A task that no line names is called by its file, without the end ".jsonl".
static char *name_task(const struct eval_task *t, const char *path, struct carat_error *err)
{
    if (t->name.size > 0) {
        return mem_strndup(t->name.data, t->name.size, err);
    }
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return mem_strndup(name, dot && dot > name ? (size_t)(dot - name) : strlen(name), err);
}

// The slot's line becomes an answer in the making.
static int add_answer(struct asker *x, struct slot *s, struct carat_error *err)
{
    struct eval_scores *scores = x->asking->scores;
    if (scores->n == scores->capacity) {
        size_t capacity = scores->capacity ? 2 * scores->capacity : 64, size = 0;
        struct eval_answer *grown = NULL;
        if (size_mul(&size, capacity, sizeof(*grown))) {
            grown = mem_resize(scores->answers, size, err);
        }
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        scores->answers = grown;
        scores->capacity = capacity;
    }
    const struct reader *r = &x->reader;
    s->answer = scores->n;
    struct eval_answer *a = &scores->answers[scores->n++];
    *a = (struct eval_answer){.file = r->file,
                              .line = r->lines.number,
                              .score = s->task.score,
                              .n_choices = s->task.n_choices};
    a->id = mem_strndup(s->task.id.size ? s->task.id.data : "", s->task.id.size, err);
    a->task = name_task(&s->task, r->options->files[r->file], err);
    a->expected = describe_expected(&s->task, err);
    return a->id && a->task && a->expected ? 0 : CARAT_E_MEMORY;
}

// What belongs to the question alone does not end the others.
static int question_failed(struct asker *x, struct slot *s, int rc, struct carat_error *err)
{
    if (rc == CARAT_E_MEMORY || rc == CARAT_E_STOPPED || rc == CARAT_E_DEVICE) {
        return rc;
    }
    struct eval_answer *a = answer_of(x, s);
    const char *path = x->asking->options->files[a->file];
    x->n_failed++;
    if (x->n_failed <= SHOWN_MAX) {
        clear_progress(x);
        say("%s: line %llu: %s", path, (unsigned long long)a->line, err->text);
    } else if (x->n_failed == SHOWN_MAX + 1) {
        clear_progress(x);
        say("more questions fail; --json has the reasons");
    }
    a->error = mem_strdup(err->text, err);
    x->n_done++;
    slot_end(s);
    return a->error ? 0 : CARAT_E_MEMORY;
}

static int question_done(struct asker *x, struct slot *s, struct carat_error *err)
{
    struct eval_answer *a = answer_of(x, s);
    eval_calls_end(&s->calls);
    int rc = buf_status(&s->text, err);
    rc = rc ? rc : buf_status(&s->thought, err);
    rc = rc ? rc : buf_status(&s->calls.json, err);
    if (rc == 0 && s->task.score != EVAL_CHOICE) {
        rc = eval_task_judge(&a->verdict, &s->task, x->engine,
                             slice_make(buf_text(&s->text), s->text.size), buf_text(&s->calls.json),
                             err);
    }
    a->n_tokens = s->n_tokens;
    a->text = rc ? NULL : mem_strndup(buf_text(&s->text), s->text.size, err);
    a->thought = rc ? NULL : mem_strndup(buf_text(&s->thought), s->thought.size, err);
    a->calls = rc || s->calls.n == 0 ? NULL : buf_take(&s->calls.json);
    x->n_done++;
    x->asking->scores->answer_tokens += s->n_tokens;
    slot_end(s);
    return rc ? rc : a->text && a->thought ? 0 : CARAT_E_MEMORY;
}

// ------------------------------------------------------------------------------ choices

// The tokens of a choice; in a chat the answer ends behind it, so that one choice that begins like
// another is not the likelier for it.
static int choice_tokens(carat_token **out, size_t *n, const struct asker *x,
                         const struct eval_task *t, struct slice text, struct carat_error *err)
{
    size_t capacity = text.size + 2;
    carat_token *tokens = mem_new_array(capacity, sizeof(*tokens), err);
    if (!tokens) {
        return CARAT_E_MEMORY;
    }
    int64_t count = carat_tokenize(x->engine, text.data, text.size, 0, tokens, capacity, err);
    if (count < 0) {
        mem_free(tokens);
        return (int)count;
    }
    *n = (size_t)count;
    carat_token end;
    if (!t->raw.data &&
        carat_tokenize(x->engine, "<turn|>", 7, CARAT_TOKENIZE_SPECIAL, &end, 1, NULL) == 1 &&
        carat_token_is_stop(x->engine, end)) {
        tokens[(*n)++] = end;
    }
    *out = tokens;
    return 0;
}

static int score_choice(double *sum, struct asker *x, struct slot *s, struct slice text,
                        struct carat_error *err)
{
    carat_token *tokens = NULL;
    float *logprobs = NULL;
    size_t n = 0, reused = 0;
    int rc = choice_tokens(&tokens, &n, x, &s->task, text, err);
    if (rc == 0) {
        logprobs = mem_new_array(n, sizeof(*logprobs), err);
        rc = logprobs ? 0 : CARAT_E_MEMORY;
    }
    rc = rc ? rc : carat_session_sync(s->session, s->prompt, &reused, err);
    rc = rc ? rc : carat_session_score(s->session, tokens, n, logprobs, err);
    *sum = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        *sum += (double)logprobs[i];
    }
    x->asking->scores->reused_tokens += rc ? 0 : reused;
    mem_free(tokens);
    mem_free(logprobs);
    return rc;
}

static int score_choices(struct asker *x, struct slot *s, struct carat_error *err)
{
    const struct eval_task *t = &s->task;
    struct eval_answer *a = answer_of(x, s);
    double best = 0, best_by_length = 0;
    a->logprobs = mem_new_array(t->n_choices, sizeof(*a->logprobs), err);
    if (!a->logprobs) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < t->n_choices; i++) {
        int rc = score_choice(&a->logprobs[i], x, s, t->choices[i].text, err);
        if (rc) {
            return rc;
        }
        double by_length = a->logprobs[i] / (double)t->choices[i].text.size;
        if (i == 0 || a->logprobs[i] > best) {
            best = a->logprobs[i];
            a->choice = i;
        }
        if (i == 0 || by_length > best_by_length) {
            best_by_length = by_length;
            a->choice_by_length = i;
        }
        x->asking->scores->prompt_tokens += a->n_prompt;
    }
    a->verdict.is_right = t->choices[a->choice].is_right;
    a->is_right_by_length = t->choices[a->choice_by_length].is_right;
    buf_add_slice(&s->text, t->choices[a->choice].text);
    return 0;
}

// ------------------------------------------------------------------------------ answers

static int make_prompt(struct asker *x, struct slot *s, struct carat_error *err)
{
    struct eval_task *t = &s->task;
    if (t->raw.data) {
        return carat_prompt_from_text(&s->prompt, x->engine, t->raw.data, t->raw.size, 0, err);
    }
    struct carat_chat chat = {.messages = t->talk.messages,
                              .n_messages = t->talk.n,
                              .tools = t->talk.tools,
                              .thinks = t->thinks};
    if (t->talk.n_attachments > 0) {
        clear_progress(x); // there may be something to say of them
    }
    int rc = conversation_open_media(&t->talk, x->engine, NULL, err);
    rc = rc ? rc : carat_prompt_from_chat(&s->prompt, x->engine, &chat, err);
    conversation_free_media(&t->talk); // the prompt has what it needs of them
    return rc;
}

static int begin_answer(struct asker *x, struct slot *s, struct carat_error *err)
{
    const struct eval_task_settings *settings = x->asking->options->settings;
    struct carat_parser_options parsing = {
        .starts_in_thought = carat_prompt_opens_thought(s->prompt),
        .is_raw = s->task.raw.data != NULL,
    };
    size_t reused = 0, n = 0;
    const carat_token *tokens = carat_prompt_tokens(s->prompt, &n);
    s->tokens_max = s->task.tokens_max            ? (size_t)s->task.tokens_max
                    : settings->tokens_max.is_set ? (size_t)settings->tokens_max.value
                                                  : TOKENS_DEFAULT;
    s->text.max = s->thought.max = s->calls.json.max = TEXT_MAX;
    int rc = carat_parser_new(&s->parser, x->engine, &parsing, err);
    rc = rc ? rc : carat_sampler_new(&s->sampler, x->engine, &x->sampling, err);
    rc = rc ? rc : carat_session_prepare(s->session, s->prompt, &reused, err);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        carat_sampler_accept(s->sampler, tokens[i]);
    }
    if (rc == 0) {
        x->asking->scores->prompt_tokens += n;
        x->asking->scores->reused_tokens += reused;
        s->state = SLOT_READING;
    }
    return rc;
}

static bool take_events(struct asker *x, struct slot *s)
{
    struct carat_event event;
    bool has_ended = false;
    while (carat_parser_next(s->parser, &event)) {
        eval_calls_take(&s->calls, &event);
        if (event.type == CARAT_EVENT_TEXT) {
            buf_add(&s->text, event.text, event.size);
        } else if (event.type == CARAT_EVENT_THOUGHT) {
            buf_add(&s->thought, event.text, event.size);
        } else if (event.type == CARAT_EVENT_STOP) {
            answer_of(x, s)->stop = event.stop;
            has_ended = true;
        }
    }
    return has_ended;
}

// A token from the logits of the slot's session; the question may end with it.
static int write_token(struct asker *x, struct slot *s, struct carat_error *err)
{
    size_t used = 0;
    carat_session_tokens(s->session, &used);
    s->state = SLOT_WRITING;
    s->next = carat_sampler_pick(s->sampler, carat_session_logits(s->session));
    s->n_tokens++;
    int rc = carat_parser_feed(s->parser, s->next, err);
    bool has_ended = rc == 0 && take_events(x, s);
    bool is_full = s->n_tokens >= s->tokens_max || used >= carat_session_context_max(s->session);
    if (rc == 0 && !has_ended && is_full) {
        rc = carat_parser_finish(s->parser, CARAT_STOP_LENGTH, err);
        has_ended = rc == 0 && take_events(x, s);
    }
    return rc || !has_ended ? rc : question_done(x, s, err);
}

// ------------------------------------------------------------------------------ rounds

static int begin_question(struct asker *x, struct slot *s, struct carat_error *err)
{
    bool has_choices = s->task.score == EVAL_CHOICE;
    int rc = add_answer(x, s, err);
    if (rc) {
        return rc;
    }
    rc = make_prompt(x, s, err);
    if (rc == 0) {
        carat_prompt_tokens(s->prompt, &answer_of(x, s)->n_prompt);
        rc = has_choices ? score_choices(x, s, err) : begin_answer(x, s, err);
    }
    if (rc) {
        return question_failed(x, s, rc, err);
    }
    if (has_choices) {
        return question_done(x, s, err);
    }
    // The timeline may have been that prompt already.
    return carat_session_pending(s->session) == 0 ? write_token(x, s, err) : 0;
}

static int fill_slots(struct asker *x, struct carat_error *err)
{
    for (size_t i = 0; i < x->n_slots; i++) {
        struct slot *s = &x->slots[i];
        while (x->has_more && s->state == SLOT_FREE) {
            if (os_interrupted()) {
                return fail(err, CARAT_E_STOPPED, "interrupted");
            }
            int rc = next_question(&x->reader, &s->task, &x->has_more, err);
            rc = rc || !x->has_more ? rc : begin_question(x, s, err);
            if (rc) {
                return rc;
            }
            draw_progress(x);
        }
    }
    return 0;
}

// One round over all slots that have something to do.
static int do_round(struct asker *x, struct carat_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n_slots; i++) {
        const struct slot *s = &x->slots[i];
        if (s->state != SLOT_FREE) {
            bool is_reading = s->state == SLOT_READING;
            x->steps[n++] = (struct carat_step){.session = s->session,
                                                .token = is_reading ? CARAT_TOKEN_NONE : s->next};
        }
    }
    int rc = n > 0 ? carat_decode(x->steps, n, err) : 0;
    for (size_t i = 0; rc == 0 && i < x->n_slots; i++) {
        struct slot *s = &x->slots[i];
        if (s->state != SLOT_FREE && carat_session_pending(s->session) == 0) {
            rc = write_token(x, s, err);
        }
    }
    x->n_busy = n;
    return rc;
}

static bool on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    (void)done;
    (void)total;
    draw_progress(user);
    return !os_interrupted();
}

static int open_slots(struct asker *x, struct carat_error *err)
{
    const struct eval_tasks_options *o = x->asking->options;
    const struct carat_model_info *info = carat_engine_info(x->engine);
    struct carat_session_options session;
    struct carat_memory need;
    uint64_t wanted = o->settings->parallel.is_set ? o->settings->parallel.value : PARALLEL_DEFAULT;
    size_t n = (size_t)(wanted < x->asking->n_lines ? wanted : x->asking->n_lines);
    settings_session(&session, o->model, NULL);
    session.on_progress = on_progress;
    session.user = x;
    session.rewind_max = REWIND_TOKENS;
    if (!o->model->context.is_set) {
        session.context_max =
            info->context_max < CONTEXT_DEFAULT ? info->context_max : CONTEXT_DEFAULT;
    }
    int rc = slots_plan_memory(&need, x->engine, &session, n, err);
    if (rc) {
        return rc;
    }
    slots_warn(&need);
    rc = carat_cache_new(&x->cache, x->engine, &(struct carat_cache_options){.folder = NULL}, err);
    session.cache = x->cache;
    x->slots = rc ? NULL : mem_new_array(n, sizeof(*x->slots), err);
    x->steps = rc ? NULL : mem_new_array(n, sizeof(*x->steps), err);
    rc = rc ? rc : x->slots && x->steps ? 0 : CARAT_E_MEMORY;
    for (; rc == 0 && x->n_slots < n; x->n_slots += rc == 0) {
        rc = carat_session_new(&x->slots[x->n_slots].session, x->engine, &session, err);
    }
    return rc;
}

static void close_slots(struct asker *x)
{
    for (size_t i = 0; i < x->n_slots; i++) {
        slot_end(&x->slots[i]);
        carat_session_free(x->slots[i].session);
    }
    carat_cache_free(x->cache);
    mem_free(x->slots);
    mem_free(x->steps);
}

int eval_ask(const struct eval_asking *asking, struct carat_engine *engine, struct carat_error *err)
{
    const struct eval_task_settings *s = asking->options->settings;
    struct asker x = {
        .asking = asking, .engine = engine, .has_more = true, .started = os_seconds()};
    reader_init(&x.reader, asking->options);
    carat_sampling_init(&x.sampling, engine);
    x.sampling.temperature = (float)s->temperature.value;
    x.sampling.seed = s->seed.is_set ? s->seed.value : 1;
    int rc = open_slots(&x, err);
    do {
        rc = rc ? rc : fill_slots(&x, err);
        rc = rc ? rc : do_round(&x, err);
        if (rc == 0 && os_interrupted()) {
            rc = fail(err, CARAT_E_STOPPED, "interrupted");
        }
        draw_progress(&x);
    } while (rc == 0 && (x.has_more || x.n_busy > 0));
    clear_progress(&x);
    close_slots(&x);
    reader_release(&x.reader);
    return rc;
}
