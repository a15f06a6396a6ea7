// SPDX-License-Identifier: Apache-2.0
// Grammars that were compiled lately: agents send the same tools with every request, and compiling
// them again would take longer than looking them up. Shared and counted. Thread-safe.
#ifndef CARAT_SERVER_COMPILED_H
#define CARAT_SERVER_COMPILED_H

#include "carat.h"

struct compiled; // a grammar that somebody uses
struct compiled_list;
int compiled_list_new(struct compiled_list **out, const struct carat_engine *engine, size_t n_max,
                      struct carat_error *err);
void compiled_list_free(struct compiled_list *list); // after everything got from it; takes NULL

// The grammar of these options, made when it is not there.
int compiled_get(struct compiled **out, struct compiled_list *list,
                 const struct carat_grammar_options *options, struct carat_error *err);
const struct carat_grammar *compiled_grammar(const struct compiled *c); // of NULL: NULL
void compiled_release(struct compiled *c);                              // takes NULL

#endif
