// SPDX-License-Identifier: Apache-2.0
// What the OpenAI dialects share: fields that all of them read, and pieces that all of them write.
// docs/api-openai.md lists the fields.
#ifndef CARAT_SERVER_OPENAI_H
#define CARAT_SERVER_OPENAI_H

#include "server/call.h"

#define OPENAI_TOP_LOGPROBS_MAX 20
#define OPENAI_BIASES_MAX       65536

// Sampling, stop strings, number of choices, streaming, structured output by its extensions.
int openai_read_common(struct call *call, const struct json_value *root, struct carat_error *err);
// A number of tokens; -1, absent and null leave *out alone.
int openai_read_limit(const struct json_value *root, const char *key, size_t *out,
                      struct carat_error *err);
// response_format: text, json_object, json_schema.
int openai_read_format(struct call *call, const struct json_value *root, struct carat_error *err);
// Whether and how long to think: reasoning_effort, chat_template_kwargs and what others call it.
int openai_read_reasoning(struct call *call, const struct json_value *root,
                          struct carat_error *err);
// The conversation, into ask.chat. image_tokens: of pictures that do not say; 0: automatic.
int openai_read_messages(struct call *call, const struct json_value *messages,
                         uint32_t image_tokens, struct carat_error *err);
// tools, tool_choice, parallel_tool_calls; or functions, function_call, which set *is_legacy.
int openai_read_tools(struct call *call, const struct json_value *root, bool *is_legacy,
                      struct carat_error *err);
// Prompts of completions and embeddings: a string, strings, tokens or lists of tokens.
int openai_read_prompts(struct call *call, const struct json_value *v, const char *key,
                        struct carat_error *err);

// Puts the place of an object before an error about one of its fields, or about itself:
// "messages[0]" and "role: expected ..." become "messages[0].role: expected ...".
int openai_in(int rc, struct carat_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// {"id":...,"object":...,"created":...,"model":...,"system_fingerprint":...
void openai_write_head(const struct call *call, const char *id_prefix, const char *object,
                       struct buf *out);
void openai_write_usage(const struct call *call, struct buf *out);   // "usage":{...}
void openai_write_timings(const struct call *call, struct buf *out); // "timings":{...}
// "finish_reason":...,"stop_reason":..., and carat_finish where these two cannot say it.
void openai_write_finish(const struct answer *answer, bool is_legacy, struct buf *out);
void openai_error(int status, const struct carat_error *error, bool in_stream, struct buf *out);

#endif
