// SPDX-License-Identifier: Apache-2.0
// Goldens of kind "quant": model-<TYPE>.gguf for each type that golden.safetensors names. Unpacked
// rows, then logits and greedy tokens with float activations, then the error of 8-bit activations,
// which is held against that of another engine on the same file.
#include "cli/verify.h"

#include "base/error.h"
#include "base/mem.h"
#include "formats/source.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define ROWS_TOLERANCE   1e-6 // times the largest value of the row
#define LOGITS_TOLERANCE 1e-3
#define INT8_FACTOR      1.5

struct quant {
    struct report *report;
    const struct golden *golden;
    const char *type;
    struct buf path; // of the model in that type
    carat_token *ids;
    size_t n_ids;
    size_t n_greedy;
    float *expected; // logits, [n_ids, n_vocab]
    size_t n_expected;
    struct difference difference; // of the run going on
    size_t n_columns;
};

// ---------------------------------------------------------------------------------------- rows

// The unpacked first values of a tensor against the recorded ones, row by row.
static int compare_rows(const struct source_tensor *t, const float *expected, size_t n,
                        double *worst, struct carat_error *err)
{
    size_t n_columns = t->n_dims ? (size_t)t->dims[t->n_dims - 1] : 0;
    size_t row_size = 0;
    if (n_columns == 0 || n % n_columns || !dtypes[t->type].unpack ||
        !dtype_row_size(&row_size, t->type, n_columns) || n / n_columns > t->size / row_size) {
        return fail(err, CARAT_E_FORMAT, "%zu recorded values are not rows of %zu of type %s", n,
                    n_columns, dtypes[t->type].name);
    }
    float *row = mem_new_array(n_columns, sizeof(*row), err);
    if (!row) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < n / n_columns; i++) {
        const float *e = expected + i * n_columns;
        double largest = 0, error = 0;
        dtypes[t->type].unpack(row, t->data + i * row_size, n_columns);
        for (size_t j = 0; j < n_columns; j++) {
            double one = fabs((double)row[j] - (double)e[j]);
            error = one > error || isnan(one) ? one : error;
            largest = fabs((double)e[j]) > largest ? fabs((double)e[j]) : largest;
        }
        double relative = error == 0 ? 0 : error / largest;
        *worst = relative > *worst || isnan(relative) ? relative : *worst;
    }
    mem_free(row);
    return 0;
}

static int check_rows(struct quant *q, struct carat_error *err)
{
    struct source *source = NULL;
    struct buf prefix = {.max = 200}, worst_name = {.max = 1000};
    double worst = 0;
    size_t n_tensors = 0;
    buf_addf(&prefix, "out.%s.rows.", q->type);
    int rc = source_open(&source, buf_text(&q->path), true, err);
    for (size_t i = 0; rc == 0 && i < safetensors_n_tensors(q->golden->tensors); i++) {
        const char *name = safetensors_tensor_at(q->golden->tensors, i)->name;
        if (!slice_starts(slice_of(name), buf_text(&prefix))) {
            continue;
        }
        float *expected = NULL;
        size_t n = 0;
        double before = worst;
        const struct source_tensor *t = source_find(source, name + prefix.size);
        rc = golden_floats(q->golden, name, &expected, &n, err);
        if (rc == 0 && !t) {
            rc = fail(err, CARAT_E_FORMAT, "%s has no tensor '%s'", buf_text(&q->path),
                      name + prefix.size);
        }
        rc = rc ? rc : compare_rows(t, expected, n, &worst, err);
        mem_free(expected);
        if (worst > before || n_tensors == 0) {
            buf_clear(&worst_name);
            buf_adds(&worst_name, name + prefix.size);
        }
        n_tensors++;
    }
    if (rc == 0 && n_tensors) {
        buf_clear(&prefix);
        buf_addf(&prefix, "%s rows", q->type);
        report_result(q->report, worst <= ROWS_TOLERANCE, buf_text(&prefix),
                      "of %zu tensors, largest error %.2g of the row's largest value, tolerance "
                      "%.2g%s%s",
                      n_tensors, worst, ROWS_TOLERANCE, worst > ROWS_TOLERANCE ? ", in " : "",
                      worst > ROWS_TOLERANCE ? buf_text(&worst_name) : "");
    }
    source_close(source);
    buf_release(&prefix);
    buf_release(&worst_name);
    return rc;
}

// -------------------------------------------------------------------------------------- logits

static void on_tensor(void *user, const char *name, int layer, size_t first, size_t n_rows,
                      size_t n_columns, const float *rows)
{
    struct quant *q = user;
    (void)layer;
    if (strcmp(name, "logits") != 0 || n_columns == 0 || q->n_expected % n_columns ||
        first + n_rows > q->n_expected / n_columns) {
        return;
    }
    q->n_columns = n_columns;
    difference_add(&q->difference, rows, q->expected + first * n_columns, n_rows * n_columns,
                   first * n_columns);
}

static int check_greedy(struct quant *q, const struct carat_engine *engine,
                        struct carat_session *session, struct carat_error *err)
{
    char name[64], what[64];
    int32_t *tokens = NULL;
    size_t n = 0, n_same = 0, n_vocab = carat_engine_info(engine)->n_vocab;
    snprintf(name, sizeof(name), "out.%s.greedy_tokens", q->type);
    snprintf(what, sizeof(what), "%s greedy tokens", q->type);
    int rc = golden_ints(q->golden, name, &tokens, &n, err);
    for (; rc == 0 && n_same < n; n_same++) {
        carat_token found = likeliest(carat_session_logits(session), n_vocab);
        if (found != tokens[n_same]) {
            break;
        }
        struct carat_step step = {.session = session, .token = found};
        rc = n_same + 1 < n ? carat_decode(&step, 1, err) : 0;
    }
    if (rc == 0) {
        report_result(q->report, n_same == n, what, "%zu of %zu identical", n_same, n);
    }
    mem_free(tokens);
    return rc;
}

// Runs the prompt; q->difference then holds how far the logits are off.
static int run(struct quant *q, enum carat_activations activations, bool is_greedy,
               struct carat_error *err)
{
    struct carat_engine *engine = NULL;
    struct carat_session *session = NULL;
    struct carat_prompt *prompt = NULL;
    struct carat_engine_options engine_options = {
        .model = buf_text(&q->path), .n_threads = q->report->n_threads, .activations = activations};
    struct carat_session_options options = {
        .context_max = q->n_ids + q->n_greedy,
        .kv_type = CARAT_KV_F32,
        .has_all_logits = true,
        .on_tensor = on_tensor,
        .user = q,
    };
    q->difference = (struct difference){.n = 0};
    int rc = carat_engine_open(&engine, &engine_options, err);
    rc = rc ? rc : carat_session_new(&session, engine, &options, err);
    rc = rc ? rc : carat_prompt_from_tokens(&prompt, engine, q->ids, q->n_ids, err);
    rc = rc ? rc : carat_session_sync(session, prompt, NULL, err);
    if (rc == 0 && q->difference.n != q->n_expected) {
        rc = fail(err, CARAT_E_FORMAT, "%s: %zu logits were recorded, the model gave %zu", q->type,
                  q->n_expected, q->difference.n);
    }
    struct difference prompt_difference = q->difference;
    rc = rc || !is_greedy ? rc : check_greedy(q, engine, session, err);
    q->difference = prompt_difference;
    carat_prompt_free(prompt);
    carat_session_free(session);
    carat_engine_close(engine);
    return rc;
}

// The rms error of another engine's logits with 8-bit activations, which sets the limit for ours.
static int check_int8(struct quant *q, struct carat_error *err)
{
    char name[64], what[64];
    float *other = NULL;
    size_t n = 0;
    snprintf(name, sizeof(name), "llama.%s.logits", q->type);
    snprintf(what, sizeof(what), "%s logits, 8 bit", q->type);
    if (!golden_find(q->golden, name)) {
        return 0;
    }
    int rc = golden_floats(q->golden, name, &other, &n, err);
    if (rc == 0 && n != q->n_expected) {
        rc = fail(err, CARAT_E_FORMAT, "%s: %zu values, expected %zu", name, n, q->n_expected);
    }
    rc = rc ? rc : run(q, CARAT_ACTIVATIONS_AUTO, false, err);
    if (rc == 0) {
        struct difference theirs = {.n = 0};
        difference_add(&theirs, other, q->expected, n, 0);
        double ours = difference_rms(&q->difference), limit = INT8_FACTOR * difference_rms(&theirs);
        report_result(q->report, ours <= limit, what,
                      "%zu values, rms error %.3g, tolerance %.3g (%.1f x the recorded engine's)",
                      n, ours, limit, INT8_FACTOR);
    }
    mem_free(other);
    return rc;
}

static int check_type(struct quant *q, struct carat_error *err)
{
    char name[64], what[64], greedy[64];
    snprintf(name, sizeof(name), "out.%s.logits", q->type);
    snprintf(what, sizeof(what), "%s logits, float", q->type);
    snprintf(greedy, sizeof(greedy), "out.%s.greedy_tokens", q->type);
    const struct safetensors_tensor *tokens = golden_find(q->golden, greedy);
    q->n_greedy = tokens ? (size_t)tokens->values : 0;
    int rc = golden_ints(q->golden, "in.input_ids", &q->ids, &q->n_ids, err);
    rc = rc ? rc : golden_floats(q->golden, name, &q->expected, &q->n_expected, err);
    rc = rc ? rc : check_rows(q, err);
    rc = rc ? rc : run(q, CARAT_ACTIVATIONS_FLOAT, true, err);
    if (rc == 0) {
        report_difference(q->report, what, &q->difference, LOGITS_TOLERANCE, q->n_columns);
        rc = check_int8(q, err);
    }
    mem_free(q->ids);
    mem_free(q->expected);
    q->ids = NULL;
    q->expected = NULL;
    return rc;
}

// "out.Q4_0.logits" names a type.
static bool type_of(const char *name, char type[24])
{
    struct slice s = slice_of(name);
    const size_t before = strlen("out."), after = strlen(".logits");
    if (!slice_starts(s, "out.") || !slice_ends(s, ".logits") || s.size <= before + after ||
        s.size - before - after >= 24) {
        return false;
    }
    memcpy(type, name + before, s.size - before - after);
    type[s.size - before - after] = '\0';
    return true;
}

void verify_quant(struct report *r, const struct golden *g)
{
    size_t n_types = 0;
    for (size_t i = 0; g->tensors && i < safetensors_n_tensors(g->tensors); i++) {
        struct carat_error err;
        char type[24], file[64];
        if (!type_of(safetensors_tensor_at(g->tensors, i)->name, type)) {
            continue;
        }
        struct quant q = {.report = r, .golden = g, .type = type, .path = {.max = 1 << 16}};
        snprintf(file, sizeof(file), "model-%s.gguf", type);
        path_join(&q.path, buf_text(&g->folder), file);
        int rc = buf_status(&q.path, &err);
        rc = rc ? rc : check_type(&q, &err);
        if (rc) {
            report_error(r, type, &err);
        }
        buf_release(&q.path);
        n_types++;
    }
    if (n_types == 0) {
        report_result(r, false, "types", "golden.safetensors has no out.<TYPE>.logits");
    }
}
