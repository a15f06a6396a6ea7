// SPDX-License-Identifier: Apache-2.0
// What the chat room needs to know of an engine and a prompt.
#ifndef CARAT_ENGINE_INTERNAL_H
#define CARAT_ENGINE_INTERNAL_H

#include "engine/media.h"
#include "model/tokenizer.h"

const struct tokenizer *engine_tokenizer(const struct carat_engine *engine);
// The template that the model file carries, as text; empty when it has none. Lives with the engine.
struct slice engine_chat_template(const struct carat_engine *engine);
bool engine_is_stop(const struct carat_engine *engine, carat_token token);
// Tokens that must never be sampled, by the model's generation config. Lives with the engine.
const carat_token *engine_suppressed(const struct carat_engine *engine, size_t *n);
// Overwrites what the model's generation config says (temperature, top_k, top_p, ...; do_sample
// false is temperature 0) and leaves the rest of *out alone.
void engine_sampling_defaults(const struct carat_engine *engine, struct carat_sampling *out);

// A prompt from finished tokens; takes over the list's memory and the text's (text may be NULL).
int prompt_new(struct carat_prompt **out, struct token_list *tokens, struct buf *text,
               bool opens_thought, struct carat_error *err);
// The placeholders at [first, first + n) are run i_run of this medium; the prompt copies its data.
// Runs are added in order, none without tokens. One that is open must end the prompt.
int prompt_add_run(struct carat_prompt *prompt, const struct carat_engine *engine, size_t first,
                   size_t n, const struct carat_media *media, size_t i_run,
                   struct carat_error *err);

#endif
