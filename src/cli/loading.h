// SPDX-License-Identifier: Apache-2.0
// From a word of the command line to an open model, saying on the way what it will cost.
#ifndef CARAT_CLI_LOADING_H
#define CARAT_CLI_LOADING_H

#include "cli/settings.h"

struct loaded {
    struct buf path;
    struct carat_engine *engine;
    struct carat_session *session;
    struct progress progress;         // of loading
    struct progress prefill_progress; // of the session
    struct progress media_progress;   // of decoding
    double load_s;
};

struct loading_options {
    const char *model; // NULL: the default one
    const struct model_settings *settings;
    size_t rewind_max; // this and the next as in carat_session_options
    bool sound_sees_ahead;
    bool is_quiet;             // no bars
    bool is_verbose;           // say what is loaded and what it takes
    carat_on_tensor on_tensor; // of the session; NULL: none
    void *tensor_user;
};

// Opens the model and a session. The structure must stay where it is until loaded_release.
int loaded_open(struct loaded *l, const struct loading_options *options, const struct output *out,
                struct carat_error *err);
// The same in two steps, for who must know the model before the session's size.
int loaded_open_engine(struct loaded *l, const struct loading_options *options,
                       const struct output *out, struct carat_error *err);
int loaded_open_session(struct loaded *l, const struct loading_options *options,
                        struct carat_memory *need, struct carat_error *err);
// The model without tensors: tokenizer and chat only.
int loaded_open_vocab(struct loaded *l, const char *model, struct carat_error *err);
void loaded_release(struct loaded *l);

#endif
