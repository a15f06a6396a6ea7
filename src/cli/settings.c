// SPDX-License-Identifier: Apache-2.0
#include "cli/settings.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Wide enough for every model there is; a wrong figure fails later with a better message.
#define CONTEXT_MAX 16777216
#define THREADS_MAX 1024

const char *const kv_type_names[] = {"f16", "f32", "q8_0", NULL};
_Static_assert(CARAT_KV_F16 == 0 && CARAT_KV_F32 == 1 && CARAT_KV_Q8_0 == 2, "order of kv types");

const char *const template_names[] = {
    "auto", "canonical", "canonical-edge", "revision-2026-04", "interleaved", "launch", NULL,
};
_Static_assert(sizeof(template_names) / sizeof(template_names[0]) == CARAT_TEMPLATE_LAUNCH + 2,
               "a name for each template");

#define AT(field) offsetof(struct model_settings, field)
const struct option model_setting_rows[] = {
    {"context", OPTION_COUNT, "N",
     "most tokens of the conversation (default: the model's, at most "
     "32768)",
     AT(context), 1, CONTEXT_MAX, NULL},
    {"kv-type", OPTION_CHOICE, "TYPE", "element type of the kv cache", AT(kv_type), 0, 0,
     kv_type_names},
    {"threads", OPTION_COUNT, "N", "threads to compute with (default: one per core)", AT(threads),
     1, THREADS_MAX, NULL},
    {"chunk", OPTION_COUNT, "N", "tokens of a prompt evaluated together (default: 512)", AT(chunk),
     1, 65536, NULL},
    {"float", OPTION_FLAG, NULL,
     "exact mode: float activations in products with quantized weights; "
     "slower",
     AT(is_float), 0, 0, NULL},
    {"projector", OPTION_TEXT, "FILE",
     "GGUF file with the projections of pictures and sound (default: those in the model, or in the "
     "file mmproj*.gguf beside it)",
     AT(projector), 0, 0, NULL},
    {.name = NULL},
};
#undef AT

#define AT(field) offsetof(struct sampling_settings, field)
const struct option sampling_setting_rows[] = {
    {"temperature", OPTION_NUMBER, "T",
     "0: always the most likely token (default: the model's, "
     "usually 1)",
     AT(temperature), 0, 100, NULL},
    {"top-k", OPTION_COUNT, "K",
     "pick among the K most likely tokens; 0: all (default: the "
     "model's, usually 64)",
     AT(top_k), 0, 1e9, NULL},
    {"top-p", OPTION_NUMBER, "P",
     "pick among the likeliest tokens that together reach P (default: "
     "the model's, usually 0.95)",
     AT(top_p), 0, 1, NULL},
    {"min-p", OPTION_NUMBER, "P", "drop tokens less likely than P times the likeliest (default: 0)",
     AT(min_p), 0, 1, NULL},
    {"repetition-penalty", OPTION_NUMBER, "R",
     "above 1: tokens seen before become less likely "
     "(default: 1)",
     AT(repetition_penalty), 0.01, 100, NULL},
    {"frequency-penalty", OPTION_NUMBER, "F", "taken off a token's logit for each time it occurred",
     AT(frequency_penalty), -100, 100, NULL},
    {"presence-penalty", OPTION_NUMBER, "F", "taken off a token's logit if it occurred",
     AT(presence_penalty), -100, 100, NULL},
    {"seed", OPTION_COUNT, "N", "the same seed gives the same answer (default, or 0: a random one)",
     AT(seed), 0, 1.8446744073709549e19, NULL},
    {"logit-bias", OPTION_TEXTS, "ID=B",
     "add B to the logit of token ID; -inf forbids it; may be "
     "repeated",
     AT(biases), 0, 0, NULL},
    {.name = NULL},
};
#undef AT

void settings_engine(struct carat_engine_options *out, const struct model_settings *settings,
                     const char *path, struct progress *progress)
{
    *out = (struct carat_engine_options){
        .model = path,
        .projector = settings->projector,
        .n_threads = (size_t)settings->threads.value,
        .activations = settings->is_float ? CARAT_ACTIVATIONS_FLOAT : CARAT_ACTIVATIONS_AUTO,
        .on_progress = progress ? progress_report : NULL,
        .user = progress,
    };
}

void settings_session(struct carat_session_options *out, const struct model_settings *settings,
                      struct progress *progress)
{
    *out = (struct carat_session_options){
        .context_max = (size_t)settings->context.value,
        .kv_type = (enum carat_dtype_kv)settings->kv_type,
        .prefill_chunk = (size_t)settings->chunk.value,
        .on_progress = progress ? progress_report : NULL,
        .user = progress,
    };
}

static int read_bias(struct carat_logit_bias *out, const char *text, size_t n_vocab,
                     struct carat_error *err)
{
    char id[24] = "";
    uint64_t token = 0;
    const char *equals = strchr(text, '=');
    size_t size = equals ? (size_t)(equals - text) : 0;
    if (size > 0 && size < sizeof(id)) {
        memcpy(id, text, size);
    }
    char *end = NULL;
    double bias = equals ? strtod(equals + 1, &end) : 0;
    if (!parse_count(id, 0, (double)n_vocab - 1, &token) || !end || end == equals + 1 || *end ||
        isnan(bias)) {
        return fail(err, CARAT_E_ARGUMENT,
                    "--logit-bias: expected ID=BIAS with an id below %zu, found '%s'", n_vocab,
                    text);
    }
    *out = (struct carat_logit_bias){.token = (carat_token)token, .bias = (float)bias};
    return 0;
}

static void set_float(float *out, const struct option_number *from)
{
    if (from->is_set) {
        *out = (float)from->value;
    }
}

int settings_sampling(struct carat_sampling *out, const struct sampling_settings *settings,
                      const struct carat_engine *engine, struct carat_logit_bias **biases,
                      struct carat_error *err)
{
    carat_sampling_init(out, engine);
    set_float(&out->temperature, &settings->temperature);
    set_float(&out->top_p, &settings->top_p);
    set_float(&out->min_p, &settings->min_p);
    set_float(&out->repetition_penalty, &settings->repetition_penalty);
    set_float(&out->frequency_penalty, &settings->frequency_penalty);
    set_float(&out->presence_penalty, &settings->presence_penalty);
    if (settings->top_k.is_set) {
        out->top_k = (size_t)settings->top_k.value;
    }
    if (settings->seed.is_set) {
        out->seed = settings->seed.value;
    }
    *biases = NULL;
    size_t n = settings->biases.n;
    if (n == 0) {
        return 0;
    }
    struct carat_logit_bias *list = mem_new_array(n, sizeof(*list), err);
    if (!list) {
        return CARAT_E_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        int rc =
            read_bias(&list[i], settings->biases.items[i], carat_engine_info(engine)->n_vocab, err);
        if (rc) {
            mem_free(list);
            return rc;
        }
    }
    *biases = list;
    out->biases = list;
    out->n_biases = n;
    return 0;
}
