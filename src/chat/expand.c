// SPDX-License-Identifier: Apache-2.0
// multimodal.md section 1: a placeholder becomes its whole text before anything is tokenized, so
// that a film's times are tokenized with the text around them.
#include "chat/expand.h"

#include "base/error.h"
#include "base/mem.h"

// The strings that soft tokens stand between and as, by enum media_run_kind.
static const struct {
    const char *open;
    const char *placeholder;
    const char *close;
} markers[] = {
    [MEDIA_RUN_IMAGE] = {"<|image>", "<|image|>", "<image|>"},
    [MEDIA_RUN_VIDEO] = {"<|image>", "<|video|>", "<image|>"},
    [MEDIA_RUN_AUDIO] = {"<|audio>", "<|audio|>", "<audio|>"},
};

static const struct {
    enum carat_part_type part;
    enum carat_media_type media;
    enum media_run_kind kind;
    const char *name;
} types[] = {
    {CARAT_PART_IMAGE, CARAT_MEDIA_IMAGE, MEDIA_RUN_IMAGE, "a picture"},
    {CARAT_PART_AUDIO, CARAT_MEDIA_AUDIO, MEDIA_RUN_AUDIO, "a sound"},
    {CARAT_PART_VIDEO, CARAT_MEDIA_VIDEO, MEDIA_RUN_VIDEO, "a film"},
};
#define N_TYPES (sizeof(types) / sizeof(types[0]))

static int note_run(struct expansion *e, struct chat_run run, struct carat_error *err)
{
    if (e->n_runs == e->capacity) {
        size_t capacity = e->capacity ? 2 * e->capacity : 8;
        struct chat_run *grown = e->runs ? mem_resize(e->runs, capacity * sizeof(*grown), err)
                                         : mem_new_array(capacity, sizeof(*grown), err);
        if (!grown) {
            return CARAT_E_MEMORY;
        }
        e->runs = grown;
        e->capacity = capacity;
    }
    e->runs[e->n_runs++] = run;
    return 0;
}

static int add_run(struct expansion *e, struct pieces *out, const struct carat_media *media,
                   size_t i, struct carat_error *err)
{
    struct media_run run = media_run_at(media, i);
    pieces_add(out, run.text);
    pieces_add(out, markers[run.kind].open);
    if (run.n_tokens > 0) {
        pieces_mark(out);
        int rc = note_run(e, (struct chat_run){.media = media, .i_run = i, .n = run.n_tokens}, err);
        if (rc) {
            return rc;
        }
    }
    for (size_t k = 0; k < run.n_tokens; k++) {
        pieces_add(out, markers[run.kind].placeholder);
    }
    if (run.is_open && e->cut == 0) {
        e->cut = out->text.size;
    }
    pieces_add(out, markers[run.kind].close);
    return 0;
}

static int fail_type(const struct carat_part *part, const char *expected, struct carat_error *err)
{
    const char *found = "another medium";
    for (size_t i = 0; i < N_TYPES; i++) {
        found = types[i].media == part->media->info.type ? types[i].name : found;
    }
    return fail(err, CARAT_E_ARGUMENT, "content part: expected %s as its type says, found %s",
                expected, found);
}

int expansion_add(struct expansion *e, struct pieces *out, const struct carat_part *part,
                  struct carat_error *err)
{
    size_t i = 0;
    while (i < N_TYPES && types[i].part != part->type) {
        i++;
    }
    require(i < N_TYPES);
    if (!part->media) {
        pieces_add(out, markers[types[i].kind].placeholder);
        return 0;
    }
    if (part->media->info.type != types[i].media) {
        return fail_type(part, types[i].name, err);
    }
    size_t n = media_n_runs(part->media);
    int rc = 0;
    for (size_t k = 0; rc == 0 && k < n; k++) {
        rc = add_run(e, out, part->media, k, err);
    }
    return rc;
}

bool expansion_cut(struct expansion *e, struct pieces *out)
{
    if (e->cut == 0) {
        return false;
    }
    pieces_cut(out, e->cut);
    e->n_runs = out->n_marks < e->n_runs ? out->n_marks : e->n_runs;
    return true;
}

int expansion_place(struct expansion *e, const struct pieces *out, struct carat_error *err)
{
    for (size_t i = 0; i < e->n_runs; i++) {
        e->runs[i].first = out->marks[i].token;
        if (e->runs[i].first == SIZE_MAX) {
            return fail(err, CARAT_E_UNSUPPORTED,
                        "the model's vocabulary has no placeholders for pictures and sound");
        }
    }
    return 0;
}

void expansion_release(struct expansion *e)
{
    mem_free(e->runs);
    *e = (struct expansion){0};
}
