// SPDX-License-Identifier: Apache-2.0
// The decoders that are kept ready, and one medium's way through one of them.
#include "server/decoder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/os_child.h"
#include "server/decoder_words.h"
#include "server/log.h"

#define READY_MAX      64
#define MEDIA_EACH_MAX 100 // then a fresh one takes over: what libraries leak goes with the old one
#define GRACE_SECONDS  3.0 // beyond what the child gives itself: it starts, its answer travels
#define TRAVEL_SECONDS 30.0 // the same for the whole of an answer
#define CORES_USED     4    // that decoding one film may keep busy

struct ready {
    struct os_child child;
    size_t n_media; // it has decoded
};

struct decoder {
    struct decoder_options options;
    atomic_bool is_stopping;
    atomic_uint_fast64_t n_ok, n_refused, n_failed, n_started, n_running, last_number;
    pthread_mutex_t lock; // guards all below
    struct ready ready[READY_MAX];
    size_t n_ready;
};

// ------------------------------------------------------------------------------ those ready

static int start(struct decoder *d, struct ready *out, struct carat_error *err)
{
    static const char *const words[] = {DECODER_WORD, NULL};
    *out = (struct ready){.n_media = 0};
    int rc = os_child_start(&out->child, words, err);
    if (rc) {
        fail_prefix(err, "media are decoded in a process of their own");
        return rc;
    }
    atomic_fetch_add(&d->n_started, 1);
    return 0;
}

static bool pop(struct decoder *d, struct ready *out)
{
    pthread_mutex_lock(&d->lock);
    const bool has_one = d->n_ready > 0;
    if (has_one) {
        *out = d->ready[--d->n_ready];
    }
    pthread_mutex_unlock(&d->lock);
    return has_one;
}

// True: it is kept. first: only if there is none.
static bool push(struct decoder *d, const struct ready *r, bool is_first)
{
    pthread_mutex_lock(&d->lock);
    const size_t max = is_first ? 1 : d->options.ready_max;
    const bool has_room = d->n_ready < max && !atomic_load(&d->is_stopping);
    if (has_room) {
        d->ready[d->n_ready++] = *r;
    }
    pthread_mutex_unlock(&d->lock);
    return has_room;
}

static int take(struct decoder *d, struct ready *out, struct carat_error *err)
{
    while (pop(d, out)) {
        if (os_child_is_quiet(&out->child)) {
            return 0;
        }
        os_child_end(&out->child, NULL); // it died while it waited
    }
    return start(d, out, err);
}

// The next medium shall not wait for a start.
static void start_next(struct decoder *d)
{
    struct ready r;
    struct carat_error err = {0};
    if (atomic_load(&d->is_stopping)) {
        return;
    }
    if (start(d, &r, &err)) {
        log_text(d->options.logs_json, "warning", "%s", err.text);
    } else if (!push(d, &r, true)) {
        os_child_end(&r.child, NULL);
    }
}

static bool has_ready(struct decoder *d)
{
    pthread_mutex_lock(&d->lock);
    const bool has_one = d->n_ready > 0;
    pthread_mutex_unlock(&d->lock);
    return has_one;
}

// After a medium: it waits for the next one, or its time is over.
static void give_back(struct decoder *d, struct ready *r, bool is_used_up)
{
    r->n_media++;
    if (is_used_up || r->n_media >= MEDIA_EACH_MAX || !push(d, r, false)) {
        os_child_end(&r->child, NULL);
    }
    if (!has_ready(d)) {
        start_next(d);
    }
}

// ------------------------------------------------------------------------------ one medium

struct task {
    struct decoder *decoder;
    const struct decoder_wish *wish;
    const struct os_child *child;
    struct os_patience patience;
    uint64_t number;
    bool is_late; // the patience is over
};

static bool goes_on(void *user)
{
    struct task *t = user;
    return !atomic_load(&t->decoder->is_stopping) &&
           (!t->wish->go_on || t->wish->go_on(t->wish->user));
}

static int get(void *user, void *out, size_t size, struct carat_error *err)
{
    struct task *t = user;
    int rc = os_child_receive(t->child, out, size, &t->patience, err);
    t->is_late = rc == CARAT_E_FULL;
    return rc;
}

static int put(struct task *t, const void *data, size_t size, struct carat_error *err)
{
    int rc = os_child_send(t->child, data, size, &t->patience, err);
    t->is_late = rc == CARAT_E_FULL;
    return rc;
}

// How long the child may take is for the child to keep; this is for one that does not. A duration
// that nobody knows yet adds to the time where its limit is the default, as in the library.
static void set_patience(struct task *t, double *cpu_seconds)
{
    const struct carat_media_source *s = t->wish->source;
    const struct carat_media_limits *l = &s->limits;
    const double seconds = l->decode_seconds > 0 ? l->decode_seconds : DECODER_SECONDS_DEFAULT;
    const double length = l->seconds_max > 0 ? l->seconds_max : DECODER_LENGTH_DEFAULT;
    const bool adds_length = l->decode_seconds == 0 && s->type != CARAT_MEDIA_IMAGE;
    const double all = seconds + (adds_length ? length : 0);
    *cpu_seconds = all * CORES_USED;
    t->patience = (struct os_patience){.silence_seconds = seconds + GRACE_SECONDS,
                                       .deadline = os_seconds() + all + TRAVEL_SECONDS,
                                       .go_on = goes_on,
                                       .user = t};
}

static int ask(struct task *t, double cpu_seconds, struct carat_error *err)
{
    const struct carat_media_source *s = t->wish->source;
    struct decoder_request request;
    memset(&request, 0, sizeof(request)); // its gaps travel, too
    request.number = t->number;
    request.size = s->size;
    request.cpu_seconds = cpu_seconds;
    request.source = *s;
    request.source.data = NULL;
    request.source.size = 0;
    request.source.on_progress = NULL;
    request.source.user = NULL;
    int rc = put(t, &request, sizeof(request), err);
    return rc ? rc : put(t, s->data, s->size, err);
}

static const char *name_of(const struct carat_media_source *s)
{
    return s->type == CARAT_MEDIA_IMAGE   ? "picture"
           : s->type == CARAT_MEDIA_AUDIO ? "sound"
                                          : "film";
}

// What became of the medium, as an error of the file's.
static void describe(const struct task *t, const char *how, const struct carat_error *problem,
                     struct carat_error *out)
{
    const char *name = name_of(t->wish->source);
    const char *text = problem->text;
    const size_t size = strlen(name);
    if (t->is_late) {
        fail(out, CARAT_E_FORMAT, "%s: could not be decoded: the decoder gave no answer in time",
             name);
    } else if (problem->status == CARAT_E_IO) {
        fail(out, CARAT_E_FORMAT, "%s: could not be decoded: the decoder %s", name, how);
    } else {
        text += strncmp(text, name, size) == 0 && text[size] == ':' ? size + 2 : 0;
        fail(out, CARAT_E_FORMAT, "%s: could not be decoded: %s", name, text);
    }
}

// The child is of no use any more.
static int fail_task(struct task *t, struct ready *r, const struct carat_error *problem,
                     struct carat_error *err)
{
    struct decoder *d = t->decoder;
    struct carat_error said;
    char how[OS_CHILD_HOW];
    os_child_end(&r->child, how);
    if (!has_ready(d)) {
        start_next(d);
    }
    if (problem->status == CARAT_E_STOPPED || problem->status == CARAT_E_MEMORY) {
        return fail(err, (enum carat_status)problem->status, "%s: %s", name_of(t->wish->source),
                    problem->text);
    }
    describe(t, how, problem, &said);
    log_text(d->options.logs_json, "warning", "%s (a file of %zu bytes)", said.text,
             t->wish->source->size);
    atomic_fetch_add(&d->n_failed, 1);
    if (err) {
        *err = said;
    }
    return said.status;
}

// In the child that was taken for it, which is given back or ended.
static int decode_in(struct decoder *d, struct ready *r, struct carat_media **out,
                     const struct decoder_wish *wish, struct carat_error *err)
{
    struct carat_error problem = {0}, why = {0};
    struct task t = {.decoder = d, .wish = wish, .child = &r->child};
    struct carat_media *media = NULL;
    double cpu_seconds;
    t.number = atomic_fetch_add(&d->last_number, 1) + 1;
    set_patience(&t, &cpu_seconds);
    const struct decoder_hearing hearing = {
        .number = t.number, .source = wish->source, .get = get, .user = &t};
    int rc = ask(&t, cpu_seconds, &problem);
    rc = rc ? rc : decoder_hear(&hearing, &media, &why, &problem);
    if (rc) {
        return fail_task(&t, r, &problem, err);
    }
    // The child's memory is limited: that there is none left is the file's doing.
    const bool is_used_up = why.status == CARAT_E_MEMORY;
    give_back(d, r, is_used_up);
    if (!media) {
        atomic_fetch_add(&d->n_refused, 1);
        return fail(err, is_used_up ? CARAT_E_FULL : (enum carat_status)why.status, "%s", why.text);
    }
    atomic_fetch_add(&d->n_ok, 1);
    *out = media;
    return 0;
}

int decoder_decode(struct decoder *d, struct carat_media **out, const struct decoder_wish *wish,
                   struct carat_error *err)
{
    struct ready r;
    int rc = take(d, &r, err);
    if (rc) {
        atomic_fetch_add(&d->n_failed, 1);
        return rc;
    }
    atomic_fetch_add(&d->n_running, 1);
    rc = decode_in(d, &r, out, wish, err);
    atomic_fetch_sub(&d->n_running, 1);
    return rc;
}

// ------------------------------------------------------------------------------ all of it

int decoder_new(struct decoder **out, const struct decoder_options *options,
                struct carat_error *err)
{
    struct decoder *d = mem_new(sizeof(*d), err);
    if (!d) {
        return CARAT_E_MEMORY;
    }
    d->options = *options;
    const size_t max = d->options.ready_max;
    d->options.ready_max = max < 1 ? 1 : max > READY_MAX ? READY_MAX : max;
    // Of no use to one who has seen earlier numbers: each server begins elsewhere.
    atomic_store(&d->last_number, os_random_u64());
    pthread_mutex_init(&d->lock, NULL);
    start_next(d);
    *out = d;
    return 0;
}

void decoder_stop(struct decoder *d)
{
    if (d) {
        atomic_store(&d->is_stopping, true);
    }
}

void decoder_free(struct decoder *d)
{
    if (!d) {
        return;
    }
    for (size_t i = 0; i < d->n_ready; i++) {
        os_child_end(&d->ready[i].child, NULL);
    }
    pthread_mutex_destroy(&d->lock);
    mem_free(d);
}

void decoder_state(struct decoder *d, struct decoder_state *out)
{
    *out = (struct decoder_state){.n_ok = atomic_load(&d->n_ok),
                                  .n_refused = atomic_load(&d->n_refused),
                                  .n_failed = atomic_load(&d->n_failed),
                                  .n_started = atomic_load(&d->n_started),
                                  .n_running = atomic_load(&d->n_running)};
}
