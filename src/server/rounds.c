// SPDX-License-Identifier: Apache-2.0
// Continuous batching. Fair in three ways: calls get slots in the order they came, but one with
// many choices has as few as everybody else while others wait; the prompts of a round share what
// keeps its time short (pace.h); and who waits for answers is looked after between any two rounds.
#include "server/rounds.h"

#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "server/choice.h"
#include "server/errands.h"
#include "server/pace.h"

#define LOOK_S         0.1  // between two looks at whether waiting clients are still there
#define KEEPALIVE_S    10.0 // a stream that has nothing to say for so long says that it is alive
#define OPENING_TOKENS 16   // an empty thought and the like, behind what a later prompt repeats

enum slot_state {
    SLOT_IDLE,
    SLOT_PREPARING, // the disk is asked for the prompt
    SLOT_READING,
    SLOT_KEEPING, // as READING, but what was read goes to the disk first
    SLOT_ANSWERING
};

// A session with what it is used for.
struct slot {
    struct carat_session *session;
    enum slot_state state;
    struct work *work; // these three while it is not idle
    struct job *job;
    struct choice *choice; // NULL for an embedding
    double since;          // when it became what it is
    size_t n_prompt;       // tokens of the prompt it was last used for
    bool is_away;          // an errand has the session: nobody looks at it
    struct errand errand;
    size_t n_before; // tokens in the session when it went
};

struct rounds {
    struct server *server;
    struct slot *slots; // [n_slots]
    size_t n_slots;
    struct choice_markers markers;
    struct pace pace;
    struct errands *errands;
    size_t context_max;
    struct work *first, *last; // calls, in the order they came
    size_t n_calls, n_waiting; // n_waiting: have no slot and had none
    double looked;             // when all calls were looked after
    double slot_s;             // a job's time in its slot, on average
    struct carat_step *steps;  // these five [n_slots], of one round
    struct slot **reading;
    size_t *left, *share, *order;
};

// ------------------------------------------------------------------------------------ new and free

static int make_slots(struct rounds *r, struct carat_error *err)
{
    const struct serve_options *o = r->server->options;
    struct carat_session_options options = o->session;
    options.cache = r->server->cache;
    size_t n = o->n_slots > 0 ? o->n_slots : 1;
    r->slots = mem_new_array(n, sizeof(*r->slots), err);
    r->steps = mem_new_array(n, sizeof(*r->steps), err);
    r->reading = mem_new_array(n, sizeof(struct slot *), err);
    r->left = mem_new_array(3 * n, sizeof(*r->left), err);
    if (!r->slots || !r->steps || !r->reading || !r->left) {
        return CARAT_E_MEMORY;
    }
    r->share = r->left + n;
    r->order = r->share + n;
    for (; r->n_slots < n; r->n_slots++) {
        int rc = carat_session_new(&r->slots[r->n_slots].session, r->server->engine, &options, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

int rounds_new(struct rounds **out, struct server *server, void (*wake)(void *user), void *user,
               struct carat_error *err)
{
    struct rounds *r = mem_new(sizeof(*r), err);
    if (!r) {
        return CARAT_E_MEMORY;
    }
    r->server = server;
    size_t chunk = server->options->session.prefill_chunk;
    r->pace.chunk_max = chunk > 0 ? chunk : 512;
    choice_find_markers(&r->markers, server->engine);
    int rc = errands_new(&r->errands, wake, user, err);
    rc = rc ? rc : make_slots(r, err);
    if (rc) {
        rounds_free(r);
        return rc;
    }
    r->context_max = carat_session_context_max(r->slots[0].session);
    *out = r;
    return 0;
}

void rounds_free(struct rounds *r)
{
    if (!r) {
        return;
    }
    errands_free(r->errands);
    for (size_t i = 0; i < r->n_slots; i++) {
        struct carat_error error;
        if (carat_session_keep(r->slots[i].session, &error)) {
            log_line(CARAT_LOG_WARNING, "a session could not be kept: %s", error.text);
        }
        carat_session_free(r->slots[i].session);
    }
    mem_free(r->slots);
    mem_free(r->steps);
    mem_free(r->reading);
    mem_free(r->left);
    mem_free(r);
}

size_t rounds_context_max(const struct rounds *r)
{
    return r->context_max;
}

size_t rounds_calls(const struct rounds *r)
{
    return r->n_calls;
}

static size_t n_used(const struct slot *s)
{
    size_t n = s->n_before;
    if (!s->is_away) {
        carat_session_tokens(s->session, &n);
    }
    return n;
}

void rounds_state(const struct rounds *r, struct queue_state *out)
{
    size_t n_tokens = 0;
    *out = (struct queue_state){
        .n_waiting = r->n_waiting, .n_running = r->n_calls - r->n_waiting, .n_slots = r->n_slots};
    size_t n_idle = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        n_tokens += n_used(&r->slots[i]);
        n_idle += r->slots[i].state == SLOT_IDLE;
    }
    out->cache_use = (double)n_tokens / ((double)r->context_max * (double)r->n_slots);
    if (n_idle == 0) {
        out->seconds_left = r->slot_s * (double)(r->n_waiting + 1) / (double)r->n_slots;
    }
}

// ------------------------------------------------------------------------------------ calls

void rounds_add(struct rounds *r, struct work *w)
{
    w->next = NULL;
    *(r->last ? &r->last->next : &r->first) = w;
    r->last = w;
    r->n_calls++;
    r->n_waiting++;
}

static void free_slot(struct rounds *r, struct slot *s)
{
    double now = os_seconds();
    double seconds = now - s->since;
    r->slot_s = r->slot_s > 0 ? r->slot_s + 0.2 * (seconds - r->slot_s) : seconds;
    choice_free(s->choice);
    *s = (struct slot){.session = s->session, .since = now, .n_prompt = s->n_prompt};
}

static void fail_work(struct work *w, int status, const struct carat_error *error)
{
    if (!w->failed) {
        w->failed = status;
        w->error = *error;
    }
}

// Takes a call that is over out of the line, frees its slots and answers.
static void end_call(struct rounds *r, struct work **at)
{
    struct work *w = *at;
    *at = w->next;
    if (r->last == w) {
        r->last = NULL;
        for (struct work *v = r->first; v; v = v->next) {
            r->last = v;
        }
    }
    r->n_calls--;
    r->n_waiting -= w->n_begun == 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        if (r->slots[i].work == w) {
            free_slot(r, &r->slots[i]);
        }
    }
    if (w->is_cancelled) {
        work_cancel(w);
    } else if (w->failed) {
        work_fail(w, w->failed, &w->error, w->failed == 503 ? 1 : 0);
    } else {
        work_answer(w);
    }
}

// Its session and its prompt are not the engine thread's for the moment.
static bool is_away(const struct rounds *r, const struct work *w)
{
    bool is = false;
    for (size_t i = 0; i < r->n_slots; i++) {
        is = is || (r->slots[i].work == w && r->slots[i].is_away);
    }
    return is;
}

static void end_calls(struct rounds *r)
{
    for (struct work **at = &r->first; *at;) {
        struct work *w = *at;
        bool is_over = w->is_cancelled || w->failed || w->n_ended == w->n_jobs;
        if (is_over && !is_away(r, w)) {
            end_call(r, at);
        } else {
            at = &w->next;
        }
    }
}

void rounds_refuse(struct rounds *r, bool also_running, const struct carat_error *error)
{
    for (struct work *w = r->first; w; w = w->next) {
        if (also_running || w->n_begun == 0) {
            fail_work(w, 503, error);
        }
    }
    end_calls(r);
}

// ------------------------------------------------------------------------------------ looking
// after

// Whether every job has a slot and has begun to answer: then what is there is worth something.
static bool is_answering(const struct rounds *r, const struct work *w)
{
    bool is_one_reading = false;
    for (size_t i = 0; i < r->n_slots; i++) {
        const struct slot *s = &r->slots[i];
        is_one_reading = is_one_reading || (s->work == w && s->state != SLOT_ANSWERING);
    }
    return !is_one_reading && w->n_begun == w->n_jobs && w->first_token > 0;
}

static void end_job(struct rounds *r, struct slot *s)
{
    s->work->n_ended++;
    free_slot(r, s);
}

static void end_late(struct rounds *r, struct work *w)
{
    struct carat_error error;
    if (!is_answering(r, w)) {
        fail(&error, CARAT_E_STOPPED,
             w->n_begun == 0 ? "the request waited %g s for its turn, which is its time limit"
                             : "the request took longer than its time limit of %g s, and the "
                               "answer had not begun",
             w->deadline - w->submitted);
        fail_work(w, w->n_begun == 0 ? 503 : 504, &error);
        return;
    }
    w->is_cut = true;
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->work == w) {
            if (choice_finish(s->choice, CARAT_STOP_LENGTH, &error)) {
                fail_work(w, 500, &error);
            }
            end_job(r, s);
        }
    }
}

static void keep_alive(struct work *w, double now)
{
    if (!w->has_begun || now - w->last_sent < KEEPALIVE_S ||
        strcmp(w->call.dialect->stream_content_type, "text/event-stream") != 0) {
        return;
    }
    struct buf comment = {0};
    buf_adds(&comment, ": still here\n\n");
    work_send(w, &comment);
    buf_release(&comment);
}

static void look_after_calls(struct rounds *r)
{
    double now = os_seconds();
    bool looks_at_all = now - r->looked >= LOOK_S;
    r->looked = looks_at_all ? now : r->looked;
    for (struct work *w = r->first; w; w = w->next) {
        bool looks = looks_at_all || w->n_begun > 0;
        if (looks && http_reply_is_gone(w->call.reply)) {
            w->is_cancelled = true;
        } else if (w->deadline > 0 && now >= w->deadline) {
            end_late(r, w);
        } else {
            keep_alive(w, now);
        }
    }
    end_calls(r);
}

// ------------------------------------------------------------------------------------ giving slots

static size_t n_slots_of(const struct rounds *r, const struct work *w)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        n += r->slots[i].work == w;
    }
    return n;
}

// The next job of a call, if it can begin: the choices of a prompt wait until the first has read
// it, and take it from there.
static struct job *next_job(const struct rounds *r, const struct work *w)
{
    struct job *job = w->n_begun < w->n_jobs ? &w->jobs[w->n_begun] : NULL;
    for (size_t i = 0; job && i < r->n_slots; i++) {
        const struct slot *s = &r->slots[i];
        bool is_reading =
            s->state == SLOT_PREPARING || s->state == SLOT_READING || s->state == SLOT_KEEPING;
        if (s->work == w && is_reading && s->job->prompt == job->prompt) {
            return NULL;
        }
    }
    return job;
}

static struct work *next_in_line(const struct rounds *r)
{
    struct work *best = NULL;
    size_t fewest = SIZE_MAX;
    for (struct work *w = r->first; w; w = w->next) {
        size_t n = n_slots_of(r, w);
        if (n < fewest && !w->failed && !w->is_cancelled && next_job(r, w)) {
            best = w;
            fewest = n;
        }
    }
    return best;
}

// Whether a prompt that has so much in common with a slot's timeline goes on from there: it reaches
// the end of the last prompt, but for the few tokens that open an answer, whatever came of the
// answer; or most of the timeline stays. Else it is another conversation with the same beginning,
// which the cache copies just as well into the slot unused for longest.
static bool goes_on_from(const struct slot *s, size_t common)
{
    return common + OPENING_TOKENS >= s->n_prompt || common >= n_used(s) / 2;
}

// The idle slot whose timeline spares most of the prompt, unless that would give up a long one for
// a short beginning.
static struct slot *choose_slot(const struct rounds *r, const struct carat_prompt *prompt)
{
    struct slot *oldest = NULL;
    struct slot *best = NULL;
    size_t best_common = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->state != SLOT_IDLE) {
            continue;
        }
        size_t common = carat_session_common(s->session, prompt);
        if (common > best_common && goes_on_from(s, common)) {
            best = s;
            best_common = common;
        }
        oldest = !oldest || s->since < oldest->since ? s : oldest;
    }
    return best ? best : oldest;
}

static void note_begin(struct work *w, double now)
{
    struct call *call = &w->call;
    if (w->n_begun++ > 0) {
        return;
    }
    w->first_slot = now;
    call->usage.queue_s = now - w->submitted;
    histogram_add(&call->server->metrics.queue, call->usage.queue_s);
}

// With a prompt, what its reading needs of the disk is done; without, the timeline is kept.
static void send_away(struct rounds *r, struct slot *s, const struct carat_prompt *prompt)
{
    s->n_before = n_used(s);
    s->is_away = true;
    s->errand = (struct errand){.session = s->session, .prompt = prompt};
    errands_give(r->errands, &s->errand);
}

// What was reused is known before the stream begins, because some dialects say it there.
static int prepare(struct slot *s, struct carat_error *err)
{
    size_t reused = 0;
    struct work *w = s->work;
    bool is_embedding = w->call.ask.kind == ASK_EMBEDDING;
    int rc = is_embedding ? carat_session_prepare_embedding(s->session, s->job->prompt, err)
                          : carat_session_prepare(s->session, s->job->prompt, &reused, err);
    if (rc) {
        return rc;
    }
    s->state = SLOT_READING;
    w->call.usage.cached_tokens += s->job->choice == 0 ? reused : 0;
    if (w->call.ask.streams && !w->has_begun) {
        work_begin(w);
    }
    return 0;
}

static int begin_job(struct rounds *r, struct slot *s, struct work *w, struct job *job,
                     struct carat_error *err)
{
    bool is_embedding = w->call.ask.kind == ASK_EMBEDDING;
    *s = (struct slot){.session = s->session,
                       .state = SLOT_PREPARING,
                       .work = w,
                       .job = job,
                       .since = os_seconds()};
    carat_prompt_tokens(job->prompt, &s->n_prompt);
    r->n_waiting -= w->n_begun == 0;
    note_begin(w, s->since);
    int rc = is_embedding ? 0 : choice_new(&s->choice, job, &r->markers, err);
    const struct carat_prompt *prompt = is_embedding ? NULL : job->prompt;
    if (rc == 0 && carat_session_needs_disk(s->session, prompt)) {
        send_away(r, s, prompt);
        return 0;
    }
    return rc ? rc : prepare(s, err);
}

static void give_slots(struct rounds *r)
{
    for (;;) {
        struct work *w = next_in_line(r);
        struct job *job = w ? next_job(r, w) : NULL;
        struct slot *s = job ? choose_slot(r, job->prompt) : NULL;
        if (!s) {
            return;
        }
        struct carat_error error;
        if (begin_job(r, s, w, job, &error)) {
            fail_work(w, call_status_of(&error), &error);
        }
    }
}

// ------------------------------------------------------------------------------------ the disk

// Sessions that come back from the disk go on where they left.
static void take_back(struct rounds *r)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        struct carat_error error;
        if (!s->is_away || !errands_is_done(r->errands, &s->errand)) {
            continue;
        }
        s->is_away = false;
        if (s->state == SLOT_KEEPING) {
            s->state = SLOT_READING;
        } else if (!s->work->failed && !s->work->is_cancelled && prepare(s, &error)) {
            fail_work(s->work, call_status_of(&error), &error);
        }
    }
}

// Where prompts part, what was read goes to the disk before it is read on.
static void keep_where_prompts_part(struct rounds *r)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->state == SLOT_READING && carat_session_parts(s->session)) {
            s->state = SLOT_KEEPING;
            send_away(r, s, NULL);
        }
    }
}

bool rounds_waits(const struct rounds *r)
{
    bool is_one_away = false;
    for (size_t i = 0; i < r->n_slots; i++) {
        const struct slot *s = &r->slots[i];
        bool goes_on = s->work && !s->is_away && !s->work->failed && !s->work->is_cancelled;
        if (goes_on || (s->is_away && errands_is_done(r->errands, &s->errand))) {
            return false;
        }
        is_one_away = is_one_away || s->is_away;
    }
    return is_one_away;
}

// ------------------------------------------------------------------------------------ the round

// One token of every answer; those that go on are steps of the round. How many.
static size_t pick_tokens(struct rounds *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->state != SLOT_ANSWERING || s->work->failed || s->work->is_cancelled) {
            continue;
        }
        struct carat_error error;
        carat_token token = CARAT_TOKEN_NONE;
        bool has_room = n_used(s) < r->context_max;
        const float *logits = carat_session_logits(s->session);
        int rc = logits ? choice_pick(s->choice, logits, has_room, &token, &error)
                        : fail(&error, CARAT_E_DEVICE, "there are no logits behind the prompt");
        if (rc) {
            fail_work(s->work, call_status_of(&error), &error);
        } else if (token == CARAT_TOKEN_NONE) {
            end_job(r, s);
        } else {
            r->steps[n++] = (struct carat_step){.session = s->session, .token = token};
        }
    }
    return n;
}

// The prompts that are being read, oldest first.
static size_t list_reading(struct rounds *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->state != SLOT_READING || s->work->failed || s->work->is_cancelled) {
            continue;
        }
        size_t at = n++;
        for (; at > 0 && r->reading[at - 1]->since > s->since; at--) {
            r->reading[at] = r->reading[at - 1];
        }
        r->reading[at] = s;
    }
    return n;
}

// Adds pieces of prompts to the round; how many steps there are then.
static size_t add_pieces(struct rounds *r, size_t n_steps)
{
    size_t n = list_reading(r);
    for (size_t i = 0; i < n; i++) {
        r->left[i] = carat_session_pending(r->reading[i]->session);
    }
    size_t budget = pace_budget(&r->pace, n_steps);
    size_t n_pieces = pace_share(budget, r->left, n, r->share, r->order);
    for (size_t k = 0; k < n_pieces; k++) {
        size_t i = r->order[k];
        r->steps[n_steps++] = (struct carat_step){.session = r->reading[i]->session,
                                                  .token = CARAT_TOKEN_NONE,
                                                  .n_tokens_max = r->share[i]};
    }
    return n_steps;
}

static size_t total_pending(const struct rounds *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        n += r->slots[i].state == SLOT_READING ? carat_session_pending(r->slots[i].session) : 0;
    }
    return n;
}

static void answer_embedding(struct rounds *r, struct slot *s)
{
    struct carat_error error;
    struct work *w = s->work;
    size_t size = carat_engine_info(r->server->engine)->hidden_size;
    float *out = call_take(&w->call, size * sizeof(*out), &error);
    int rc = out ? carat_session_embedding(s->session, out, &error) : CARAT_E_MEMORY;
    if (rc) {
        fail_work(w, call_status_of(&error), &error);
        return;
    }
    w->call.answers[s->job->i_answer].embedding = out;
    w->call.answers[s->job->i_answer].stop = CARAT_STOP_TURN;
    end_job(r, s);
}

// Whose prompts are read now begin to answer; for an embedding that is all.
static void turn_to_answers(struct rounds *r)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->state != SLOT_READING || s->work->failed || s->work->is_cancelled ||
            carat_session_pending(s->session) > 0) {
            continue;
        }
        if (s->choice) {
            s->state = SLOT_ANSWERING;
        } else {
            answer_embedding(r, s);
        }
    }
}

// A round that fails takes everybody in it along: what failed is the device.
static void fail_round(struct rounds *r, const struct carat_error *error)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->state == SLOT_READING || s->state == SLOT_ANSWERING) {
            fail_work(s->work, 500, error);
        }
    }
}

static void evaluate(struct rounds *r)
{
    struct carat_error error;
    size_t n_answering = pick_tokens(r);
    size_t n = add_pieces(r, n_answering);
    if (n == 0) {
        return;
    }
    size_t before = total_pending(r);
    double begin = os_seconds();
    int rc = carat_decode(r->steps, n, &error);
    double seconds = os_seconds() - begin;
    if (rc) {
        fail_round(r, &error);
        return;
    }
    pace_learn(&r->pace, before - total_pending(r), n_answering, seconds);
}

void rounds_run(struct rounds *r)
{
    take_back(r);
    look_after_calls(r);
    give_slots(r);
    turn_to_answers(r);
    evaluate(r);
    turn_to_answers(r);
    keep_where_prompts_part(r);
    end_calls(r);
}
