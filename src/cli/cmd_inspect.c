// SPDX-License-Identifier: Apache-2.0
// carat inspect: what is in a model file, and what it will cost in memory. Weights are not read.
#include "base/error.h"
#include "base/os.h"
#include "cli/model_path.h"
#include "cli/settings.h"
#include "formats/source.h"

#include <string.h>

#define VALUE_MAX    100 // bytes of a metadata value that are shown
#define CONTEXTS_MAX 16
#define OUTPUT_MAX   ((size_t)1 << 30)

struct inspect_options {
    bool lists_tensors, is_json;
    struct model_settings model;
};

static const struct option inspect_rows[] = {
    {"tensors", OPTION_FLAG, NULL, "list every tensor",
     offsetof(struct inspect_options, lists_tensors), 0, 0, NULL},
    {"json", OPTION_FLAG, NULL, "print a JSON object", offsetof(struct inspect_options, is_json), 0,
     0, NULL},
    {.name = NULL},
};

struct type_count {
    size_t tensors;
    uint64_t values, bytes;
};

struct inspection {
    const struct inspect_options *options;
    const char *path;
    struct source *source;
    struct type_count types[DTYPE_COUNT];
    struct type_count all;
    uint64_t file_size;
    uint64_t context_max; // what the file says; 0 when it says nothing
    struct carat_memory memory[CONTEXTS_MAX];
    size_t n_memory;
    struct carat_error reason;   // why carat cannot run it; status 0 when it can
    const char *chat_template;   // its version's name
    struct carat_engine *engine; // the whole one where carat can run it, else the vocabulary
    struct carat_error vocab_reason;
};

// --------------------------------------------------------------------------------- looking

static uint64_t tensor_values(const struct source_tensor *t)
{
    uint64_t values = 1;
    for (uint32_t i = 0; i < t->n_dims && i < 4; i++) {
        values *= t->dims[i]; // the reader has checked that this fits
    }
    return values;
}

static void count_tensors(struct inspection *in)
{
    for (size_t i = 0; i < source_n_tensors(in->source); i++) {
        const struct source_tensor *t = source_tensor_at(in->source, i);
        struct type_count *one = &in->types[t->type];
        uint64_t values = tensor_values(t);
        one->tensors++;
        one->values += values;
        one->bytes += t->size;
        in->all.tensors++;
        in->all.values += values;
        in->all.bytes += t->size;
    }
    for (size_t i = 0; i < source_n_maps(in->source); i++) {
        in->file_size += source_map_at(in->source, i)->size;
    }
}

// The architecture's name, as the file has it; empty when it does not say.
static struct slice architecture(const struct source *source)
{
    struct slice name = {.data = "", .size = 0};
    if (source_gguf(source)) {
        gguf_get_string(source_gguf(source), "general.architecture", &name, NULL);
    } else if (source_config(source)) {
        json_get_string(source_config(source), "model_type", &name, NULL);
    }
    return name;
}

static struct slice model_name(const struct source *source)
{
    struct slice name = {.data = "", .size = 0};
    if (source_gguf(source)) {
        gguf_get_string(source_gguf(source), "general.name", &name, NULL);
    }
    return name;
}

static uint64_t find_context_max(const struct source *source)
{
    uint64_t n = 0;
    if (source_gguf(source)) {
        struct slice name = architecture(source);
        struct buf key = {.max = 300};
        buf_add_slice(&key, name);
        buf_adds(&key, ".context_length");
        if (!key.has_failed) {
            gguf_get_u64(source_gguf(source), key.data, &n, NULL);
        }
        buf_release(&key);
    } else if (source_config(source)) {
        const struct json_doc *config = source_config(source);
        if (json_get_u64(config, "text_config.max_position_embeddings", &n, NULL)) {
            json_get_u64(config, "max_position_embeddings", &n, NULL);
        }
    }
    return n;
}

static int estimate(struct inspection *in, uint64_t context)
{
    struct carat_engine_options engine;
    struct carat_session_options session;
    settings_engine(&engine, &in->options->model, in->path, NULL);
    settings_session(&session, &in->options->model, NULL);
    session.context_max = (size_t)context;
    int rc = carat_estimate(&in->memory[in->n_memory], &engine, &session, &in->reason);
    if (rc == 0) {
        in->n_memory++;
    }
    return rc;
}

// From 4K in doublings to the model's own limit; or the one context that was asked for.
static void estimate_all(struct inspection *in)
{
    const struct option_count *asked = &in->options->model.context;
    in->context_max = find_context_max(in->source);
    if (asked->is_set || in->context_max <= 4096) {
        estimate(in, asked->value);
        return;
    }
    for (uint64_t n = 4096; n < in->context_max && in->n_memory < CONTEXTS_MAX - 1; n *= 2) {
        if (estimate(in, n)) {
            return;
        }
    }
    estimate(in, in->context_max);
}

static void look_inside(struct inspection *in)
{
    struct carat_engine_options options;
    settings_engine(&options, &in->options->model, in->path, NULL);
    options.n_threads = 1;
    if (in->reason.status || carat_engine_open(&in->engine, &options, NULL)) {
        options.is_vocab_only = true;
        carat_engine_open(&in->engine, &options, &in->vocab_reason);
    }
    if (in->engine) {
        in->chat_template = carat_chat_template_name(in->engine);
    }
}

// --------------------------------------------------------------------------------- as a table

static void add_field(struct buf *out, const char *name, const char *value)
{
    buf_addf(out, "  %-14s%s\n", name, value);
}

static void add_senses(const struct inspection *in, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(in->engine);
    if (info->is_vocab_only) {
        return;
    }
    if (!info->sees && !info->hears) {
        add_field(out, "projector", "none: it neither sees nor hears");
        return;
    }
    buf_addf(out, "  %-14s%s, %s: it %s%s%s\n", "projector", info->projector,
             size_text(info->projector_size).text, info->sees ? "sees" : "",
             info->sees && info->hears ? " and " : "", info->hears ? "hears" : "");
}

static void add_summary(const struct inspection *in, struct buf *out)
{
    struct slice name = model_name(in->source), arch = architecture(in->source);
    size_t n_files = source_n_maps(in->source);
    buf_addf(out, "%s\n", in->path);
    buf_addf(out, "  %-14s%s, %zu file%s, %s\n", "container",
             source_gguf(in->source) ? "GGUF" : "safetensors", n_files, n_files == 1 ? "" : "s",
             size_text(in->file_size).text);
    if (name.size) {
        buf_addf(out, "  %-14s%.*s\n", "name", (int)(name.size > 200 ? 200 : name.size), name.data);
    }
    buf_addf(out, "  %-14s%.*s\n", "architecture", (int)(arch.size > 200 ? 200 : arch.size),
             arch.size ? arch.data : "");
    add_field(out, "parameters", count_text(in->all.values).text);
    if (in->context_max) {
        buf_addf(out, "  %-14s%s tokens\n", "context", count_text(in->context_max).text);
    }
    if (in->engine) {
        buf_addf(out, "  %-14s%s tokens\n", "vocabulary",
                 count_text(carat_engine_info(in->engine)->n_vocab).text);
        add_field(out, "chat format", in->chat_template);
        add_senses(in, out);
    }
}

static void add_types(const struct inspection *in, struct buf *out)
{
    buf_addf(out, "\nTensors: %zu, %s\n", in->all.tensors, size_text(in->all.bytes).text);
    for (size_t type = 0; type < DTYPE_COUNT; type++) {
        const struct type_count *one = &in->types[type];
        if (one->tensors) {
            buf_addf(out, "  %-10s%6zu tensors%18s values%12s\n", dtypes[type].name, one->tensors,
                     count_text(one->values).text, size_text(one->bytes).text);
        }
    }
}

static void add_memory(const struct inspection *in, struct buf *out)
{
    buf_addf(out, "\nMemory, with the kv cache as %s\n", kv_type_names[in->options->model.kv_type]);
    buf_addf(out, "%12s%12s%12s%12s%12s%12s\n", "context", "weights", "kv cache", "tables",
             "scratch", "total");
    for (size_t i = 0; i < in->n_memory; i++) {
        const struct carat_memory *m = &in->memory[i];
        buf_addf(out, "%12s", count_text(m->context_max).text);
        buf_addf(out, "%12s", size_text(m->weights).text);
        buf_addf(out, "%12s", size_text(m->kv_sliding + m->kv_full).text);
        buf_addf(out, "%12s", size_text(m->tables).text);
        buf_addf(out, "%12s", size_text(m->scratch).text);
        buf_addf(out, "%12s\n", size_text(m->total).text);
    }
}

static void add_reason(const struct inspection *in, struct buf *out)
{
    const struct carat_error *reason = in->reason.status ? &in->reason : &in->vocab_reason;
    if (reason->status) {
        buf_addf(out, "\nNot a Gemma 4 model that carat can run: %s\n", reason->text);
    }
}

static void add_dims(const struct source_tensor *t, struct buf *out, const char *between)
{
    for (uint32_t i = 0; i < t->n_dims && i < 4; i++) {
        buf_addf(out, "%s%llu", i ? between : "", (unsigned long long)t->dims[i]);
    }
}

static void add_tensors(const struct inspection *in, struct buf *out)
{
    buf_adds(out, "\nEvery tensor, rows first\n");
    for (size_t i = 0; i < source_n_tensors(in->source); i++) {
        const struct source_tensor *t = source_tensor_at(in->source, i);
        struct buf dims = {.max = 200};
        add_dims(t, &dims, " x ");
        buf_addf(out, "  %-8s%-24s%12s  %.*s\n", dtypes[t->type].name, buf_text(&dims),
                 size_text(t->size).text, (int)t->name.size, t->name.data);
        buf_release(&dims);
    }
}

// ------------------------------------------------------------------------------- the metadata

// Hands out one piece of metadata after another: of a GGUF its keys; of config.json the members,
// and those of its objects as object.member.
typedef void (*on_field)(struct buf *out, struct slice group, struct slice key, const char *value,
                         size_t value_size);

static void walk_value(struct buf *out, struct slice group, const struct json_iter *it,
                       on_field take)
{
    struct buf value = {.max = OUTPUT_MAX};
    json_write(it->value, &value);
    take(out, group, it->key, buf_text(&value), value.size);
    buf_release(&value);
}

static void walk_config(const struct json_doc *config, struct buf *out, on_field take)
{
    struct slice none = {.data = "", .size = 0};
    for (struct json_iter it = json_iter(json_root(config)); json_next(&it);) {
        if (json_kind(it.value) != JSON_OBJECT) {
            walk_value(out, none, &it, take);
            continue;
        }
        for (struct json_iter inner = json_iter(it.value); json_next(&inner);) {
            walk_value(out, it.key, &inner, take);
        }
    }
}

static void walk_metadata(const struct source *source, struct buf *out, on_field take)
{
    const struct gguf *g = source_gguf(source);
    if (!g) {
        walk_config(source_config(source), out, take);
        return;
    }
    struct slice none = {.data = "", .size = 0};
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        struct buf value = {.max = 1 << 20};
        gguf_value_text(g, i, &value, VALUE_MAX);
        take(out, none, gguf_key_at(g, i), buf_text(&value), value.size);
        buf_release(&value);
    }
}

static void add_row(struct buf *out, struct slice group, struct slice key, const char *value,
                    size_t value_size)
{
    struct buf name = {.max = 1 << 20};
    buf_add_slice(&name, group);
    buf_adds(&name, group.size ? "." : "");
    buf_add_slice(&name, key);
    buf_addf(out, "  %-44s ", buf_text(&name));
    size_t shown = value_size > VALUE_MAX ? VALUE_MAX : value_size;
    while (shown < value_size && shown > 0 && ((unsigned char)value[shown] & 0xC0) == 0x80) {
        shown--; // not in the middle of a character
    }
    for (size_t i = 0; i < shown; i++) {
        buf_addc(out, value[i] == '\n' || value[i] == '\r' ? ' ' : value[i]);
    }
    buf_adds(out, shown < value_size ? "...\n" : "\n");
    buf_release(&name);
}

static void add_json_row(struct buf *out, struct slice group, struct slice key, const char *value,
                         size_t value_size)
{
    struct buf name = {.max = 1 << 20};
    buf_add_slice(&name, group);
    buf_adds(&name, group.size ? "." : "");
    buf_add_slice(&name, key);
    buf_adds(out, out->size && out->data[out->size - 1] == '{' ? "" : ",");
    buf_add_json(out, buf_text(&name), name.size);
    buf_addc(out, ':');
    buf_add_json(out, value, value_size);
    buf_release(&name);
}

// ---------------------------------------------------------------------------------- as JSON

static void add_json_tensors(const struct inspection *in, struct buf *out)
{
    buf_addf(out, ",\"tensors\":{\"count\":%zu,\"size\":%llu,\"types\":[", in->all.tensors,
             (unsigned long long)in->all.bytes);
    bool is_first = true;
    for (size_t type = 0; type < DTYPE_COUNT; type++) {
        const struct type_count *one = &in->types[type];
        if (one->tensors) {
            buf_addf(out, "%s{\"type\":\"%s\",\"count\":%zu,\"values\":%llu,\"size\":%llu}",
                     is_first ? "" : ",", dtypes[type].name, one->tensors,
                     (unsigned long long)one->values, (unsigned long long)one->bytes);
            is_first = false;
        }
    }
    buf_addc(out, ']');
    for (size_t i = 0; in->options->lists_tensors && i < source_n_tensors(in->source); i++) {
        const struct source_tensor *t = source_tensor_at(in->source, i);
        buf_adds(out, i ? ",{\"name\":" : ",\"list\":[{\"name\":");
        buf_add_json(out, t->name.data, t->name.size);
        buf_addf(out, ",\"type\":\"%s\",\"shape\":[", dtypes[t->type].name);
        add_dims(t, out, ",");
        buf_addf(out, "],\"size\":%llu}", (unsigned long long)t->size);
    }
    buf_adds(out, in->options->lists_tensors && in->all.tensors ? "]}" : "}");
}

static void add_json_memory(const struct inspection *in, struct buf *out)
{
    buf_addf(out, ",\"kv_type\":\"%s\",\"memory\":[", kv_type_names[in->options->model.kv_type]);
    for (size_t i = 0; i < in->n_memory; i++) {
        const struct carat_memory *m = &in->memory[i];
        buf_addf(out,
                 "%s{\"context\":%zu,\"weights\":%llu,\"tables\":%llu,\"kv_sliding\":%llu,"
                 "\"kv_full\":%llu,\"scratch\":%llu,\"total\":%llu}",
                 i ? "," : "", m->context_max, (unsigned long long)m->weights,
                 (unsigned long long)m->tables, (unsigned long long)m->kv_sliding,
                 (unsigned long long)m->kv_full, (unsigned long long)m->scratch,
                 (unsigned long long)m->total);
    }
    buf_addc(out, ']');
}

static void add_json(const struct inspection *in, struct buf *out)
{
    struct slice name = model_name(in->source), arch = architecture(in->source);
    bool can_run = !in->reason.status && !in->vocab_reason.status;
    buf_adds(out, "{\"path\":");
    buf_add_json(out, in->path, strlen(in->path));
    buf_addf(out, ",\"container\":\"%s\",\"files\":%zu,\"file_size\":%llu,\"name\":",
             source_gguf(in->source) ? "GGUF" : "safetensors", source_n_maps(in->source),
             (unsigned long long)in->file_size);
    buf_add_json(out, name.data, name.size);
    buf_adds(out, ",\"architecture\":");
    buf_add_json(out, arch.data, arch.size);
    buf_addf(out, ",\"parameters\":%llu,\"context_max\":%llu,\"chat_template\":\"%s\"",
             (unsigned long long)in->all.values, (unsigned long long)in->context_max,
             in->chat_template ? in->chat_template : "none");
    buf_addf(out, ",\"can_run\":%s", can_run ? "true" : "false");
    if (!can_run) {
        const char *text = in->reason.status ? in->reason.text : in->vocab_reason.text;
        buf_adds(out, ",\"reason\":");
        buf_add_json(out, text, strlen(text));
    }
    const struct carat_model_info *info = in->engine ? carat_engine_info(in->engine) : NULL;
    if (info && !info->is_vocab_only) {
        buf_addf(out, ",\"sees\":%s,\"hears\":%s,\"projector\":", info->sees ? "true" : "false",
                 info->hears ? "true" : "false");
        buf_add_json(out, info->projector, strlen(info->projector));
        buf_addf(out, ",\"projector_size\":%llu,\"image_block\":%zu",
                 (unsigned long long)info->projector_size, info->image_block);
    }
    add_json_tensors(in, out);
    add_json_memory(in, out);
    buf_adds(out, ",\"metadata\":{");
    walk_metadata(in->source, out, add_json_row);
    buf_adds(out, "}}\n");
}

static int inspect(struct inspection *in, struct output *out, struct carat_error *err)
{
    int rc = source_open(&in->source, in->path, true, err);
    if (rc) {
        return rc;
    }
    count_tensors(in);
    estimate_all(in);
    look_inside(in);
    struct buf text = {.max = OUTPUT_MAX};
    if (in->options->is_json) {
        add_json(in, &text);
    } else {
        add_summary(in, &text);
        add_types(in, &text);
        if (in->n_memory) {
            add_memory(in, &text);
        }
        add_reason(in, &text);
        buf_adds(&text, "\nMetadata\n");
        walk_metadata(in->source, &text, add_row);
        if (in->options->lists_tensors) {
            add_tensors(in, &text);
        }
    }
    rc = buf_status(&text, err);
    if (rc == 0) {
        output_foreign(out, text.data, text.size);
    }
    buf_release(&text);
    return rc;
}

static int run_inspect(const struct command_call *call)
{
    struct carat_error err;
    struct buf path = {.max = 1 << 16};
    struct inspection in = {.options = call->options};
    int rc = model_path_find(&path, call->n_args ? call->args[0] : NULL, &err);
    if (rc == 0) {
        in.path = path.data;
        rc = inspect(&in, call->out, &err);
    }
    int code = rc ? say_error(&err) : EXIT_OK;
    carat_engine_close(in.engine);
    source_close(in.source);
    buf_release(&path);
    return code;
}

const struct command command_inspect = {
    .name = "inspect",
    .summary = "what is in a model file and what it costs in memory",
    .synopsis = "[MODEL] [options]",
    .details =
        "Lists the metadata and the tensors of any GGUF file or Hugging Face directory. For a "
        "Gemma "
        "4 model it adds what carat will take in memory at each length of context: an upper bound, "
        "which the process keeps, and whether it sees and hears, by which file. Weights are not "
        "read.",
    .groups =
        (const struct option_group[]){
            {"Options", inspect_rows, 0},
            {"Plan for", model_setting_rows, offsetof(struct inspect_options, model)},
            {.options = NULL},
        },
    .examples =
        (const struct example[]){
            {"carat inspect gemma.gguf", "the table"},
            {"carat inspect gemma.gguf --context 131072 --kv-type q8_0",
             "what exactly this would take"},
            {"carat inspect gemma.gguf --tensors --json", "everything, for a script"},
            {.line = NULL},
        },
    .options_size = sizeof(struct inspect_options),
    .args_max = 1,
    .run = run_inspect,
};
