// SPDX-License-Identifier: Apache-2.0
// The engine's inside, for the files of this room.
#ifndef CARAT_ENGINE_ENGINE_H
#define CARAT_ENGINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "engine/internal.h"
#include "model/decoder.h"

#define SESSION_CONTEXT_DEFAULT 32768 // tokens, where the model allows as many
#define SESSION_CHUNK_DEFAULT   512

// Steps with a token that one pass evaluates together, beside a chunk of a prompt.
#define ENGINE_STEPS_MAX 64

struct lexicon; // grammar_mask.h

struct carat_engine {
    struct source *source;
    struct source *projector_source; // NULL: none, or the model's own
    struct projector projector;
    struct tokenizer *tokenizer;
    struct model_config config; // only stops and sampling are set when is_vocab_only
    struct weights weights;
    struct device *device;
    struct carat_model_info info;
    char *name;
    // Serialises evaluation: guards decoder, device, identity and the sessions' timelines
    // (session.h); nothing else changes after opening.
    pthread_mutex_t lock;
    bool has_lock;
    struct decoder decoder;
    uint8_t identity[HASH_SIZE]; // when has_identity
    atomic_bool has_identity;    // it does not change any more
    struct lexicon *lexicon;     // what grammars share; has a lock of its own
};
// The same for engines whose timelines' rows are the same: in identity.c. The first call
// takes the lock; later ones do not wait for who evaluates.
void engine_identity(struct carat_engine *engine, uint8_t out[HASH_SIZE]);

// A run of soft tokens in a prompt; the data are the prompt's own.
struct prompt_span {
    enum soft_kind kind;
    size_t first;    // position
    size_t n;        // at least 1
    uint8_t *pixels; // SOFT_IMAGE
    uint32_t width, height;
    float *samples; // SOFT_AUDIO
    size_t n_samples;
    uint64_t key; // of the whole content, a picture's dimensions included
    bool is_open; // the sound goes on: the prompt ends here
};
// What soft token i of a span is called where each sees the whole span: never 0.
uint64_t span_key(const struct prompt_span *span, size_t i);

struct carat_prompt {
    carat_token *tokens;
    size_t n_tokens;
    char *text; // NULL for a prompt made from tokens
    size_t text_size;
    bool opens_thought;
    struct prompt_span *spans; // in order
    size_t n_spans;
    size_t span_capacity;
    // What each position is besides its token: 0, or a hash of what the soft token depends on: the
    // whole picture and the place in it, or a frame of sound alone. Two timelines agree where
    // tokens and keys do. NULL without spans.
    uint64_t *keys; // [n_tokens]
    // Who holds it: its owner, until carat_prompt_free, and sessions that were prepared with it.
    // They see it const, and find it here to let it go.
    atomic_size_t n_holders;
    struct carat_prompt *self;
};
const struct carat_prompt *prompt_hold(const struct carat_prompt *prompt);
void prompt_let_go(const struct carat_prompt *prompt); // takes NULL
void prompt_drop_spans(struct carat_prompt *prompt);

// Binds the projections of pictures and sound: of the named file, else the model's own, else of an
// mmproj file beside it that fits. *out_source gets that file, or stays NULL when they are the
// model's or there are none. Both are zeroed before.
int engine_open_projector(struct projector *out, struct source **out_source,
                          const struct model_config *config, const struct source *model,
                          const char *named, struct carat_error *err);

// Which of the names in a folder is the mmproj file of this model (its file's name; empty for a
// directory): the one that names the model, or a model whose name this one's begins with, or none;
// the first among equals; the only one whatever it is called. NULL: none.
const char *projector_choose(const char *const *names, size_t n, struct slice model_name);

// Session options with every default filled in, and checked against the model.
int engine_session_options(struct carat_session_options *out, const struct model_config *config,
                           const struct carat_session_options *options, struct carat_error *err);
// rows_max: tokens evaluated together at most.
struct kv_options engine_kv_options(const struct carat_session_options *options, size_t rows_max);

#endif
