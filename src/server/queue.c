// SPDX-License-Identifier: Apache-2.0
// The engine thread, and what other threads hand to it. The rounds themselves are in rounds.c.
#include "server/queue.h"

#include <pthread.h>
#include <time.h>

#include "base/error.h"
#include "base/os.h"
#include "server/decoder.h"
#include "server/rounds.h"
#include "server/work.h"

#define TICK_S 0.05 // of who waits for the end
#define LOOK_S 0.1  // who waits for the disk looks after clients as often

struct queue {
    struct server *server;
    struct workers *workers;
    struct rounds *rounds; // the engine thread's
    size_t context_max;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; // guards all below; taken before that of the workers
    pthread_cond_t changed;
    struct work *first, *last; // calls that were submitted since the last round
    size_t n_new;
    bool is_draining, is_cutting, is_stopping;
    struct queue_state state; // as of the last round
    bool is_busy;             // the engine thread has calls
};

// ------------------------------------------------------------------------------------ engine
// thread

static void wake(void *user)
{
    struct queue *q = user;
    pthread_mutex_lock(&q->lock);
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

// Under the lock.
static void wait_for_disk(struct queue *q)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(LOOK_S * 1e9);
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&q->changed, &q->lock, &until);
}

// Waits for something to do and takes it over. False: the end.
static bool take_new(struct queue *q, struct work **list, bool *is_draining, bool *is_cutting)
{
    pthread_mutex_lock(&q->lock);
    rounds_state(q->rounds, &q->state);
    q->is_busy = rounds_calls(q->rounds) > 0;
    while (!q->is_busy && !q->first && !q->is_stopping) {
        pthread_cond_wait(&q->changed, &q->lock);
    }
    if (!q->first && rounds_waits(q->rounds)) {
        wait_for_disk(q);
    }
    bool goes_on = q->is_busy || q->first;
    *list = q->first;
    *is_draining = q->is_draining;
    *is_cutting = q->is_cutting;
    q->first = q->last = NULL;
    q->n_new = 0;
    q->is_busy = goes_on;
    pthread_mutex_unlock(&q->lock);
    return goes_on;
}

static void *engine_main(void *argument)
{
    struct queue *q = argument;
    struct work *list = NULL;
    bool is_draining = false;
    bool is_cutting = false;
    struct carat_error error;
    fail(&error, CARAT_E_STOPPED, "the server is about to end");
    while (take_new(q, &list, &is_draining, &is_cutting)) {
        while (list) {
            struct work *next = list->next;
            rounds_add(q->rounds, list);
            list = next;
        }
        if (is_draining) {
            rounds_refuse(q->rounds, is_cutting, &error);
        }
        rounds_run(q->rounds);
    }
    return NULL;
}

// ------------------------------------------------------------------------------------ new and free

int queue_new(struct queue **out, struct server *server, struct carat_error *err)
{
    struct queue *q = mem_new(sizeof(*q), err);
    if (!q) {
        return CARAT_E_MEMORY;
    }
    q->server = server;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    int rc = rounds_new(&q->rounds, server, wake, q, err);
    rc = rc ? rc : workers_new(&q->workers, server, err);
    if (rc == 0) {
        q->context_max = rounds_context_max(q->rounds);
        rounds_state(q->rounds, &q->state);
        q->has_thread = pthread_create(&q->thread, NULL, engine_main, q) == 0;
        rc = q->has_thread ? 0 : fail(err, CARAT_E_MEMORY, "no thread for the engine");
    }
    if (rc) {
        queue_free(q);
        return rc;
    }
    *out = q;
    return 0;
}

void queue_free(struct queue *q)
{
    if (!q) {
        return;
    }
    pthread_mutex_lock(&q->lock);
    q->is_draining = q->is_cutting = true;
    pthread_mutex_unlock(&q->lock);
    if (q->workers) {
        workers_stop(q->workers);
    }
    pthread_mutex_lock(&q->lock);
    q->is_stopping = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    if (q->has_thread) {
        pthread_join(q->thread, NULL);
    }
    rounds_free(q->rounds);
    workers_free(q->workers);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    mem_free(q);
}

// ------------------------------------------------------------------------------------ from outside

static int refuse(const struct queue *q, size_t n_waiting, struct carat_error *err)
{
    if (q->is_draining) {
        return fail(err, CARAT_E_STOPPED, "the server is about to end and takes no more requests");
    }
    return fail(err, CARAT_E_FULL,
                "too many requests: %zu wait for their turn already, which is the limit; try again "
                "later",
                n_waiting);
}

// Under the lock.
static size_t count_waiting(const struct queue *q)
{
    return q->state.n_waiting + q->n_new;
}

// Whether one more may wait: a call that finds a free slot does not count. Under the lock.
static bool has_room(const struct queue *q, size_t n_before)
{
    size_t n_free =
        q->state.n_running < q->state.n_slots ? q->state.n_slots - q->state.n_running : 0;
    return !q->is_draining && n_before < q->server->options->queue_max + n_free;
}

int queue_give(struct queue *q, struct work *w, struct carat_error *err)
{
    pthread_mutex_lock(&q->lock);
    size_t n = count_waiting(q) + workers_busy(q->workers);
    int rc = has_room(q, n) ? 0 : refuse(q, n, err);
    pthread_mutex_unlock(&q->lock);
    return rc ? rc : workers_give(q->workers, w, err);
}

int queue_submit(struct queue *q, struct work *w, struct carat_error *err)
{
    pthread_mutex_lock(&q->lock);
    size_t n = count_waiting(q);
    int rc = has_room(q, n) ? 0 : refuse(q, n, err);
    if (rc == 0) {
        w->next = NULL;
        *(q->last ? &q->last->next : &q->first) = w;
        q->last = w;
        q->n_new++;
        workers_count_out(q->workers); // under the lock, so that nobody counts it twice
        pthread_cond_broadcast(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return rc;
}

size_t queue_context_max(const struct queue *q)
{
    return q->context_max;
}

void queue_state(struct queue *q, struct queue_state *out)
{
    pthread_mutex_lock(&q->lock);
    *out = q->state;
    out->n_waiting = count_waiting(q) + workers_busy(q->workers);
    pthread_mutex_unlock(&q->lock);
}

static bool is_over(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool is = workers_busy(q->workers) == 0 && !q->is_busy && !q->first;
    pthread_mutex_unlock(&q->lock);
    return is;
}

static void wait_tick(void)
{
    struct timespec t = {.tv_nsec = (long)(TICK_S * 1e9)};
    nanosleep(&t, NULL);
}

void queue_end(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->is_draining = true;
    pthread_mutex_unlock(&q->lock);
}

void queue_drain(struct queue *q, double seconds)
{
    queue_end(q);
    double end = os_seconds() + seconds;
    while (!is_over(q) && os_seconds() < end) {
        wait_tick();
    }
    pthread_mutex_lock(&q->lock);
    q->is_cutting = true;
    pthread_mutex_unlock(&q->lock);
    decoder_stop(q->server->decoder); // workers wait for it
    while (!is_over(q)) {
        wait_tick();
    }
}
