// SPDX-License-Identifier: Apache-2.0
// Declared tools to the rule of a call's body, call:NAME{key:value,...} (docs/chat.md, "Calls").
#ifndef CARAT_ENGINE_GRAMMAR_CALL_H
#define CARAT_ENGINE_GRAMMAR_CALL_H

#include "engine/grammar_program.h"

#define CALL_TOOLS_MAX      1024u
#define CALL_TOOLS_SIZE_MAX ((size_t)4 << 20) // bytes of the declarations

// tools: a JSON array in the OpenAI form. only: the one tool that may be called; NULL: any.
int call_draw(struct program *program, const char *tools, const char *only, uint32_t *rule,
              struct carat_error *err);

#endif
