// SPDX-License-Identifier: Apache-2.0
// The grammar of a tool call as the model writes it, call:NAME{key:value,...}, to JSON.
#ifndef CARAT_CHAT_CALL_H
#define CARAT_CHAT_CALL_H

#include "base/str.h"

// Nesting that a call's arguments may have; what is deeper is no call.
#define CALL_DEPTH_MAX 512

// body is what stands between the markers. 0: the name and the arguments as a JSON object are
// appended to the two buffers. 1: this is no call; the buffers are untouched. Negative: no memory.
int call_parse(struct buf *name, struct buf *arguments, struct slice body, struct carat_error *err);

#endif
