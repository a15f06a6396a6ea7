// SPDX-License-Identifier: Apache-2.0
// Replies that end up in a list, from which the one thread takes them that gave the requests.
#include "server/local.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/os.h"
#include "server/queue.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/work.h"

struct local_reply {
    struct http_reply reply; // first: so it is the reply of its call
    struct local *local;
    struct local_reply *next;
    void *user;
    struct buf body; // of the request
    int status;
    struct buf answer;
};

struct local {
    struct server server;
    pthread_mutex_t lock; // guards all below
    pthread_cond_t changed;
    struct local_reply *first, *last; // answered, not taken
    size_t n_pending;
};

// A streamed answer would not be one JSON value; requests that ask for it are not given here.
static const struct {
    const char *path;
    const struct dialect *dialect;
} paths[] = {
    {"/v1/chat/completions", &dialect_openai_chat},
    {"/v1/completions", &dialect_openai_text},
    {"/v1/embeddings", &dialect_openai_embeddings},
    {"/v1/responses", &dialect_openai_responses},
};

#define N_PATHS (sizeof(paths) / sizeof(paths[0]))

static size_t find_path(const char *path)
{
    size_t i = 0;
    while (i < N_PATHS && strcmp(paths[i].path, path) != 0) {
        i++;
    }
    return i;
}

bool local_knows(const char *path)
{
    return find_path(path) < N_PATHS;
}

// ------------------------------------------------------------------------------------ replies

static struct local_reply *local_reply_of(struct http_reply *reply)
{
    return (struct local_reply *)reply; // its first member
}

static void reply_free(struct local_reply *r)
{
    buf_release(&r->body);
    buf_release(&r->answer);
    mem_free(r);
}

static void reply_begin(struct http_reply *reply, int status, const char *content_type,
                        http_headers headers)
{
    (void)content_type;
    (void)headers;
    local_reply_of(reply)->status = status;
}

static bool reply_send(struct http_reply *reply, const void *data, size_t size)
{
    struct local_reply *r = local_reply_of(reply);
    buf_add(&r->answer, data, size);
    return !r->answer.has_failed;
}

static void reply_end(struct http_reply *reply)
{
    struct local_reply *r = local_reply_of(reply);
    struct local *l = r->local;
    pthread_mutex_lock(&l->lock);
    *(l->last ? &l->last->next : &l->first) = r;
    l->last = r;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void reply_all(struct http_reply *reply, int status, const char *content_type,
                      http_headers headers, const void *data, size_t size)
{
    reply_begin(reply, status, content_type, headers);
    reply_send(reply, data, size);
    reply_end(reply);
}

static bool reply_is_gone(struct http_reply *reply)
{
    (void)reply;
    return false;
}

static const struct http_reply_ops ops = {.all = reply_all,
                                          .begin = reply_begin,
                                          .send = reply_send,
                                          .end = reply_end,
                                          .is_gone = reply_is_gone};

int local_ask(struct local *l, const char *path, struct buf *body, void *user,
              struct carat_error *err)
{
    size_t row = find_path(path);
    require(row < N_PATHS);
    struct local_reply *r = mem_new(sizeof(*r), err);
    if (!r) {
        buf_release(body);
        return CARAT_E_MEMORY;
    }
    *r = (struct local_reply){.local = l, .user = user, .body = *body};
    *body = (struct buf){0};
    r->reply = (struct http_reply){.request = {.method = "POST",
                                               .path = paths[row].path,
                                               .body = slice_make(buf_text(&r->body), r->body.size),
                                               .content_type = "application/json",
                                               .client = ""},
                                   .ops = &ops};
    call_make_id(r->reply.request.id, "req_");
    pthread_mutex_lock(&l->lock);
    l->n_pending++;
    pthread_mutex_unlock(&l->lock);
    call_start(&l->server, paths[row].dialect, &r->reply);
    return 0;
}

bool local_next(struct local *l, int milliseconds, struct local_answer *out)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += milliseconds / 1000;
    end.tv_nsec += (long)(milliseconds % 1000) * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    pthread_mutex_lock(&l->lock);
    int waited = 0;
    while (!l->first && waited == 0) {
        waited = pthread_cond_timedwait(&l->changed, &l->lock, &end);
    }
    struct local_reply *r = l->first;
    if (r) {
        l->first = r->next;
        l->last = l->first ? l->last : NULL;
        l->n_pending--;
    }
    pthread_mutex_unlock(&l->lock);
    if (!r) {
        return false;
    }
    *out = (struct local_answer){.user = r->user,
                                 .status = r->status,
                                 .body = r->answer,
                                 .figures = r->reply.request.figures};
    snprintf(out->request_id, sizeof(out->request_id), "%s", r->reply.request.id);
    r->answer = (struct buf){0};
    reply_free(r);
    return true;
}

size_t local_pending(struct local *l)
{
    pthread_mutex_lock(&l->lock);
    size_t n = l->n_pending;
    pthread_mutex_unlock(&l->lock);
    return n;
}

// ------------------------------------------------------------------------------------ open and
// close

int local_open(struct local **out, const struct serve_options *options, struct carat_error *err)
{
    struct local *l = mem_new(sizeof(*l), err);
    if (!l) {
        return CARAT_E_MEMORY;
    }
    l->server.options = options;
    l->server.engine = options->engine;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    int rc = server_open(&l->server, err);
    if (rc) {
        local_close(l);
        return rc;
    }
    *out = l;
    return 0;
}

void local_end(struct local *l)
{
    queue_end(l->server.queue);
}

void local_close(struct local *l)
{
    if (!l) {
        return;
    }
    server_release(&l->server);
    while (l->first) {
        struct local_reply *r = l->first;
        l->first = r->next;
        reply_free(r);
    }
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}
