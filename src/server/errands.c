// SPDX-License-Identifier: Apache-2.0
#include "server/errands.h"

#include <pthread.h>

#include "base/error.h"
#include "base/mem.h"

struct errands {
    void (*on_done)(void *user);
    void *user;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; // guards all below, and is_done of what was given
    pthread_cond_t changed;
    struct errand *first, *last;
    bool is_stopping;
};

// The next one; NULL: the end.
static struct errand *take(struct errands *e)
{
    pthread_mutex_lock(&e->lock);
    while (!e->first && !e->is_stopping) {
        pthread_cond_wait(&e->changed, &e->lock);
    }
    struct errand *errand = e->first;
    if (errand) {
        e->first = errand->next;
        e->last = e->first ? e->last : NULL;
    }
    pthread_mutex_unlock(&e->lock);
    return errand;
}

static void run(const struct errand *errand)
{
    struct carat_error error;
    int rc = errand->prompt ? carat_session_prepare_disk(errand->session, errand->prompt, &error)
                            : carat_session_keep(errand->session, &error);
    if (rc) {
        log_line(CARAT_LOG_WARNING, "the cache's folder was of no use: %s", error.text);
    }
}

static void *errands_main(void *argument)
{
    struct errands *e = argument;
    for (struct errand *errand = take(e); errand; errand = take(e)) {
        run(errand);
        pthread_mutex_lock(&e->lock);
        errand->is_done = true;
        pthread_mutex_unlock(&e->lock);
        e->on_done(e->user);
    }
    return NULL;
}

int errands_new(struct errands **out, void (*on_done)(void *user), void *user,
                struct carat_error *err)
{
    struct errands *e = mem_new(sizeof(*e), err);
    if (!e) {
        return CARAT_E_MEMORY;
    }
    e->on_done = on_done;
    e->user = user;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, NULL);
    e->has_thread = pthread_create(&e->thread, NULL, errands_main, e) == 0;
    if (!e->has_thread) {
        errands_free(e);
        return fail(err, CARAT_E_MEMORY, "no thread for the cache's folder");
    }
    *out = e;
    return 0;
}

void errands_give(struct errands *e, struct errand *errand)
{
    pthread_mutex_lock(&e->lock);
    errand->is_done = false;
    errand->next = NULL;
    *(e->last ? &e->last->next : &e->first) = errand;
    e->last = errand;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

bool errands_is_done(struct errands *e, const struct errand *errand)
{
    pthread_mutex_lock(&e->lock);
    bool is = errand->is_done;
    pthread_mutex_unlock(&e->lock);
    return is;
}

void errands_free(struct errands *e)
{
    if (!e) {
        return;
    }
    pthread_mutex_lock(&e->lock);
    e->is_stopping = true;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
    if (e->has_thread) {
        pthread_join(e->thread, NULL);
    }
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    mem_free(e);
}
