// SPDX-License-Identifier: Apache-2.0
// Opening and closing a model, and what it will cost in memory.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/grammar_mask.h"
#include "engine/sampler.h"
#include "engine/span.h"
#include "model/kv_rows.h"
#include "model/load.h"

// What a process takes besides its buffers: program and libraries, threads' stacks, the allocator's
// own. Measured 6 to 9 MiB; rounded up.
#define PROCESS_OVERHEAD ((uint64_t)16 << 20)

// ---------------------------------------------------------------------------------------- opening

static uint64_t all_tensors_size(const struct source *source)
{
    uint64_t size = 0;
    for (size_t i = 0; i < source_n_tensors(source); i++) {
        size += source_tensor_at(source, i)->size;
    }
    return size;
}

static uint64_t all_files_size(const struct source *source)
{
    uint64_t size = 0;
    for (size_t i = 0; i < source_n_maps(source); i++) {
        size += source_map_at(source, i)->size;
    }
    return size;
}

// tokenizer.md section 4: a GGUF names one end token or none, so the chat's own are always added
// there; a checkpoint's generation config is complete. Media placeholders make no sense as output
// anywhere.
static void complete_token_sets(struct carat_engine *e)
{
    const struct special_tokens *s = tokenizer_specials(e->tokenizer);
    id_list_add(&e->config.stops, s->eos);
    if (source_gguf(e->source) || !source_generation_config(e->source)) {
        id_list_add(&e->config.stops, s->turn_close);
        id_list_add(&e->config.stops, s->response_open);
    }
    const carat_token media[] = {s->image_open, s->image,       s->image_close, s->audio_open,
                                 s->audio,      s->audio_close, s->video};
    for (size_t i = 0; i < sizeof(media) / sizeof(media[0]); i++) {
        id_list_add(&e->config.suppressed, media[i]);
    }
}

static int check_memory(const struct carat_engine *e, struct carat_error *err)
{
    const uint64_t memory = os_memory_total();
    const uint64_t weights = e->weights.packed_size + e->projector.packed_size;
    if (memory > 0 && weights > memory) {
        return fail(err, CARAT_E_MEMORY,
                    "%s: the weights take %.1f GB, this machine has %.1f GB of memory; a smaller "
                    "quantization would fit",
                    source_path(e->source), (double)weights / 1e9, (double)memory / 1e9);
    }
    return 0;
}

static int load_model(struct carat_engine *e, const struct carat_engine_options *o,
                      struct carat_error *err)
{
    struct load load = {
        .device = e->device,
        .on_progress = o->on_progress,
        .user = o->user,
        .total = weights_load_size(&e->weights) + projector_load_size(&e->projector),
    };
    int rc = check_memory(e, err);
    if (rc == 0) {
        rc = load_weights(&load, &e->weights, e->source, err);
    }
    if (rc == 0) {
        const struct source *source = e->projector_source ? e->projector_source : e->source;
        rc = load_projector(&load, &e->projector, source, err);
    }
    return rc;
}

static const struct projector *projector_or_null(const struct projector *p)
{
    return p->has_vision || p->has_audio ? p : NULL;
}

static int open_model(struct carat_engine *e, const struct carat_engine_options *o,
                      struct carat_error *err)
{
    struct device_options device = {.n_threads = o->n_threads, .activations = o->activations};
    int rc = config_read(&e->config, e->source, err);
    if (rc) {
        return rc;
    }
    rc = weights_bind(&e->weights, &e->config, e->source, err);
    if (rc) {
        return rc;
    }
    if (tokenizer_n_tokens(e->tokenizer) > e->config.n_vocab) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: the vocabulary has %zu tokens, but the embedding only %u rows",
                    source_path(e->source), tokenizer_n_tokens(e->tokenizer), e->config.n_vocab);
    }
    rc = engine_open_projector(&e->projector, &e->projector_source, &e->config, e->source,
                               o->projector, err);
    if (rc) {
        return rc;
    }
    rc = device_new_cpu(&e->device, &device, err);
    if (rc) {
        return rc;
    }
    e->decoder.config = &e->config;
    e->decoder.weights = &e->weights;
    e->decoder.projector = projector_or_null(&e->projector);
    e->decoder.device = e->device;
    log_line(CARAT_LOG_DEBUG, "%s: %u layers, kernels %s, %zu threads", source_path(e->source),
             e->config.n_layers, device_level(e->device), device_threads(e->device));
    return load_model(e, o, err);
}

static char *model_name(const struct source *source, struct carat_error *err)
{
    struct slice name = {0};
    if (source_gguf(source) &&
        gguf_get_string(source_gguf(source), "general.name", &name, NULL) == 0 && name.size > 0 &&
        utf8_is_valid(name.data, name.size)) {
        return mem_strndup(name.data, name.size < 200 ? name.size : 200, err);
    }
    const char *path = source_path(source);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') {
        from--;
    }
    return mem_strndup(path + from, n - from, err);
}

static void fill_info(struct carat_engine *e, bool is_vocab_only)
{
    struct carat_model_info *info = &e->info;
    info->name = e->name;
    info->container = source_gguf(e->source) ? "GGUF" : "safetensors";
    info->n_vocab = tokenizer_n_tokens(e->tokenizer);
    info->is_vocab_only = is_vocab_only;
    info->architecture = "";
    info->weight_type = "";
    info->cpu_level = "";
    info->projector = "";
    if (is_vocab_only) {
        return;
    }
    info->architecture = e->config.is_unified ? "gemma4_unified" : "gemma4";
    info->weight_type = dtypes[e->weights.main_type].name;
    info->cpu_level = device_level(e->device);
    info->n_parameters = e->weights.n_parameters;
    info->weights_size = e->weights.file_size + e->weights.vector_size;
    info->n_layers = e->config.n_layers;
    info->n_vocab = e->config.n_vocab;
    info->hidden_size = e->config.hidden_size;
    info->context_max = e->config.context_max;
    info->sliding_window = e->config.window;
    info->n_threads = device_threads(e->device);
    if (e->decoder.projector) {
        info->sees = e->projector.has_vision;
        info->hears = e->projector.has_audio;
        info->projector = source_path(e->projector_source ? e->projector_source : e->source);
        info->projector_size = e->projector.file_size + e->projector.copied_size;
        info->image_block = e->projector.block;
    }
}

int carat_engine_open(struct carat_engine **out, const struct carat_engine_options *options,
                      struct carat_error *err)
{
    if (!options || !options->model) {
        return fail(err, CARAT_E_ARGUMENT, "no model was named");
    }
    int rc = CARAT_E_MEMORY;
    struct carat_engine *e = mem_new(sizeof(*e), err);
    if (!e) {
        goto out;
    }
    rc = source_open(&e->source, options->model, !options->is_vocab_only, err);
    if (rc) {
        goto out;
    }
    rc = tokenizer_new(&e->tokenizer, e->source, err);
    if (rc) {
        goto out;
    }
    source_drop_tokenizer(e->source);
    if (!options->is_vocab_only) {
        rc = open_model(e, options, err);
    }
    if (rc) {
        goto out;
    }
    complete_token_sets(e);
    e->name = model_name(e->source, err);
    rc = e->name ? 0 : CARAT_E_MEMORY;
    if (rc) {
        goto out;
    }
    if (pthread_mutex_init(&e->lock, NULL) != 0) {
        rc = fail(err, CARAT_E_MEMORY, "the system gave no lock");
        goto out;
    }
    e->has_lock = true;
    rc = lexicon_new(&e->lexicon, err);
    if (rc) {
        goto out;
    }
    fill_info(e, options->is_vocab_only);
    *out = e;
    e = NULL;
out:
    carat_engine_close(e);
    return rc;
}

void carat_engine_close(struct carat_engine *e)
{
    if (!e) {
        return;
    }
    if (e->decoder.device) {
        decoder_release(&e->decoder);
    }
    if (e->device) {
        unload_weights(e->device, &e->weights);
        unload_projector(e->device, &e->projector);
    }
    device_free(e->device);
    projector_release(&e->projector);
    source_close(e->projector_source);
    weights_release(&e->weights);
    config_release(&e->config);
    lexicon_free(e->lexicon);
    tokenizer_free(e->tokenizer);
    source_close(e->source);
    if (e->has_lock) {
        pthread_mutex_destroy(&e->lock);
    }
    mem_free(e->name);
    mem_free(e);
}

const struct carat_model_info *carat_engine_info(const struct carat_engine *e)
{
    return &e->info;
}

// ------------------------------------------------------------------------------- for other rooms

const struct tokenizer *engine_tokenizer(const struct carat_engine *e)
{
    return e->tokenizer;
}

struct slice engine_chat_template(const struct carat_engine *e)
{
    return source_chat_template(e->source);
}

bool engine_is_stop(const struct carat_engine *e, carat_token token)
{
    for (size_t i = 0; i < e->config.stops.count; i++) {
        if (e->config.stops.ids[i] == token) {
            return true;
        }
    }
    return false;
}

const carat_token *engine_suppressed(const struct carat_engine *e, size_t *n)
{
    *n = e->config.suppressed.count;
    return e->config.suppressed.ids;
}

void engine_sampling_defaults(const struct carat_engine *e, struct carat_sampling *out)
{
    if (!e->info.is_vocab_only) { // no configuration was read
        *out = e->config.sampling;
    }
}

// ---------------------------------------------------------------------------------------- memory

int engine_session_options(struct carat_session_options *out, const struct model_config *config,
                           const struct carat_session_options *options, struct carat_error *err)
{
    struct carat_session_options o = options ? *options : (struct carat_session_options){0};
    size_t context = o.context_max;
    if (context == 0) {
        context = config->context_max < SESSION_CONTEXT_DEFAULT ? config->context_max
                                                                : SESSION_CONTEXT_DEFAULT;
    }
    if (context > config->context_max) {
        return fail(err, CARAT_E_ARGUMENT,
                    "context: expected at most %u, the most this model was made for, found %zu",
                    config->context_max, context);
    }
    if (o.kv_type != CARAT_KV_F16 && o.kv_type != CARAT_KV_F32 && o.kv_type != CARAT_KV_Q8_0) {
        return fail(err, CARAT_E_ARGUMENT, "kv_type: expected a value of enum carat_dtype_kv");
    }
    size_t chunk = o.prefill_chunk ? o.prefill_chunk : SESSION_CHUNK_DEFAULT;
    o.context_max = context;
    o.prefill_chunk = chunk < context ? chunk : context;
    if (o.returns_to_prompt && o.rewind_max < KV_MARK_SLACK) {
        o.rewind_max = KV_MARK_SLACK; // the rings hold what is to be put aside
    }
    o.rewind_max = o.rewind_max < context ? o.rewind_max : context;
    *out = o;
    return 0;
}

struct span_rule engine_span_rule(const struct carat_session_options *o,
                                  const struct model_config *config,
                                  const struct projector *projector)
{
    size_t rows = o->prefill_chunk;
    if (projector && projector->has_vision && config->pictures_see_ahead &&
        rows < SPAN_PICTURE_TOKENS) {
        rows = SPAN_PICTURE_TOKENS;
    }
    if (projector && projector->has_audio && o->sound_sees_ahead && rows < SPAN_SOUND_TOKENS) {
        rows = SPAN_SOUND_TOKENS;
    }
    return (struct span_rule){
        .projector = projector,
        .chunk = o->prefill_chunk,
        .rows_max = rows < o->context_max ? rows : o->context_max,
        .pictures_see_ahead = config->pictures_see_ahead,
        .sound_sees_ahead = o->sound_sees_ahead,
    };
}

size_t engine_rows_max(const struct span_rule *rule)
{
    return rule->rows_max + ENGINE_STEPS_MAX;
}

struct kv_options engine_kv_options(const struct carat_session_options *o, size_t rows_max)
{
    static const enum dtype types[] = {
        [CARAT_KV_F16] = DTYPE_F16, [CARAT_KV_F32] = DTYPE_F32, [CARAT_KV_Q8_0] = DTYPE_Q8_0};
    return (struct kv_options){
        .type = types[o->kv_type],
        .context_max = o->context_max,
        .rewind_max = o->rewind_max,
        .recent_max = rows_max,
    };
}

struct estimate_input {
    const struct source *source;
    const struct model_config *config;
    const struct weights *weights;
    const struct projector *projector;
    const struct source *projector_source; // NULL: none, or the model's own
    size_t n_threads;
};

// Of a file with tensors: what stands before them.
static uint64_t header_size(const struct source *source)
{
    uint64_t tensors = all_tensors_size(source);
    uint64_t files = all_files_size(source);
    return files > tensors ? files - tensors : 0;
}

// What a session allocates besides its cache.
static uint64_t session_size(const struct estimate_input *in, const struct span_rule *rule,
                             size_t context_max)
{
    uint64_t size = (uint64_t)in->config->n_vocab * sizeof(float) +
                    (uint64_t)context_max * sizeof(carat_token) +
                    sampler_memory(in->config->n_vocab);
    if (rule->projector) {
        size += (uint64_t)context_max * sizeof(uint64_t) + span_scratch_size(rule->rows_max);
    }
    return size;
}

static int estimate(struct carat_memory *out, const struct estimate_input *in,
                    const struct carat_session_options *session, struct carat_error *err)
{
    struct carat_session_options o = {0};
    struct kv_size kv;
    int rc = engine_session_options(&o, in->config, session, err);
    if (rc) {
        return rc;
    }
    struct span_rule rule = engine_span_rule(&o, in->config, projector_or_null(in->projector));
    struct kv_options kv_options = engine_kv_options(&o, rule.rows_max);
    rc = kv_cache_size(&kv, in->config, in->weights, &kv_options, err);
    if (rc) {
        return rc;
    }
    struct carat_memory m = {
        .weights = in->weights->packed_size + in->projector->packed_size,
        .tables = tokenizer_memory(in->source) + in->weights->copied_size +
                  in->projector->copied_size + header_size(in->source) +
                  (in->projector_source ? header_size(in->projector_source) : 0),
        .kv_sliding =
            kv.sliding + (o.returns_to_prompt ? kv_mark_size(in->config, &kv_options) : 0),
        .kv_full = kv.full,
        .scratch = decoder_size(in->config, in->weights, rule.projector, engine_rows_max(&rule),
                                o.context_max, in->n_threads) +
                   session_size(in, &rule, o.context_max) + PROCESS_OVERHEAD,
        .context_max = o.context_max,
    };
    m.total = m.weights + m.tables + m.kv_sliding + m.kv_full + m.scratch;
    *out = m;
    return 0;
}

int carat_estimate(struct carat_memory *out, const struct carat_engine_options *options,
                   const struct carat_session_options *session, struct carat_error *err)
{
    struct source *source = NULL;
    struct model_config config = {0};
    struct weights weights = {0};
    struct source *projector_source = NULL;
    struct projector projector = {0};
    if (!options || !options->model) {
        return fail(err, CARAT_E_ARGUMENT, "no model was named");
    }
    int rc = source_open(&source, options->model, true, err);
    if (rc) {
        goto out;
    }
    rc = config_read(&config, source, err);
    if (rc) {
        goto out;
    }
    rc = weights_bind(&weights, &config, source, err);
    if (rc) {
        goto out;
    }
    rc = engine_open_projector(&projector, &projector_source, &config, source, options->projector,
                               err);
    if (rc) {
        goto out;
    }
    struct estimate_input in = {
        .source = source,
        .config = &config,
        .weights = &weights,
        .projector = &projector,
        .projector_source = projector_source,
        .n_threads = options->n_threads ? options->n_threads : os_cores(),
    };
    rc = estimate(out, &in, session, err);
out:
    projector_release(&projector);
    source_close(projector_source);
    weights_release(&weights);
    config_release(&config);
    source_close(source);
    return rc;
}

int carat_engine_estimate(struct carat_memory *out, const struct carat_engine *e,
                          const struct carat_session_options *session, struct carat_error *err)
{
    if (e->info.is_vocab_only) {
        return fail(err, CARAT_E_ARGUMENT, "the model was opened for its vocabulary only");
    }
    struct estimate_input in = {
        .source = e->source,
        .config = &e->config,
        .weights = &e->weights,
        .projector = &e->projector,
        .projector_source = e->projector_source,
        .n_threads = device_threads(e->device),
    };
    return estimate(out, &in, session, err);
}
