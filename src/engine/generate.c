// SPDX-License-Identifier: Apache-2.0
// The loop of picking, reading and decoding, made of public parts only: a program can write its
// own.
#include "engine/engine.h"

#include "base/error.h"

// Hands on what the parser has; false when the caller wants no more. *ended: the message is over.
static bool drain(struct carat_parser *parser, carat_on_event on_event, void *user, bool *ended)
{
    struct carat_event event;
    bool goes_on = true;
    while (carat_parser_next(parser, &event)) {
        *ended = *ended || event.type == CARAT_EVENT_STOP;
        goes_on = on_event(user, &event) && goes_on;
    }
    return goes_on;
}

static int finish(struct carat_parser *parser, enum carat_stop why, carat_on_event on_event,
                  void *user, struct carat_error *err)
{
    bool ended = false;
    int rc = carat_parser_finish(parser, why, err);
    if (rc == 0) {
        drain(parser, on_event, user, &ended);
    }
    return rc;
}

int carat_generate(struct carat_session *session, struct carat_sampler *sampler,
                   struct carat_parser *parser, size_t max_tokens, carat_on_event on_event,
                   void *user, size_t *n_generated, struct carat_error *err)
{
    size_t n = 0;
    int rc = 0;
    if (!carat_session_logits(session)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "the session has no logits: sync it with a prompt first");
    }
    for (;;) {
        size_t used = 0;
        bool ended = false;
        carat_session_tokens(session, &used);
        carat_token token = carat_sampler_pick(sampler, carat_session_logits(session));
        n++;
        rc = carat_parser_feed(parser, token, err);
        if (rc) {
            break;
        }
        bool goes_on = drain(parser, on_event, user, &ended);
        if (ended) {
            break;
        }
        if (!goes_on) {
            rc = finish(parser, CARAT_STOP_USER, on_event, user, err);
            break;
        }
        if (n == max_tokens || used == carat_session_context_max(session)) {
            rc = finish(parser, CARAT_STOP_LENGTH, on_event, user, err);
            break;
        }
        struct carat_step step = {.session = session, .token = token};
        rc = carat_decode(&step, 1, err);
        if (rc) {
            break;
        }
    }
    if (n_generated) {
        *n_generated = n;
    }
    return rc;
}
