// SPDX-License-Identifier: Apache-2.0
// The parser without an engine: what carat_parser_new calls, and tests can.
#ifndef CARAT_CHAT_PARSER_H
#define CARAT_CHAT_PARSER_H

#include "model/tokenizer.h"

// A call larger than this without an end is taken for text.
#define PARSER_CALL_MAX      ((size_t)1 << 20)
#define PARSER_STOPS_MAX     64
#define PARSER_STOP_SIZE_MAX 4096

struct parser_setup {
    const struct tokenizer *tokenizer; // NULL: only text will be fed
    // Which tokens end an answer besides those of the chat format. May be NULL.
    bool (*is_stop)(const void *context, carat_token token);
    const void *context;
    size_t call_max; // 0: PARSER_CALL_MAX
};
// options may be NULL.
int parser_new(struct carat_parser **out, const struct parser_setup *setup,
               const struct carat_parser_options *options, struct carat_error *err);

#endif
