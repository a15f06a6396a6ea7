// SPDX-License-Identifier: Apache-2.0
// Answers of earlier runs, as --json wrote them, in one drawing: for models that are measured one
// at a time.
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "cli/eval_report.h"
#include "formats/json.h"

#define FILE_MAX ((size_t)64 << 20)

struct results {
    struct eval_plan plan; // its figures alone
    struct eval_model models[EVAL_WORDS_MAX];
    struct eval_summary summaries[EVAL_WORDS_MAX];
    size_t n_models;
    struct eval_model reference;
    struct eval_summary of_reference;
    bool has_reference;
};

bool eval_is_result(const char *path)
{
    return slice_ends(slice_of(path), ".json");
}

static double mean_of(const struct json_value *object, const char *name)
{
    return json_double(json_get(json_get(object, name), "mean"));
}

static int read_model(struct eval_model *m, struct eval_summary *s, const struct json_value *value,
                      const char *path, struct carat_error *err)
{
    struct slice name = json_string(json_get(value, "model"));
    size_t size = name.size < LOGITS_NAME_MAX ? name.size : LOGITS_NAME_MAX;
    if (name.size == 0 || !json_u64(json_get(value, "bytes"), &m->size) ||
        json_kind(json_get(value, "perplexity")) != JSON_OBJECT) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: expected what 'carat eval --json' writes about texts, found something "
                    "else",
                    path);
    }
    memcpy(m->name, name.data, size);
    m->name[size] = '\0';
    s->perplexity.mean = mean_of(value, "perplexity");
    s->divergence.mean = mean_of(value, "kl");
    return 0;
}

// Figures of one file belong beside those of another when both were measured over as many tokens of
// equal windows, against the same reference.
static int take_file(struct results *r, const struct json_value *root, const char *path,
                     struct carat_error *err)
{
    struct eval_model model = {.path = NULL};
    struct eval_summary summary = {.n = 0};
    uint64_t n_tokens = 0, context = 0;
    const struct json_value *reference = json_get(root, "reference");
    if (!json_u64(json_get(root, "tokens"), &n_tokens) ||
        !json_u64(json_get(root, "context"), &context) || context > UINT32_MAX) {
        return read_model(&model, &summary, NULL, path, err);
    }
    int rc = reference ? read_model(&model, &summary, reference, path, err) : 0;
    if (rc == 0 && r->plan.n_scored == 0) {
        r->plan.n_scored = (size_t)n_tokens;
        r->plan.rule.context = (size_t)context;
        r->has_reference = reference != NULL;
        r->reference = model;
        r->of_reference = summary;
    }
    if (rc == 0 &&
        (r->plan.n_scored != n_tokens || r->plan.rule.context != context ||
         r->has_reference != (reference != NULL) || strcmp(r->reference.name, model.name) != 0 ||
         r->of_reference.perplexity.mean != summary.perplexity.mean)) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "%s: measured over other texts, by another rule, or against another reference "
                  "than the files before it",
                  path);
    }
    for (struct json_iter it = json_iter(json_get(root, "models")); rc == 0 && json_next(&it);) {
        if (r->n_models == EVAL_WORDS_MAX) {
            return fail(err, CARAT_E_FULL, "more than %d models", EVAL_WORDS_MAX);
        }
        rc = read_model(&r->models[r->n_models], &r->summaries[r->n_models], it.value, path, err);
        r->n_models++;
    }
    return rc;
}

static int draw(struct results *r, const char *path, struct carat_error *err)
{
    const struct eval_report report = {
        .plan = &r->plan,
        .models = r->models,
        .n_models = r->n_models,
        .reference = r->has_reference ? &r->reference : NULL,
        .summaries = r->summaries,
        .of_reference = r->of_reference,
    };
    struct buf text = {.max = FILE_MAX};
    eval_report_svg(&report, &text);
    int rc = buf_status(&text, err);
    rc = rc ? rc : os_write_file(path, text.data, text.size, err);
    buf_release(&text);
    return rc;
}

int eval_results_draw(const char *const *files, size_t n_files, const char *drawing,
                      struct carat_error *err)
{
    struct results *r = mem_new(sizeof(*r), err);
    int rc = r ? 0 : CARAT_E_MEMORY;
    for (size_t i = 0; rc == 0 && i < n_files; i++) {
        struct json_doc *doc = NULL;
        rc = json_parse_file(&doc, files[i], FILE_MAX, err);
        rc = rc ? rc : take_file(r, json_root(doc), files[i], err);
        json_free(doc);
    }
    if (rc == 0 && r->n_models == 0) {
        rc = fail(err, CARAT_E_FORMAT, "%s: no models in it", files[0]);
    }
    rc = rc ? rc : draw(r, drawing, err);
    mem_free(r);
    return rc;
}
