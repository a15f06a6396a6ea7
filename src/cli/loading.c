// SPDX-License-Identifier: Apache-2.0
#include "cli/loading.h"

#include "base/os.h"
#include "cli/model_path.h"

// A machine that lacks the memory would swap for minutes without a word.
static void say_memory(const struct carat_memory *need, bool is_verbose)
{
    uint64_t available = os_memory_available(), all = os_memory_total();
    if (is_verbose) {
        say_plain("[memory: %s in all: weights %s, kv cache %s for %zu tokens, other %s]",
                  size_text(need->total).text, size_text(need->weights).text,
                  size_text(need->kv_full + need->kv_sliding).text, need->context_max,
                  size_text(need->tables + need->scratch).text);
    }
    if (all && need->total > all) {
        say("warning: this takes up to %s and the machine has %s: expect it to be very slow (a "
            "smaller --context or another --kv-type needs less)",
            size_text(need->total).text, size_text(all).text);
    } else if (available && need->total > available) {
        say("warning: this takes up to %s and only %s are free: close other programs (a smaller "
            "--context or another --kv-type needs less)",
            size_text(need->total).text, size_text(available).text);
    }
}

static void say_model(const struct loaded *l)
{
    const struct carat_model_info *info = carat_engine_info(l->engine);
    say_plain("[%s: %s, %s, %s parameters, %zu threads (%s), loaded in %.2f s]", info->name,
              info->container, info->weight_type, count_text(info->n_parameters).text,
              info->n_threads, info->cpu_level, l->load_s);
    if (info->sees || info->hears) {
        say_plain("[it %s%s%s, by %s]", info->sees ? "sees" : "",
                  info->sees && info->hears ? " and " : "", info->hears ? "hears" : "",
                  info->projector);
    }
}

static void set_progress(struct loaded *l, const struct loading_options *options,
                         const struct output *out)
{
    l->progress.is_visible = out->errors_are_terminal && !options->is_quiet;
    l->progress.is_bytes = true;
    l->prefill_progress.is_visible = l->media_progress.is_visible = l->progress.is_visible;
    l->media_progress.is_share = true;
}

static void choose_session(struct carat_session_options *session, struct loaded *l,
                           const struct loading_options *options)
{
    settings_session(session, options->settings, &l->prefill_progress);
    session->rewind_max = options->rewind_max;
    session->sound_sees_ahead = options->sound_sees_ahead;
    if (options->on_tensor) { // they share the user
        session->on_progress = NULL;
        session->on_tensor = options->on_tensor;
        session->user = options->tensor_user;
    }
}

static int open_engine(struct loaded *l, const struct carat_engine_options *engine,
                       struct carat_error *err)
{
    double started = os_seconds();
    int rc = carat_engine_open(&l->engine, engine, err);
    progress_end(&l->progress);
    l->load_s = os_seconds() - started;
    return rc;
}

int loaded_open(struct loaded *l, const struct loading_options *options, const struct output *out,
                struct carat_error *err)
{
    struct carat_engine_options engine;
    struct carat_session_options session;
    struct carat_memory need;
    int rc = model_path_find(&l->path, options->model, err);
    if (rc) {
        return rc;
    }
    set_progress(l, options, out);
    settings_engine(&engine, options->settings, l->path.data, &l->progress);
    choose_session(&session, l, options);
    rc = carat_estimate(&need, &engine, &session, err);
    if (rc) {
        return rc;
    }
    say_memory(&need, options->is_verbose);
    rc = open_engine(l, &engine, err);
    if (rc) {
        return rc;
    }
    if (options->is_verbose) {
        say_model(l);
    }
    return carat_session_new(&l->session, l->engine, &session, err);
}

int loaded_open_engine(struct loaded *l, const struct loading_options *options,
                       const struct output *out, struct carat_error *err)
{
    struct carat_engine_options engine;
    int rc = model_path_find(&l->path, options->model, err);
    if (rc) {
        return rc;
    }
    set_progress(l, options, out);
    settings_engine(&engine, options->settings, l->path.data, &l->progress);
    return open_engine(l, &engine, err);
}

int loaded_open_session(struct loaded *l, const struct loading_options *options,
                        struct carat_memory *need, struct carat_error *err)
{
    struct carat_session_options session;
    choose_session(&session, l, options);
    int rc = carat_engine_estimate(need, l->engine, &session, err);
    if (rc) {
        return rc;
    }
    say_memory(need, options->is_verbose);
    return carat_session_new(&l->session, l->engine, &session, err);
}

int loaded_open_vocab(struct loaded *l, const char *model, struct carat_error *err)
{
    int rc = model_path_find(&l->path, model, err);
    if (rc) {
        return rc;
    }
    struct carat_engine_options engine = {
        .model = l->path.data, .n_threads = 1, .is_vocab_only = true};
    return carat_engine_open(&l->engine, &engine, err);
}

void loaded_release(struct loaded *l)
{
    progress_end(&l->progress);
    progress_end(&l->prefill_progress);
    progress_end(&l->media_progress);
    carat_session_free(l->session);
    carat_engine_close(l->engine);
    buf_release(&l->path);
    l->session = NULL;
    l->engine = NULL;
}
