// SPDX-License-Identifier: Apache-2.0
// Clients do not know which version of the chat template a model carries, and the older ones have
// no place for some of what a conversation may hold.
#ifndef CARAT_SERVER_CONTENT_FIT_H
#define CARAT_SERVER_CONTENT_FIT_H

#include "server/call.h"

// Moves what the model's template has no place for to where it has one: pictures and sound of a
// tool's result into the user's words behind it, and for the oldest versions tool messages onto the
// message that made the calls. Changes ask.chat; lists in the call's arena. template_name is what
// carat_chat_template_name says.
int content_fit(struct call *call, const char *template_name, struct carat_error *err);

#endif
