// SPDX-License-Identifier: Apache-2.0
#include "timelines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/os_file.h"
#include "engine/session.h"

struct carat_engine *open_engine(const char *model)
{
    struct carat_engine_options options = {.model = model, .n_threads = 1};
    struct carat_engine *e = NULL;
    struct carat_error err = {0};
    if (carat_engine_open(&e, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return e;
}

struct carat_session *open_session(struct carat_engine *e, struct carat_session_options options)
{
    struct carat_session *s = NULL;
    struct carat_error err = {0};
    options.context_max = options.context_max ? options.context_max : 256;
    if (carat_session_new(&s, e, &options, &err)) {
        fail_msg("%s", err.text);
    }
    return s;
}

void fill_tokens(carat_token *tokens, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        tokens[i] = (carat_token)(110 + (seed >> 16) % 270);
    }
}

struct carat_prompt *make_prompt(const struct carat_engine *e, const carat_token *tokens, size_t n)
{
    struct carat_prompt *p = NULL;
    assert_int_equal(carat_prompt_from_tokens(&p, e, tokens, n, NULL), 0);
    return p;
}

size_t sync_tokens(struct carat_session *s, const carat_token *tokens, size_t n)
{
    struct carat_prompt *p = make_prompt(s->engine, tokens, n);
    struct carat_error err = {0};
    size_t reused = 0;
    if (carat_session_sync(s, p, &reused, &err)) {
        fail_msg("%s", err.text);
    }
    carat_prompt_free(p);
    return reused;
}

size_t prepare_tokens(struct carat_session *s, const carat_token *tokens, size_t n)
{
    struct carat_prompt *p = make_prompt(s->engine, tokens, n);
    struct carat_error err = {0};
    size_t reused = 0;
    if (carat_session_prepare(s, p, &reused, &err)) {
        fail_msg("%s", err.text);
    }
    carat_prompt_free(p);
    return reused;
}

void decode_token(struct carat_session *s, carat_token token)
{
    struct carat_step step = {.session = s, .token = token};
    struct carat_error err = {0};
    if (carat_decode(&step, 1, &err)) {
        fail_msg("%s", err.text);
    }
}

void check_logits(struct carat_session *s, const carat_token *tokens, size_t n)
{
    struct carat_session_options options = s->options;
    size_t n_now = 0;
    options.cache = NULL;
    struct carat_session *plain = open_session(s->engine, options);
    const carat_token *now = carat_session_tokens(s, &n_now);
    sync_tokens(plain, tokens, n);
    assert_int_equal(n_now, n);
    assert_memory_equal(now, tokens, n * sizeof(tokens[0]));
    assert_non_null(carat_session_logits(s));
    assert_memory_equal(carat_session_logits(s), carat_session_logits(plain),
                        s->engine->config.n_vocab * sizeof(float));
    carat_session_free(plain);
}

void check_goes_on(struct carat_session *s, const carat_token *tokens, size_t n)
{
    carat_token longer[300];
    memcpy(longer, tokens, n * sizeof(tokens[0]));
    fill_tokens(longer + n, 10, 77);
    for (size_t i = 0; i < 10; i++) {
        decode_token(s, longer[n + i]);
    }
    check_logits(s, longer, n + 10);
}

void place_make(struct place *p)
{
    snprintf(p->folder, sizeof(p->folder), "/tmp/carat-test-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
}

const char *place_path(const struct place *p, const char *name)
{
    static char paths[4][300];
    static size_t i;
    char *path = paths[i++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", p->folder, name);
    return path;
}

size_t place_count(const struct place *p, const char *end, char first[300])
{
    char **names = NULL;
    size_t n = 0;
    size_t count = 0;
    assert_int_equal(os_list(&names, &n, p->folder, 10000, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        size_t size = strlen(names[i]);
        if (size >= strlen(end) && strcmp(names[i] + size - strlen(end), end) == 0) {
            if (count++ == 0 && first) {
                snprintf(first, 300, "%s/%s", p->folder, names[i]);
            }
        }
    }
    os_list_free(names, n);
    return count;
}

void place_remove(struct place *p)
{
    char **names = NULL;
    size_t n = 0;
    assert_int_equal(os_list(&names, &n, p->folder, 10000, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        os_remove(place_path(p, names[i]));
    }
    os_list_free(names, n);
    assert_int_equal(rmdir(p->folder), 0);
}
