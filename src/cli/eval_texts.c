// SPDX-License-Identifier: Apache-2.0
// Texts through models, one model in memory at a time: the reference's logits go to a file, with
// which the others are compared row by row.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "base/os_part.h"
#include "cli/eval.h"
#include "cli/eval_report.h"
#include "cli/loading.h"
#include "cli/model_path.h"

#define REPORT_MAX ((size_t)1 << 30)

struct run {
    const struct eval_options *options;
    const struct eval_words *words;
    struct output *output;
    struct eval_plan plan;
    struct loaded vocabulary; // of all of them
    uint8_t vocabulary_hash[HASH_SIZE];
    struct eval_model models[EVAL_WORDS_MAX];
    size_t n_models;
    struct eval_model reference;
    bool is_recorded;     // the reference is a logit file
    struct buf temporary; // path of a logit file that goes away at the end
    const char *logits;   // path of the one to compare with; NULL: none
};

// ----------------------------------------------------------------------------------------- models

// What a table calls it: the file's name without folder and ending.
static void set_name(struct eval_model *m)
{
    const char *path = m->path, *end = path + strlen(path);
    while (end > path + 1 && end[-1] == '/') {
        end--;
    }
    const char *start = end;
    while (start > path && start[-1] != '/') {
        start--;
    }
    size_t size = (size_t)(end - start);
    size -= slice_ends(slice_make(start, size), ".gguf") && size > 5 ? 5 : 0;
    size = size < LOGITS_NAME_MAX ? size : LOGITS_NAME_MAX;
    memcpy(m->name, start, size);
    m->name[size] = '\0';
}

// Finds the model and looks at its vocabulary, which must be that of the ones before.
static int find_model(struct run *r, struct eval_model *m, const char *word,
                      struct carat_error *err)
{
    struct loaded loaded = {.engine = NULL};
    uint8_t hash[HASH_SIZE];
    int rc = loaded_open_vocab(&loaded, word, err);
    if (rc) {
        loaded_release(&loaded);
        return rc;
    }
    m->path = mem_strdup(buf_text(&loaded.path), err);
    if (!m->path) {
        loaded_release(&loaded);
        return CARAT_E_MEMORY;
    }
    set_name(m);
    eval_vocabulary_hash(loaded.engine, hash);
    if (!r->vocabulary.engine) {
        r->vocabulary = loaded;
        memcpy(r->vocabulary_hash, hash, HASH_SIZE);
        return 0;
    }
    if (memcmp(hash, r->vocabulary_hash, HASH_SIZE) != 0) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "%s and %s cannot be compared: their vocabularies differ (%zu and %zu tokens)",
                  buf_text(&r->vocabulary.path), m->path,
                  carat_engine_info(r->vocabulary.engine)->n_vocab,
                  carat_engine_info(loaded.engine)->n_vocab);
    }
    loaded_release(&loaded);
    return rc;
}

static int find_models(struct run *r, struct carat_error *err)
{
    const struct eval_options *o = r->options;
    int rc = 0;
    r->is_recorded = o->against && logit_file_is(o->against);
    if (o->against && !r->is_recorded) {
        rc = find_model(r, &r->reference, o->against, err);
    }
    for (size_t i = 0; rc == 0 && i < r->words->n_models; i++) {
        rc = find_model(r, &r->models[r->n_models++], r->words->models[i], err);
    }
    return rc;
}

// ---------------------------------------------------------------------------------------- options

static int make_plan(struct run *r, struct carat_error *err)
{
    const struct eval_options *o = r->options;
    struct eval_rule rule = {
        .context = o->model.context.is_set ? (size_t)o->model.context.value : EVAL_CONTEXT_DEFAULT,
        .skip = (size_t)o->skip.value,
        .tokens_max = (size_t)o->tokens.value,
        .has_special = o->has_special,
    };
    rule.stride = o->stride.is_set ? (size_t)o->stride.value : rule.context - 1;
    return eval_plan_make(&r->plan, &rule, r->vocabulary.engine, r->words->texts, r->words->n_texts,
                          err);
}

static int check_options(const struct run *r, struct carat_error *err)
{
    const struct eval_options *o = r->options;
    if (o->save_logits && r->is_recorded) {
        return fail(err, CARAT_E_ARGUMENT,
                    "eval: --save-logits has nothing to record: %s is a record already",
                    o->against);
    }
    return 0;
}

// ------------------------------------------------------------------------------------ logit files

// Says what a logit file will take, and that it has room.
static int check_room(const struct run *r, const char *path, struct carat_error *err)
{
    struct logit_head head = {
        .n_vocab = (uint32_t)carat_engine_info(r->vocabulary.engine)->n_vocab,
        .n_rows = r->plan.n_scored,
    };
    struct buf folder = {.max = 1 << 16};
    const char *slash = strrchr(path, '/');
    buf_add(&folder, slash ? path : "./", slash ? (size_t)(slash - path) + 1 : 2);
    uint64_t size = logit_file_size(&head), room = os_disk_free(buf_text(&folder));
    buf_release(&folder);
    if (!r->options->is_quiet) {
        say_plain("[logits of %s tokens: %s, %s each, in %s]", count_text(head.n_rows).text,
                  size_text(size).text, size_text(logit_row_size(head.n_vocab)).text, path);
    }
    if (size > room) {
        return fail(err, CARAT_E_FULL,
                    "%s: %s of logits are to be recorded and the disk has room for %s: less text, "
                    "--tokens, or another place (--save-logits, TMPDIR) helps",
                    path, size_text(size).text, size_text(room).text);
    }
    return 0;
}

static int name_temporary(struct run *r, struct carat_error *err)
{
    const char *folder = os_env("TMPDIR");
    r->temporary.max = 1 << 16;
    buf_addf(&r->temporary, "%s/carat-eval-%016llx.logits", folder ? folder : "/tmp",
             (unsigned long long)os_random_u64());
    return buf_status(&r->temporary, err);
}

// Checks that a record is of these texts, and takes what it says of its model.
static int read_record(struct run *r, const char *path, struct carat_error *err)
{
    struct logit_reader reader = {.bytes = NULL};
    struct eval_model *m = &r->reference;
    uint8_t hash[HASH_SIZE];
    int rc = logit_reader_open(&reader, path, err);
    if (rc) {
        return rc;
    }
    const struct logit_head *head = &reader.head;
    eval_plan_hash(&r->plan, hash);
    if (memcmp(head->vocabulary, r->vocabulary_hash, HASH_SIZE) != 0) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "%s: recorded of %s, whose vocabulary differs from that of %s", path, head->name,
                  buf_text(&r->vocabulary.path));
    } else if (memcmp(head->plan, hash, HASH_SIZE) != 0 || head->n_rows != r->plan.n_scored) {
        rc = fail(err, CARAT_E_ARGUMENT,
                  "%s: recorded over other texts, or with another --context, --stride, --skip, "
                  "--tokens or --special",
                  path);
    }
    if (rc == 0) {
        memcpy(m->name, head->name, sizeof(m->name));
        m->size = head->model_size;
        m->n_parameters = head->n_parameters;
        m->weights_size = head->weights_size;
        m->records = mem_new_array(r->plan.n_scored, sizeof(*m->records), err);
        rc = m->records ? 0 : CARAT_E_MEMORY;
    }
    logit_reader_close(&reader);
    return rc;
}

// What was compared with, as the first model's records have it.
static void take_reference_records(struct run *r)
{
    for (size_t i = 0; i < r->plan.n_scored; i++) {
        const struct eval_record *from = &r->models[0].records[i];
        struct eval_record *to = &r->reference.records[i];
        *to = *from;
        to->divergence = 0;
        to->logprob = from->reference_logprob;
        to->top = from->reference_top;
    }
}

// What is in memory beside each model.
static void say_own_memory(const struct run *r)
{
    size_t n_vocab = carat_engine_info(r->vocabulary.engine)->n_vocab;
    size_t n_records = r->plan.n_scored * (r->n_models + (r->options->against != NULL));
    uint64_t size =
        mem_bytes_now() + EVAL_ROW_BYTES * n_vocab + n_records * sizeof(struct eval_record);
    if (!r->options->is_quiet) {
        say_plain(
            "[memory beside the model: %s, for vocabulary, texts, rows of logits and figures]",
            size_text(size).text);
    }
}

// ---------------------------------------------------------------------------------------- running

static int run_pass(const struct run *r, struct eval_model *m, const char *record,
                    const char *against, struct carat_error *err)
{
    struct eval_pass pass = {
        .options = r->options,
        .plan = &r->plan,
        .output = r->output,
        .record_path = record,
        .against_path = against,
    };
    memcpy(pass.vocabulary, r->vocabulary_hash, HASH_SIZE);
    return eval_pass_run(&pass, m, err);
}

static int run_reference(struct run *r, struct carat_error *err)
{
    const struct eval_options *o = r->options;
    r->logits = o->against;
    if (r->is_recorded) {
        return read_record(r, o->against, err);
    }
    int rc = o->save_logits ? 0 : name_temporary(r, err);
    r->logits = o->save_logits ? o->save_logits : buf_text(&r->temporary);
    rc = rc ? rc : check_room(r, r->logits, err);
    return rc ? rc : run_pass(r, &r->reference, r->logits, NULL, err);
}

static int run_models(struct run *r, struct carat_error *err)
{
    const char *record = r->options->against ? NULL : r->options->save_logits;
    int rc = record ? check_room(r, record, err) : 0;
    for (size_t i = 0; rc == 0 && i < r->n_models; i++) {
        rc = run_pass(r, &r->models[i], record, r->logits, err);
    }
    if (rc == 0 && r->is_recorded) {
        take_reference_records(r);
    }
    return rc;
}

static int show(struct run *r, struct carat_error *err)
{
    const struct eval_options *o = r->options;
    struct eval_report report = {
        .plan = &r->plan,
        .words = r->vocabulary.engine,
        .models = r->models,
        .n_models = r->n_models,
        .reference = o->against ? &r->reference : NULL,
        .n_worst = (size_t)o->worst.value,
    };
    struct buf text = {.max = REPORT_MAX}, drawing = {.max = REPORT_MAX};
    int rc = eval_report_init(&report, err);
    if (rc == 0 && o->svg) {
        eval_report_svg(&report, &drawing);
        rc = buf_status(&drawing, err);
        rc = rc ? rc : os_write_file(o->svg, drawing.data, drawing.size, err);
    }
    if (rc == 0) {
        if (o->is_json) {
            eval_report_json(&report, &text);
        } else {
            eval_report_table(&report, &text);
        }
        rc = buf_status(&text, err);
    }
    if (rc == 0) {
        output_foreign(r->output, text.data, text.size);
    }
    buf_release(&text);
    buf_release(&drawing);
    eval_report_release(&report);
    return rc;
}

static void release(struct run *r)
{
    if (r->temporary.size > 0) {
        os_remove(buf_text(&r->temporary));
    }
    buf_release(&r->temporary);
    for (size_t i = 0; i < r->n_models; i++) {
        eval_model_release(&r->models[i]);
    }
    eval_model_release(&r->reference);
    eval_plan_release(&r->plan);
    loaded_release(&r->vocabulary);
    mem_free(r);
}

int eval_texts_run(const struct eval_options *o, const struct eval_words *words, struct output *out,
                   struct carat_error *err)
{
    struct run *r = mem_new(sizeof(*r), err);
    if (!r) {
        return CARAT_E_MEMORY;
    }
    r->options = o;
    r->words = words;
    r->output = out;
    int rc = find_models(r, err);
    rc = rc ? rc : check_options(r, err);
    rc = rc ? rc : make_plan(r, err);
    if (rc == 0) {
        say_own_memory(r);
    }
    rc = rc || !o->against ? rc : run_reference(r, err);
    rc = rc ? rc : run_models(r, err);
    rc = rc ? rc : show(r, err);
    release(r);
    return rc;
}
