// SPDX-License-Identifier: Apache-2.0
// One timeline in a file of the caller's choice.
#include "engine/snapshot.h"

#include <string.h>

#include "base/error.h"

int carat_session_save(struct carat_session *s, const char *path, struct carat_error *err)
{
    struct snapshot_head head;
    int rc = snapshot_describe(&head, s, err);
    return rc ? rc : snapshot_write(s, &head, path, true, err);
}

static int check_fits(const struct snapshot *file, const struct carat_session *s,
                      struct carat_error *err)
{
    const struct snapshot_head *h = &file->head;
    uint8_t identity[HASH_SIZE];
    engine_identity(s->engine, identity);
    if (memcmp(h->identity, identity, HASH_SIZE) != 0) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: a snapshot of another model, or made with other projections or another "
                    "kind of arithmetic",
                    file->reader.path);
    }
    if (h->kv_type != s->options.kv_type || h->sound_sees_ahead != s->options.sound_sees_ahead) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: made by a session with another kv_type or sound_sees_ahead",
                    file->reader.path);
    }
    if (h->n_tokens > s->options.context_max) {
        return fail(err, CARAT_E_FULL, "%s: %zu tokens, the session's context holds %zu",
                    file->reader.path, h->n_tokens, s->options.context_max);
    }
    bool is_whole =
        kv_held_longest(h->windows[h->n_windows - 1], s->kv.window, h->n_tokens) == h->n_tokens;
    return snapshot_fits(h, s, identity) && is_whole
               ? 0
               : fail(err, CARAT_E_FORMAT, "%s: damaged: not the rows that its timeline needs",
                      file->reader.path);
}

int session_load(struct carat_session *s, struct snapshot *file, struct carat_error *err)
{
    int rc = check_fits(file, s, err);
    return rc ? rc : snapshot_restore(file, s, file->head.n_tokens, err);
}

int carat_session_load(struct carat_session *s, const char *path, struct carat_error *err)
{
    struct snapshot file = {0};
    int rc = snapshot_open(&file, path, err);
    rc = rc ? rc : session_load(s, &file, err);
    snapshot_close(&file);
    return rc;
}
