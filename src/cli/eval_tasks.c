// SPDX-License-Identifier: Apache-2.0
#include "cli/eval_tasks.h"

#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "cli/batch.h"
#include "cli/eval_tasks_score.h"
#include "cli/loading.h"
#include "cli/model_path.h"

#define AT(field) offsetof(struct eval_task_settings, field)
// clang-format off
const struct option eval_task_rows[] = {
    {"max-tokens", OPTION_COUNT, "N", "longest answer of a question that does not say (default: 1024)", AT(tokens_max), 1, 1 << 24, NULL},
    {"parallel", OPTION_COUNT, "N", "questions that are answered together (default: 4)", AT(parallel), 1, 256, NULL},
    {"image-tokens", OPTION_COUNT, "N", "at most 70, 140, 280, 560 or 1120 tokens for a picture that does not say (default: what its size needs)", AT(image_tokens), 70, 1120, NULL},
    {"video-frames", OPTION_COUNT, "N", "frames of a film that does not say (default: 32 for each minute)", AT(video_frames), 1, 1024, NULL},
    {"temperature", OPTION_NUMBER, "T", "0: always the most likely token (default: 0)", AT(temperature), 0, 100, NULL},
    {"seed", OPTION_COUNT, "N", "of each answer, with a temperature above 0 (default: 1)", AT(seed), 1, 1.8446744073709549e19, NULL},
    {"wrong", OPTION_COUNT, "N", "show the first N answers that are wrong (default: 0)", AT(wrong), 0, 1e9, NULL},
    {"min-score", OPTION_NUMBER, "X", "fail when less than the share X of all answers is right", AT(min_score), 0, 1, NULL},
    {.name = NULL},
};
// clang-format on
#undef AT

static bool is_question(const struct buf *line)
{
    struct json_doc *doc = NULL;
    bool is = false;
    if (json_parse(&doc, buf_text(line), line->size, "line", NULL) == 0) {
        const struct json_value *root = json_root(doc);
        is = json_get(root, "expected") ||
             (!json_get(root, "text") && (json_get(root, "prompt") || json_get(root, "messages")));
    }
    json_free(doc);
    return is;
}

bool eval_is_task_file(const char *path)
{
    struct batch_lines lines;
    bool is_there = true, is = false;
    if (!os_is_file(path) || batch_lines_open(&lines, path, EVAL_LINE_MAX, NULL)) {
        return false;
    }
    // The first line that says something decides.
    while (batch_lines_next(&lines, &is_there, NULL) == 0 && is_there) {
        if (!batch_line_is_blank(&lines)) {
            is = !lines.is_long && is_question(&lines.line);
            break;
        }
    }
    batch_lines_close(&lines);
    return is;
}

// ------------------------------------------------------------------------------ running

static int check_settings(const struct eval_task_settings *s, struct carat_error *err)
{
    static const uint64_t allowed[] = {0, 70, 140, 280, 560, 1120};
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        if (s->image_tokens.value == allowed[i]) {
            return 0;
        }
    }
    return fail(err, CARAT_E_ARGUMENT,
                "--image-tokens: expected 70, 140, 280, 560 or 1120, found %llu",
                (unsigned long long)s->image_tokens.value);
}

// What can be known to be wrong before the first model is asked for hours.
static int check_models(const struct eval_tasks_options *o, struct carat_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < o->n_models; i++) {
        struct buf path = {0};
        rc = model_path_find(&path, o->models[i], err);
        buf_release(&path);
    }
    return rc;
}

static int score_model(struct eval_scores *scores, const char *model, uint64_t n_lines,
                       const struct eval_tasks_options *o, struct carat_error *err)
{
    struct loaded loaded = {.engine = NULL};
    struct loading_options loading = {
        .model = model, .settings = o->model, .is_quiet = o->is_quiet};
    int rc = loaded_open_engine(&loaded, &loading, o->out, err);
    if (rc == 0) {
        const char *name = carat_engine_info(loaded.engine)->name;
        const char *path = buf_text(&loaded.path), *slash = strrchr(path, '/');
        // Variants of a model share its name: files tell them apart.
        name = o->n_models > 1 ? (slash && slash[1] ? slash + 1 : path) : name;
        scores->model = mem_strdup(name, err);
        rc = scores->model ? 0 : CARAT_E_MEMORY;
    }
    if (rc == 0) {
        struct eval_asking asking = {.options = o,
                                     .n_lines = n_lines,
                                     .scores = scores,
                                     .shows_progress = o->out->errors_are_terminal && !o->is_quiet};
        double started = os_seconds();
        rc = eval_ask(&asking, loaded.engine, err);
        scores->seconds = os_seconds() - started;
    }
    loaded_release(&loaded);
    return rc ? rc : eval_scores_add_up(scores, err);
}

// What makes the command fail although it ran to its end.
static int check_scores(const struct eval_scores *scores, const struct eval_tasks_options *o,
                        struct carat_error *err)
{
    uint64_t n_failed = 0;
    for (size_t i = 0; i < o->n_models; i++) {
        n_failed += scores[i].all.n_failed;
    }
    if (n_failed > 0) {
        return fail(err, CARAT_E_FORMAT, "%llu questions could not be asked",
                    (unsigned long long)n_failed);
    }
    for (size_t i = 0; o->settings->min_score.is_set && i < o->n_models; i++) {
        const struct eval_tally *all = &scores[i].all;
        double share = (double)all->n_right / (double)all->n;
        if (share < o->settings->min_score.value) {
            return fail(err, CARAT_E_FORMAT, "%s: --min-score: expected at least %g, found %.4g",
                        scores[i].model, o->settings->min_score.value, share);
        }
    }
    return 0;
}

int eval_tasks_run(const struct eval_tasks_options *o, struct carat_error *err)
{
    uint64_t n_lines = 0;
    struct eval_scores *scores = mem_new_array(o->n_models, sizeof(*scores), err);
    int rc = scores ? check_settings(o->settings, err) : CARAT_E_MEMORY;
    rc = rc ? rc : eval_check_lines(&n_lines, o, err);
    rc = rc ? rc : check_models(o, err);
    for (size_t i = 0; rc == 0 && i < o->n_models; i++) {
        rc = score_model(&scores[i], o->models[i], n_lines, o, err);
    }
    if (rc == 0 && o->is_json) {
        rc = eval_tasks_write_json(scores, o->n_models, o, err);
    } else if (rc == 0) {
        eval_tasks_write_table(scores, o->n_models, o);
    }
    rc = rc ? rc : check_scores(scores, o, err);
    for (size_t i = 0; scores && i < o->n_models; i++) {
        eval_scores_release(&scores[i]);
    }
    mem_free(scores);
    return rc;
}
