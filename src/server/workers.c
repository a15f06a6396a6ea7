// SPDX-License-Identifier: Apache-2.0
// From a request's body to jobs for the engine: parsing, decoding media, rendering and tokenizing
// the prompt, compiling the grammar. On a few threads of their own, so that a large picture holds
// up neither the connections nor the engine.
#include <pthread.h>

#include "base/error.h"
#include "base/os.h"
#include "server/compiled.h"
#include "server/place.h"
#include "server/work.h"

#define WORKERS_MAX    64
#define WORKERS_NORMAL 2
#define COMPILED_MAX   32 // grammars kept

struct workers {
    struct server *server;
    struct compiled_list *compiled;
    pthread_t threads[WORKERS_MAX];
    size_t n_threads;
    size_t n_max;         // calls that may wait
    pthread_mutex_t lock; // guards all below
    pthread_cond_t changed;
    struct work *first, *last;
    size_t n_waiting, n_busy;
    bool is_stopping;
};

// ------------------------------------------------------------------------------------ preparing

static int make_prompt(struct work *w, size_t i, struct carat_error *err)
{
    const struct ask *ask = &w->call.ask;
    const struct carat_engine *engine = w->call.server->engine;
    if (ask->text_tokens) {
        return carat_prompt_from_tokens(&w->prompts[i], engine, ask->text_tokens[i],
                                        ask->n_text_tokens[i], err);
    }
    if (ask->n_texts > 0) {
        return carat_prompt_from_text(&w->prompts[i], engine, ask->texts[i].data,
                                      ask->texts[i].size,
                                      ask->chat.trusts_markers ? CARAT_TOKENIZE_SPECIAL : 0, err);
    }
    return carat_prompt_from_chat(&w->prompts[i], engine,
                                  ask->n_chats > 0 ? &ask->chats[i] : &ask->chat, err);
}

// A prompt that cannot be answered is refused before anything is evaluated.
static int check_length(struct work *w, size_t i, struct carat_error *err)
{
    size_t n = 0;
    size_t context_max = queue_context_max(w->call.server->queue);
    carat_prompt_tokens(w->prompts[i], &n);
    w->call.usage.prompt_tokens += n;
    if (n == 0) {
        return fail(err, CARAT_E_ARGUMENT, "the prompt is empty");
    }
    bool needs_room = w->call.ask.kind != ASK_EMBEDDING;
    if (w->call.ask.kind == ASK_COUNT || n + needs_room <= context_max) {
        return 0;
    }
    fail(err, CARAT_E_FULL,
         "the prompt is too long: %zu tokens%s; the maximum context length is %zu tokens, the "
         "answer included. Shorten the conversation, or start the server with a longer context",
         n, w->n_prompts > 1 ? " in one of the texts" : "", context_max);
    w->failed = 400;
    return CARAT_E_FULL;
}

static int make_prompts(struct work *w, struct carat_error *err)
{
    struct call *call = &w->call;
    const struct ask *ask = &call->ask;
    bool has_texts = ask->kind != ASK_CHAT && ask->n_texts > 0;
    size_t n = has_texts ? ask->n_texts : ask->n_chats > 0 ? ask->n_chats : 1;
    size_t n_max = has_texts ? CALL_PROMPTS_MAX : CALL_CHATS_MAX;
    if (n > n_max) {
        return fail(err, CARAT_E_ARGUMENT, "expected at most %zu texts in one request, found %zu",
                    n_max, n);
    }
    w->prompts = call_take(call, n * sizeof(*w->prompts), err);
    int rc = w->prompts ? 0 : CARAT_E_MEMORY;
    for (; rc == 0 && w->n_prompts < n; w->n_prompts += rc == 0) {
        rc = make_prompt(w, w->n_prompts, err);
    }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = check_length(w, i, err);
    }
    return rc;
}

static int make_grammar(struct work *w, struct compiled_list *list, struct carat_error *err)
{
    const struct ask *ask = &w->call.ask;
    if (!ask->has_grammar || ask->kind == ASK_EMBEDDING || ask->kind == ASK_COUNT) {
        return 0;
    }
    struct carat_grammar_options options = ask->grammar;
    options.starts_in_thought = ask->kind == ASK_CHAT && carat_prompt_opens_thought(w->prompts[0]);
    options.has_no_thoughts =
        !options.starts_in_thought && !(ask->kind == ASK_CHAT && ask->chat.thinks);
    int rc = compiled_get(&w->compiled, list, &options, err);
    if (rc && err) {
        place_in_request(&w->call, err);
    }
    return rc;
}

static int make_jobs(struct work *w, struct carat_error *err)
{
    struct call *call = &w->call;
    size_t n_choices = call->ask.n_choices > 0 ? call->ask.n_choices : 1;
    if (n_choices > CALL_CHOICES_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "expected at most %d choices, found %zu",
                    CALL_CHOICES_MAX, n_choices);
    }
    n_choices = call->ask.kind == ASK_EMBEDDING ? 1 : n_choices;
    size_t n = w->n_prompts * n_choices;
    call->answers = call_take(call, n * sizeof(*call->answers), err);
    w->jobs = call_take(call, n * sizeof(*w->jobs), err);
    if (!call->answers || !w->jobs) {
        return CARAT_E_MEMORY;
    }
    call->n_answers = w->n_jobs = n;
    for (size_t i = 0; i < n; i++) {
        w->jobs[i] = (struct job){.call = call,
                                  .i_answer = i,
                                  .choice = i % n_choices,
                                  .prompt = w->prompts[i / n_choices],
                                  .grammar = compiled_grammar(w->compiled)};
    }
    return 0;
}

static int prepare(struct work *w, struct compiled_list *list, struct carat_error *err)
{
    struct call *call = &w->call;
    int rc = call->dialect->parse(call, err);
    rc = rc ? rc : make_prompts(w, err);
    rc = rc ? rc : make_grammar(w, list, err);
    return rc || call->ask.kind == ASK_COUNT ? rc : make_jobs(w, err);
}

// Everything that happens to a call here. It is gone for the caller afterwards. True: the queue has
// it, and has counted it out of here.
static bool handle(struct workers *workers, struct work *w)
{
    struct call *call = &w->call;
    struct carat_error error = {0};
    if (http_reply_is_gone(call->reply)) {
        work_cancel(w);
        return false;
    }
    if (prepare(w, workers->compiled, &error)) {
        work_fail(w, w->failed ? w->failed : call_status_of(&error), &error, 0);
        return false;
    }
    if (call->ask.kind == ASK_COUNT) {
        work_answer(w);
        return false;
    }
    double seconds = call->ask.seconds_max;
    seconds = seconds > 0 ? seconds : call->server->options->call_seconds;
    w->deadline = seconds > 0 ? w->submitted + seconds : 0;
    if (queue_submit(call->server->queue, w, &error)) {
        work_refuse(w, &error);
        return false;
    }
    return true;
}

// ------------------------------------------------------------------------------------ threads

void workers_count_out(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    workers->n_busy--;
    pthread_mutex_unlock(&workers->lock);
}

// The next call; NULL when there will be none.
static struct work *take(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    while (!workers->first && !workers->is_stopping) {
        pthread_cond_wait(&workers->changed, &workers->lock);
    }
    struct work *w = workers->is_stopping ? NULL : workers->first;
    if (w) {
        workers->first = w->next;
        workers->last = workers->first ? workers->last : NULL;
        w->next = NULL;
        workers->n_waiting--;
        workers->n_busy++;
    }
    pthread_mutex_unlock(&workers->lock);
    return w;
}

static void *worker_main(void *argument)
{
    struct workers *workers = argument;
    for (struct work *w = take(workers); w; w = take(workers)) {
        if (!handle(workers, w)) {
            workers_count_out(workers);
        }
    }
    return NULL;
}

int workers_new(struct workers **out, struct server *server, struct carat_error *err)
{
    struct workers *workers = mem_new(sizeof(*workers), err);
    if (!workers) {
        return CARAT_E_MEMORY;
    }
    size_t n = server->options->n_workers;
    n = n == 0 ? WORKERS_NORMAL : n > WORKERS_MAX ? WORKERS_MAX : n;
    workers->server = server;
    workers->n_max = server->options->queue_max + n;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->changed, NULL);
    int rc = compiled_list_new(&workers->compiled, server->engine, COMPILED_MAX, err);
    for (; rc == 0 && workers->n_threads < n; workers->n_threads++) {
        if (pthread_create(&workers->threads[workers->n_threads], NULL, worker_main, workers)) {
            rc = fail(err, CARAT_E_MEMORY, "no thread for reading requests");
            break;
        }
    }
    if (rc) {
        workers_free(workers);
        return rc;
    }
    *out = workers;
    return 0;
}

int workers_give(struct workers *workers, struct work *w, struct carat_error *err)
{
    pthread_mutex_lock(&workers->lock);
    bool has_room = workers->n_waiting < workers->n_max && !workers->is_stopping;
    if (has_room) {
        *(workers->last ? &workers->last->next : &workers->first) = w;
        workers->last = w;
        workers->n_waiting++;
        pthread_cond_signal(&workers->changed);
    }
    size_t n = workers->n_waiting;
    pthread_mutex_unlock(&workers->lock);
    return has_room ? 0
                    : fail(err, CARAT_E_FULL,
                           "too many requests: %zu wait to be read; try again later", n);
}

size_t workers_busy(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    size_t n = workers->n_waiting + workers->n_busy;
    pthread_mutex_unlock(&workers->lock);
    return n;
}

void workers_stop(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    workers->is_stopping = true;
    pthread_cond_broadcast(&workers->changed);
    pthread_mutex_unlock(&workers->lock);
    for (; workers->n_threads > 0; workers->n_threads--) {
        pthread_join(workers->threads[workers->n_threads - 1], NULL);
    }
    struct carat_error error;
    fail(&error, CARAT_E_STOPPED, "the server is about to end");
    while (workers->first) {
        struct work *w = workers->first;
        workers->first = w->next;
        work_fail(w, 503, &error, 1);
    }
}

void workers_free(struct workers *workers)
{
    if (!workers) {
        return;
    }
    workers_stop(workers);
    compiled_list_free(workers->compiled);
    pthread_cond_destroy(&workers->changed);
    pthread_mutex_destroy(&workers->lock);
    mem_free(workers);
}
