// SPDX-License-Identifier: Apache-2.0
// The loop: lines go to the queue as it has room, answers go to the output as they are complete.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "cli/batch.h"
#include "formats/json.h"
#include "server/local.h"

#define WAIT_MS    100 // for an answer, between two looks at Ctrl-C
#define REDRAW_S   0.2
#define PATIENCE_S 0.4 // no progress before that
#define SHOWN_MAX  20  // failures that are told one by one

struct runner {
    struct batch_run *run;
    struct batch_lines lines;
    struct batch_request *pending; // [n_pending_max]; free ones are zeroed
    bool has_more;
    bool is_dirty; // something was added that may not be on the disk yet
    uint64_t n_shown;
    double started, drawn;
    bool is_drawn;
};

// ------------------------------------------------------------------------------ progress

static void draw(struct runner *x)
{
    const struct batch_run *run = x->run;
    const struct batch_table *t = run->table;
    double now = os_seconds(), elapsed = now - x->started;
    if (!run->shows_progress || elapsed < PATIENCE_S || now - x->drawn < REDRAW_S) {
        return;
    }
    uint64_t done = t->n_done + run->n_answered;
    uint64_t failed = t->n_failed + run->n_failed;
    double left =
        run->n_answered ? elapsed / (double)run->n_answered * (double)(t->n_requests - done) : 0;
    fprintf(stderr, "\r\033[K%llu of %llu answered, %llu failed, %.0f tokens/s",
            (unsigned long long)done, (unsigned long long)t->n_requests, (unsigned long long)failed,
            (double)run->answer_tokens / elapsed);
    if (run->was_interrupted) {
        fputs(", finishing what runs", stderr);
    } else if (run->n_answered) {
        fprintf(stderr, ", %.0f:%02.0f:%02.0f left", floor(left / 3600), floor(fmod(left / 60, 60)),
                floor(fmod(left, 60)));
    }
    fflush(stderr);
    x->drawn = now;
    x->is_drawn = true;
}

static void clear(struct runner *x)
{
    if (x->is_drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    x->is_drawn = false;
    x->drawn = 0;
}

static void tell_failure(struct runner *x, const struct batch_request *r, const char *message)
{
    x->n_shown++;
    if (x->n_shown <= SHOWN_MAX) {
        clear(x);
        say("%s: line %llu: %s", x->run->input, (unsigned long long)r->line, message);
    } else if (x->n_shown == SHOWN_MAX + 1) {
        clear(x);
        say("more lines fail; the output has the reasons");
    }
}

// ------------------------------------------------------------------------------ answers

static int add_line(struct runner *x, const struct buf *line, struct carat_error *err)
{
    int rc = batch_journal_add(x->run->journal, line, err);
    x->is_dirty = x->is_dirty || rc == 0;
    return rc;
}

static int sync(struct runner *x, struct carat_error *err)
{
    int rc = x->is_dirty ? batch_journal_sync(x->run->journal, err) : 0;
    x->is_dirty = false;
    return rc;
}

static int add_error(struct runner *x, const struct batch_request *r, const char *code,
                     const struct carat_error *why, struct carat_error *err)
{
    struct buf line = {0};
    struct buf message = {0};
    buf_addf(&message, "line %llu: %s", (unsigned long long)r->line, why->text);
    batch_add_error(&line, r, code, buf_text(&message));
    int rc = add_line(x, &line, err);
    if (rc == 0) {
        x->run->n_answered++;
        x->run->n_failed++;
        tell_failure(x, r, why->text);
    }
    buf_release(&message);
    buf_release(&line);
    return rc;
}

// The reason in an answer that is an error.
static void tell_refused(struct runner *x, const struct batch_request *r, int status,
                         const struct buf *body)
{
    struct json_doc *doc = NULL;
    struct carat_error text;
    fail(&text, CARAT_E_FORMAT, "status %d", status);
    if (json_parse(&doc, buf_text(body), body->size, "answer", NULL) == 0) {
        struct slice why = json_string(json_get(json_get(json_root(doc), "error"), "message"));
        if (why.size > 0) {
            fail(&text, CARAT_E_FORMAT, "%.*s", (int)(why.size < 1000 ? why.size : 1000), why.data);
        }
    }
    json_free(doc);
    tell_failure(x, r, text.text);
}

static int add_answer(struct runner *x, const struct batch_request *r,
                      const struct local_answer *answer, struct carat_error *err)
{
    struct batch_run *run = x->run;
    if (run->was_interrupted && answer->status == 503) {
        return 0; // it had not begun: the next run answers it
    }
    struct carat_error why;
    if (buf_status(&answer->body, &why)) {
        return add_error(x, r, "no_memory", &why, err);
    }
    struct buf line = {0};
    batch_add_answer(&line, r, answer->status, answer->request_id, &answer->body);
    int rc = add_line(x, &line, err);
    buf_release(&line);
    if (rc) {
        return rc;
    }
    run->n_answered++;
    run->prompt_tokens += answer->figures.prompt_tokens;
    run->cached_tokens += answer->figures.cached_tokens;
    run->answer_tokens += answer->figures.answer_tokens;
    if (answer->status != 200) {
        run->n_failed++;
        tell_refused(x, r, answer->status, &answer->body);
    }
    return 0;
}

// Waits for one answer and takes the others that are there.
static int take_answers(struct runner *x, struct carat_error *err)
{
    struct local_answer answer;
    int rc = 0;
    for (int wait = WAIT_MS; rc == 0 && local_next(x->run->local, wait, &answer); wait = 0) {
        struct batch_request *r = answer.user;
        rc = add_answer(x, r, &answer, err);
        buf_release(&answer.body);
        batch_request_release(r);
    }
    return rc;
}

// ------------------------------------------------------------------------------ requests

static int ask(struct runner *x, struct batch_request *r, struct carat_error *err)
{
    struct batch_request *kept = x->pending;
    while (kept->path) {
        kept++;
    }
    require(kept < x->pending + x->run->n_pending_max);
    *kept = *r;
    *r = (struct batch_request){0};
    return local_ask(x->run->local, kept->path, &kept->body, kept, err);
}

static int give_line(struct runner *x, struct carat_error *err)
{
    struct carat_error why;
    struct batch_request r;
    int rc = batch_request_read(&r, &x->lines, &why);
    if (rc == 0) {
        rc = ask(x, &r, err);
    } else if (rc == CARAT_E_MEMORY || !r.custom_id) {
        *err = why;
    } else {
        rc = add_error(x, &r, "invalid_request", &why, err);
    }
    batch_request_release(&r);
    return rc;
}

// The input is read a second time: what was checked must be what is answered.
static int check_same(const struct runner *x, struct carat_error *err)
{
    const struct batch_table *t = x->run->table;
    uint64_t number = x->lines.number;
    return number <= t->n && t->hashes[number - 1] == x->lines.hash
               ? 0
               : fail(err, CARAT_E_IO, "%s: line %llu was changed while the batch ran",
                      x->run->input, (unsigned long long)number);
}

static int give_lines(struct runner *x, struct carat_error *err)
{
    const struct batch_run *run = x->run;
    int rc = 0;
    while (rc == 0 && x->has_more && !os_interrupted() &&
           local_pending(run->local) < run->n_pending_max) {
        // What was added to the input since it was checked is for the next run.
        if (x->lines.number == run->table->n) {
            x->has_more = false;
            break;
        }
        rc = batch_lines_next(&x->lines, &x->has_more, err);
        if (rc == 0 && x->has_more) {
            rc = check_same(x, err);
            bool is_open = rc == 0 && run->table->states[x->lines.number - 1] == BATCH_OPEN;
            rc = is_open ? give_line(x, err) : rc;
        }
    }
    return rc;
}

// ------------------------------------------------------------------------------ the loop

static int loop(struct runner *x, struct carat_error *err)
{
    struct batch_run *run = x->run;
    int rc = 0;
    while (rc == 0) {
        if (os_interrupted() && !run->was_interrupted) {
            run->was_interrupted = true;
            local_end(run->local);
            clear(x);
            say_plain("[stopping: what runs is finished; Ctrl-C again stops at once]");
        }
        rc = run->was_interrupted ? 0 : give_lines(x, err);
        bool has_pending = local_pending(run->local) > 0;
        if (rc == 0 && has_pending) {
            rc = take_answers(x, err);
        }
        rc = rc ? rc : sync(x, err);
        if (!has_pending && (!x->has_more || run->was_interrupted)) {
            break;
        }
        draw(x);
    }
    return rc;
}

int batch_run(struct batch_run *run, struct carat_error *err)
{
    struct runner x = {.run = run, .has_more = true, .started = os_seconds()};
    x.pending =
        mem_new_array(run->n_pending_max + 1, sizeof(*x.pending), err); // one is always free
    int rc =
        x.pending ? batch_lines_open(&x.lines, run->input, run->line_max, err) : CARAT_E_MEMORY;
    rc = rc ? rc : loop(&x, err);
    clear(&x);
    for (size_t i = 0; x.pending && i < run->n_pending_max; i++) {
        batch_request_release(&x.pending[i]);
    }
    mem_free(x.pending);
    run->seconds = os_seconds() - x.started;
    batch_lines_close(&x.lines);
    return rc;
}
