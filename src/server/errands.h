// SPDX-License-Identifier: Apache-2.0
// What has to wait for the disk is done on a thread of its own, one errand after another, so that
// rounds go on meanwhile. While an errand is on its way nobody else uses its session.
#ifndef CARAT_SERVER_ERRANDS_H
#define CARAT_SERVER_ERRANDS_H

#include "carat.h"

struct errand {
    struct carat_session *session;
    const struct carat_prompt *prompt; // prepared for; NULL: the timeline is kept
    bool is_done;
    struct errand *next;
};

struct errands;
// on_done is called on that thread, after each errand and without a lock.
int errands_new(struct errands **out, void (*on_done)(void *user), void *user,
                struct carat_error *err);
// The errand stays where it is until it is done. What fails is a line in the log: the cache's
// folder is never a reason for a request to fail.
void errands_give(struct errands *e, struct errand *errand);
bool errands_is_done(struct errands *e, const struct errand *errand);
void errands_free(struct errands *e); // does what was given before; takes NULL

#endif
