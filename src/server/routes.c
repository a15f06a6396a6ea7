// SPDX-License-Identifier: Apache-2.0
// The table of endpoints, and finding a row in it. A new dialect is rows here and its own file.
#include <string.h>

#include "server/api_anthropic.h"
#include "server/api_gemini.h"
#include "server/api_info.h"
#include "server/api_ollama.h"
#include "server/api_responses.h"
#include "server/page.h"
#include "server/server.h"

// clang-format off
const struct route routes[] = {
    {"GET",    "/",                           NULL, page_answer, true},
    {"GET",    "/assets/*",                   NULL, page_answer, true},
    {"GET",    "/health",                     NULL, info_health, true},
    {"GET",    "/healthz",                    NULL, info_health, true},
    {"GET",    "/metrics",                    NULL, info_metrics, false},
    {"GET",    "/version",                    NULL, info_version, false},
    {"POST",   "/tokenize",                   &dialect_tokenize, NULL, false},
    {"POST",   "/detokenize",                 &dialect_detokenize, NULL, false},

    // OpenAI
    {"GET",    "/v1/models",                  NULL, info_models, false},
    {"GET",    "/v1/models/*",                NULL, info_model, false},
    {"POST",   "/v1/chat/completions",        &dialect_openai_chat, NULL, false},
    {"POST",   "/v1/completions",             &dialect_openai_text, NULL, false},
    {"POST",   "/v1/embeddings",              &dialect_openai_embeddings, NULL, false},
    {"POST",   "/v1/responses",               &dialect_openai_responses, NULL, false},
    {"GET",    "/v1/responses/*",             NULL, responses_get, false},
    {"DELETE", "/v1/responses/*",             NULL, responses_delete, false},
    {"POST",   "/v1/responses/input_tokens",  &dialect_openai_responses_count, NULL, false},
    {"POST",   "/v1/responses/*",             NULL, responses_post, false},
    {"POST",   "/v1/audio/transcriptions",    &dialect_openai_transcriptions, NULL, false},
    {"POST",   "/v1/audio/translations",      &dialect_openai_translations, NULL, false},
    // For base URLs without /v1.
    {"GET",    "/models",                     NULL, info_models, false},
    {"POST",   "/chat/completions",           &dialect_openai_chat, NULL, false},
    {"POST",   "/completions",                &dialect_openai_text, NULL, false},
    {"POST",   "/embeddings",                 &dialect_openai_embeddings, NULL, false},
    {"POST",   "/responses",                  &dialect_openai_responses, NULL, false},
    {"GET",    "/responses/*",                NULL, responses_get, false},
    {"DELETE", "/responses/*",                NULL, responses_delete, false},
    {"POST",   "/responses/input_tokens",     &dialect_openai_responses_count, NULL, false},
    {"POST",   "/responses/*",                NULL, responses_post, false},
    {"POST",   "/audio/transcriptions",       &dialect_openai_transcriptions, NULL, false},
    {"POST",   "/audio/translations",         &dialect_openai_translations, NULL, false},

    // Anthropic
    {"POST",   "/v1/messages",                &dialect_anthropic, NULL, false},
    {"POST",   "/v1/messages/count_tokens",   &dialect_anthropic_count, NULL, false},

    // Ollama
    {"POST",   "/api/chat",                   &dialect_ollama_chat, NULL, false},
    {"POST",   "/api/generate",               &dialect_ollama_generate, NULL, false},
    {"POST",   "/api/embed",                  &dialect_ollama_embed, NULL, false},
    {"POST",   "/api/embeddings",             &dialect_ollama_embeddings, NULL, false},
    {"GET",    "/api/tags",                   NULL, ollama_tags, false},
    {"POST",   "/api/show",                   NULL, ollama_show, false},
    {"GET",    "/api/ps",                     NULL, ollama_ps, false},
    {"GET",    "/api/version",                NULL, ollama_version, false},
    {"POST",   "/api/pull",                   NULL, ollama_pull, false},
    {"POST",   "/api/push",                   NULL, ollama_refuse, false},
    {"POST",   "/api/create",                 NULL, ollama_refuse, false},
    {"POST",   "/api/copy",                   NULL, ollama_refuse, false},
    {"DELETE", "/api/delete",                 NULL, ollama_refuse, false},

    // Gemini
    {"GET",    "/v1beta/models",              NULL, gemini_models, false},
    {"GET",    "/v1beta/models/*",            NULL, gemini_model, false},
    {"POST",   "/v1beta/models/*",            &dialect_gemini, NULL, false},
    {"POST",   "/v1/models/*",                &dialect_gemini, NULL, false},
    {.path = NULL},
};
// clang-format on

static bool path_matches(const char *pattern, const char *path)
{
    size_t size = strlen(pattern);
    if (size > 0 && pattern[size - 1] == '*') {
        return strncmp(pattern, path, size - 1) == 0;
    }
    return strcmp(pattern, path) == 0;
}

static void add_method(struct buf *allowed, const char *method)
{
    if (allowed && !(allowed->size && strstr(allowed->data, method))) {
        buf_addf(allowed, "%s%s", allowed->size ? ", " : "", method);
        if (strcmp(method, "GET") == 0) {
            buf_adds(allowed, ", HEAD");
        }
    }
}

const struct route *route_find(const char *method, const char *path, struct buf *allowed)
{
    for (const struct route *r = routes; r->path; r++) {
        if (path_matches(r->path, path)) {
            if (strcmp(r->method, method) == 0) {
                return r;
            }
            add_method(allowed, r->method);
        }
    }
    return NULL;
}

// Bytes that two paths share, up to the last slash among them.
static size_t common_folders(const char *a, const char *b)
{
    size_t n = 0;
    for (size_t i = 0; a[i] && a[i] == b[i]; i++) {
        if (a[i] == '/') {
            n = i;
        }
    }
    return n;
}

const struct route *route_near(const char *path)
{
    const struct route *best = NULL;
    size_t best_size = 0;
    for (const struct route *r = routes; r->path; r++) {
        size_t size = strcmp(r->path, path) == 0 ? strlen(path) : common_folders(r->path, path);
        if (r->dialect && size > best_size) {
            best = r;
            best_size = size;
        }
    }
    return best;
}
