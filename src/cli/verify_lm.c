// SPDX-License-Identifier: Apache-2.0
// Goldens of kind "lm": a prompt goes through the model and every recorded tensor is compared on
// its way; then the same by other roads (cached decoding, chunks, one token at a time), which must
// come to the same place. All in float, with a float32 kv cache: the recorded numbers are such.
#include "cli/verify.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LOGITS_TOLERANCE 1e-3
#define HIDDEN_TOLERANCE 1e-3 // times the tensor's rms, where that is above 1

// A recorded tensor that the trace will meet.
struct expected {
    char name[48]; // as in the golden
    char trace[24];
    int layer;
    float *values;
    size_t n, n_columns;
    size_t rows_seen;
    bool has_wrong_shape;
    struct difference difference;
};

struct lm {
    struct report *report;
    const struct golden *golden;
    struct carat_engine *engine;
    carat_token *ids;
    size_t n_ids;
    struct expected *expected;
    size_t n_expected;
    float *last_logits; // of the whole prompt at once
    size_t n_vocab;
    struct media_set media;
};

static void on_tensor(void *user, const char *name, int layer, size_t first, size_t n_rows,
                      size_t n_columns, const float *rows)
{
    struct lm *lm = user;
    for (size_t i = 0; i < lm->n_expected; i++) {
        struct expected *e = &lm->expected[i];
        if (e->layer != layer || strcmp(e->trace, name) != 0) {
            continue;
        }
        if (n_columns == 0 || e->n % n_columns || first + n_rows > e->n / n_columns) {
            e->has_wrong_shape = true;
            return;
        }
        e->n_columns = n_columns;
        e->rows_seen += n_rows;
        difference_add(&e->difference, rows, e->values + first * n_columns, n_rows * n_columns,
                       first * n_columns);
        return;
    }
}

static double rms(const float *values, size_t n)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        squares += (double)values[i] * (double)values[i];
    }
    return n ? sqrt(squares / (double)n) : 0;
}

// Whether a recorded tensor is one that the trace has, and where.
static bool parse_name(const char *name, struct expected *e)
{
    unsigned layer = 0;
    int end = 0;
    size_t size = strlen(name) + 1;
    if (size > sizeof(e->name)) {
        return false;
    }
    memcpy(e->name, name, size);
    e->layer = -1;
    if (strcmp(name, "out.embed") == 0 || strcmp(name, "out.norm") == 0 ||
        strcmp(name, "out.logits") == 0) {
        snprintf(e->trace, sizeof(e->trace), "%s", name + 4);
        return true;
    }
    if (sscanf(name, "out.hidden.%5u%n", &layer, &end) == 1 && name[end] == '\0') {
        snprintf(e->trace, sizeof(e->trace), "hidden");
        e->layer = (int)layer;
        return true;
    }
    return false;
}

static int gather_expected(struct lm *lm, struct carat_error *err)
{
    const struct golden *g = lm->golden;
    size_t n = g->tensors ? safetensors_n_tensors(g->tensors) : 0;
    lm->expected = mem_new_array(n + 1, sizeof(*lm->expected), err);
    if (!lm->expected) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = safetensors_tensor_at(g->tensors, i)->name;
        struct expected e = {.n = 0};
        if (parse_name(name, &e)) {
            int rc = golden_floats(g, name, &e.values, &e.n, err);
            if (rc) {
                return rc;
            }
            lm->expected[lm->n_expected++] = e;
        } else if (strncmp(name, "out.", 4) == 0 && strncmp(name, "out.greedy", 10) != 0 &&
                   strcmp(name, "out.chunk_logits") != 0 && !is_projection(name)) {
            report_skip(lm->report, name, "this build's trace has no such tensor");
        }
    }
    return 0;
}

static int new_session(struct lm *lm, struct carat_session **out, bool is_traced, size_t n_more,
                       size_t chunk, struct carat_error *err)
{
    struct carat_session_options options = {
        .context_max = lm->n_ids + n_more,
        .kv_type = CARAT_KV_F32,
        .prefill_chunk = chunk,
        .has_all_logits = is_traced,
        .on_tensor = is_traced ? on_tensor : NULL,
        .user = lm,
    };
    return carat_session_new(out, lm->engine, &options, err);
}

static int sync_media(struct lm *lm, struct carat_session *session, size_t n,
                      const struct media_set *media, size_t *reused, struct carat_error *err)
{
    struct carat_prompt *prompt = NULL;
    int rc = carat_prompt_from_tokens(&prompt, lm->engine, lm->ids, n, err);
    if (rc == 0 && media->n) {
        rc = carat_prompt_add_media(prompt, lm->engine,
                                    (const struct carat_media *const *)media->items, media->n, err);
    }
    rc = rc ? rc : carat_session_sync(session, prompt, reused, err);
    carat_prompt_free(prompt);
    return rc;
}

// Makes the timeline the first n tokens of the prompt, all of them if it has media.
static int sync_to(struct lm *lm, struct carat_session *session, size_t n, struct carat_error *err)
{
    return sync_media(lm, session, n, &lm->media, NULL, err);
}

static int check_layers(struct lm *lm, struct carat_error *err)
{
    struct carat_session *session = NULL;
    int rc = gather_expected(lm, err);
    rc = rc ? rc : new_session(lm, &session, true, 0, 0, err);
    rc = rc ? rc : sync_to(lm, session, lm->n_ids, err);
    if (rc == 0) {
        memcpy(lm->last_logits, carat_session_logits(session),
               lm->n_vocab * sizeof(*lm->last_logits));
    }
    carat_session_free(session);
    for (size_t i = 0; rc == 0 && i < lm->n_expected; i++) {
        const struct expected *e = &lm->expected[i];
        bool is_logits = strcmp(e->trace, "logits") == 0;
        double size = rms(e->values, e->n);
        if (e->has_wrong_shape || e->rows_seen * e->n_columns != e->n || e->n == 0) {
            report_result(lm->report, false, e->name,
                          "%zu values were recorded, the model gave %zu rows of %zu%s", e->n,
                          e->rows_seen, e->n_columns, e->has_wrong_shape ? " and others" : "");
            continue;
        }
        report_difference(lm->report, e->name, &e->difference,
                          is_logits ? LOGITS_TOLERANCE : HIDDEN_TOLERANCE * (size > 1 ? size : 1),
                          e->n_columns);
    }
    return rc;
}

// Reads logits of k rows; checks that the vocabulary is the model's.
static int need_logits(const struct lm *lm, const char *name, float **out, size_t *n_rows,
                       struct carat_error *err)
{
    size_t n = 0;
    int rc = golden_floats(lm->golden, name, out, &n, err);
    if (rc == 0 && n % lm->n_vocab) {
        return fail(err, CARAT_E_FORMAT, "%s: %zu values are not rows of the vocabulary's %zu",
                    name, n, lm->n_vocab);
    }
    *n_rows = n / lm->n_vocab;
    return rc;
}

static int decode_greedily(struct lm *lm, struct carat_session *session, const int32_t *tokens,
                           size_t n_tokens, const float *logits, struct carat_error *err)
{
    struct difference d = {.n = 0};
    size_t n_same = 0;
    carat_token found = CARAT_TOKEN_NONE;
    for (size_t i = 0; i < n_tokens; i++) {
        const float *now = carat_session_logits(session);
        if (logits) {
            difference_add(&d, now, logits + i * lm->n_vocab, lm->n_vocab, i * lm->n_vocab);
        }
        found = likeliest(now, lm->n_vocab);
        if (found != tokens[i]) {
            break;
        }
        n_same++;
        struct carat_step step = {.session = session, .token = found};
        int rc = i + 1 < n_tokens ? carat_decode(&step, 1, err) : 0;
        if (rc) {
            return rc;
        }
    }
    if (logits) {
        report_difference(lm->report, "out.greedy_logits", &d, LOGITS_TOLERANCE, lm->n_vocab);
    }
    if (n_same == n_tokens) {
        report_result(lm->report, true, "out.greedy_tokens", "%zu tokens, all identical", n_tokens);
    } else {
        report_result(lm->report, false, "out.greedy_tokens",
                      "%zu of %zu tokens identical, then expected %d, found %d", n_same, n_tokens,
                      (int)tokens[n_same], (int)found);
    }
    return 0;
}

static int check_greedy(struct lm *lm, struct carat_error *err)
{
    struct carat_session *session = NULL;
    int32_t *tokens = NULL;
    float *logits = NULL;
    size_t n_tokens = 0, n_rows = 0;
    if (!golden_find(lm->golden, "out.greedy_tokens")) {
        return 0;
    }
    int rc = golden_ints(lm->golden, "out.greedy_tokens", &tokens, &n_tokens, err);
    if (rc == 0 && golden_find(lm->golden, "out.greedy_logits")) {
        rc = need_logits(lm, "out.greedy_logits", &logits, &n_rows, err);
        if (rc == 0 && n_rows != n_tokens) {
            rc = fail(err, CARAT_E_FORMAT, "out.greedy_logits: %zu rows for %zu tokens", n_rows,
                      n_tokens);
        }
    }
    rc = rc ? rc : new_session(lm, &session, false, n_tokens, 0, err);
    rc = rc ? rc : sync_to(lm, session, lm->n_ids, err);
    rc = rc ? rc : decode_greedily(lm, session, tokens, n_tokens, logits, err);
    carat_session_free(session);
    mem_free(tokens);
    mem_free(logits);
    return rc;
}

// The prompt in the recorded pieces: the logits after each.
static int check_chunks(struct lm *lm, struct carat_error *err)
{
    struct carat_session *session = NULL;
    float *logits = NULL;
    size_t n_rows = 0, n = 0, row = 0;
    const struct json_value *chunks =
        json_get(json_get(json_root(lm->golden->doc), "meta"), "chunks");
    if (json_kind(chunks) != JSON_ARRAY || !golden_find(lm->golden, "out.chunk_logits")) {
        return 0;
    }
    struct difference d = {.n = 0};
    int rc = need_logits(lm, "out.chunk_logits", &logits, &n_rows, err);
    if (rc == 0 && n_rows != json_count(chunks)) {
        rc = fail(err, CARAT_E_FORMAT, "out.chunk_logits: %zu rows for %zu chunks", n_rows,
                  json_count(chunks));
    }
    rc = rc ? rc : new_session(lm, &session, false, 0, 0, err);
    for (struct json_iter it = json_iter(chunks); rc == 0 && json_next(&it); row++) {
        uint64_t size = 0;
        if (!json_u64(it.value, &size) || size == 0 || size > lm->n_ids - n) {
            rc = fail(err, CARAT_E_FORMAT, "golden.json: meta.chunks do not fit the prompt");
            break;
        }
        n += (size_t)size;
        rc = sync_to(lm, session, n, err);
        if (rc == 0) {
            difference_add(&d, carat_session_logits(session), logits + row * lm->n_vocab,
                           lm->n_vocab, row * lm->n_vocab);
        }
    }
    if (rc == 0) {
        report_difference(lm->report, "out.chunk_logits", &d, LOGITS_TOLERANCE, lm->n_vocab);
    }
    carat_session_free(session);
    mem_free(logits);
    return rc;
}

// One token at a time: the logits at every position, and at the end the very bits that the prompt
// at once gave, because a row must not depend on what it is computed with.
static int check_one_by_one(struct lm *lm, struct carat_error *err)
{
    struct carat_session *session = NULL;
    const struct expected *all = NULL;
    struct difference d = {.n = 0}, same = {.n = 0};
    for (size_t i = 0; i < lm->n_expected; i++) {
        if (strcmp(lm->expected[i].trace, "logits") == 0 &&
            lm->expected[i].n == lm->n_ids * lm->n_vocab) {
            all = &lm->expected[i];
        }
    }
    int rc = new_session(lm, &session, false, 0, 0, err);
    for (size_t i = 0; rc == 0 && i < lm->n_ids; i++) {
        struct carat_step step = {.session = session, .token = lm->ids[i]};
        rc = i == 0 ? sync_to(lm, session, 1, err) : carat_decode(&step, 1, err);
        if (rc == 0 && all) {
            difference_add(&d, carat_session_logits(session), all->values + i * lm->n_vocab,
                           lm->n_vocab, i * lm->n_vocab);
        }
    }
    if (rc == 0) {
        difference_add(&same, carat_session_logits(session), lm->last_logits, lm->n_vocab, 0);
        if (all) {
            report_difference(lm->report, "token by token: logits", &d, LOGITS_TOLERANCE,
                              lm->n_vocab);
        }
        report_difference(lm->report, "token by token: as at once", &same, 0, lm->n_vocab);
    }
    carat_session_free(session);
    return rc;
}

static void compare_last(struct lm *lm, const struct carat_session *session, const char *what)
{
    struct difference same = {.n = 0};
    difference_add(&same, carat_session_logits(session), lm->last_logits, lm->n_vocab, 0);
    report_difference(lm->report, what, &same, 0, lm->n_vocab);
}

// With media: pieces smaller than they are, which must not cut them and give the very same bits;
// and after a prompt that differs in the content of its media alone, which must not be mistaken
// for this one.
static int check_media_roads(struct lm *lm, struct carat_error *err)
{
    static const size_t chunks[] = {1, 7, 32};
    struct carat_session *session = NULL;
    struct media_set others = {.n = 0};
    size_t reused = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        char what[48];
        snprintf(what, sizeof(what), "in chunks of %zu: as at once", chunks[i]);
        rc = new_session(lm, &session, false, 0, chunks[i], err);
        rc = rc ? rc : sync_to(lm, session, lm->n_ids, err);
        if (rc == 0) {
            compare_last(lm, session, what);
        }
        carat_session_free(session);
        session = NULL;
    }
    rc = rc ? rc : media_set_read(&others, lm->golden, lm->engine, true, err);
    rc = rc ? rc : new_session(lm, &session, false, 0, 0, err);
    rc = rc ? rc : sync_media(lm, session, lm->n_ids, &others, NULL, err);
    rc = rc ? rc : sync_media(lm, session, lm->n_ids, &lm->media, &reused, err);
    if (rc == 0) {
        compare_last(lm, session, "after other media: as at once");
    }
    carat_session_free(session);
    media_set_free(&others);
    return rc;
}

static int open_model(struct lm *lm, const char *model, struct carat_error *err)
{
    struct carat_engine_options options = {
        .model = model,
        .projector = lm->report->projector,
        .n_threads = lm->report->n_threads,
        .activations = CARAT_ACTIVATIONS_FLOAT,
    };
    int rc = carat_engine_open(&lm->engine, &options, err);
    if (rc) {
        return rc;
    }
    lm->n_vocab = carat_engine_info(lm->engine)->n_vocab;
    lm->last_logits = mem_new_array(lm->n_vocab, sizeof(float), err);
    if (!lm->last_logits) {
        return CARAT_E_MEMORY;
    }
    return golden_ints(lm->golden, "in.input_ids", &lm->ids, &lm->n_ids, err);
}

// Media that the model has no projection for need the encoder of another kind of model.
static int check_senses(const struct lm *lm, struct carat_error *err)
{
    const struct carat_model_info *info = carat_engine_info(lm->engine);
    enum carat_media_type type;
    if (!golden_has_media(lm->golden, &type)) {
        return 0;
    }
    bool is_sound = type == CARAT_MEDIA_AUDIO;
    if (is_sound ? info->hears : info->sees) {
        return 0;
    }
    return fail(err, CARAT_E_UNSUPPORTED, "needs %s of this model, which this build does not have",
                is_sound ? "the sound encoder" : "the picture encoder (vision tower)");
}

static int run_lm(struct lm *lm, struct carat_error *err)
{
    enum carat_media_type type;
    bool has_media = golden_has_media(lm->golden, &type);
    int rc = 0;
    if (has_media) {
        rc = media_set_read(&lm->media, lm->golden, lm->engine, false, err);
        rc = rc ? rc : verify_projections(lm->report, lm->golden, lm->engine, &lm->media, err);
    }
    rc = rc ? rc : check_layers(lm, err);
    rc = rc ? rc : check_greedy(lm, err);
    rc = rc ? rc : check_chunks(lm, err);
    if (has_media) {
        return rc ? rc : check_media_roads(lm, err);
    }
    return rc ? rc : check_one_by_one(lm, err);
}

bool verify_lm(struct report *r, const struct golden *g, const char *model, enum asked asked)
{
    struct carat_error err;
    struct lm lm = {.report = r, .golden = g};
    int rc = open_model(&lm, model, &err);
    rc = rc ? rc : check_senses(&lm, &err);
    bool can_run = rc != CARAT_E_UNSUPPORTED;
    rc = rc ? rc : run_lm(&lm, &err);
    if (!can_run && asked == FOUND_BELOW) {
        report_skip(r, "the model", "%s", err.text);
    } else if (rc) {
        report_error(r, "the model", &err);
    }
    for (size_t i = 0; i < lm.n_expected; i++) {
        mem_free(lm.expected[i].values);
    }
    media_set_free(&lm.media);
    mem_free(lm.expected);
    mem_free(lm.ids);
    mem_free(lm.last_logits);
    carat_engine_close(lm.engine);
    return can_run;
}
