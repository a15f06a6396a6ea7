// SPDX-License-Identifier: Apache-2.0
// Prompts: tokens ready to evaluate, and the text they came from.
#include "engine/engine.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

int prompt_new(struct carat_prompt **out, struct token_list *tokens, struct buf *text,
               bool opens_thought, struct carat_error *err)
{
    struct carat_prompt *p = mem_new(sizeof(*p), err);
    if (!p) {
        return CARAT_E_MEMORY;
    }
    p->tokens = tokens->tokens;
    p->n_tokens = tokens->count;
    p->opens_thought = opens_thought;
    p->n_holders = 1;
    p->self = p;
    *tokens = (struct token_list){0};
    if (text) {
        p->text_size = text->size;
        p->text = buf_take(text);
    }
    *out = p;
    return 0;
}

int carat_prompt_from_tokens(struct carat_prompt **out, const struct carat_engine *engine,
                             const carat_token *tokens, size_t n, struct carat_error *err)
{
    struct token_list list = {0};
    size_t n_vocab = engine->info.n_vocab;
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (size_t)tokens[i] >= n_vocab) {
            return fail(err, CARAT_E_ARGUMENT, "token %zu: expected an id below %zu, found %d", i,
                        n_vocab, tokens[i]);
        }
    }
    list.tokens = mem_new_array(n ? n : 1, sizeof(tokens[0]), err);
    if (!list.tokens) {
        return CARAT_E_MEMORY;
    }
    if (n > 0) {
        memcpy(list.tokens, tokens, n * sizeof(tokens[0]));
    }
    list.count = n;
    int rc = prompt_new(out, &list, NULL, false, err);
    token_list_release(&list);
    return rc;
}

int carat_prompt_from_text(struct carat_prompt **out, const struct carat_engine *engine,
                           const char *text, size_t text_size, unsigned flags,
                           struct carat_error *err)
{
    struct token_list list = {0};
    struct buf copy = {0};
    const struct special_tokens *specials = tokenizer_specials(engine->tokenizer);
    bool parses_special = (flags & CARAT_TOKENIZE_SPECIAL) != 0;
    int rc = tokenizer_encode(engine->tokenizer, slice_make(text, text_size), parses_special, &list,
                              err);
    if (rc) {
        goto out;
    }
    // The models degrade badly without <bos>, so it is always there, once.
    bool has_bos = list.count > 0 && list.tokens[0] == specials->bos;
    if (!has_bos && specials->bos != CARAT_TOKEN_NONE) {
        rc = token_list_add(&list, specials->bos, err);
        if (rc) {
            goto out;
        }
        memmove(list.tokens + 1, list.tokens, (list.count - 1) * sizeof(list.tokens[0]));
        list.tokens[0] = specials->bos;
        buf_add_slice(&copy, tokenizer_text(engine->tokenizer, specials->bos));
    }
    buf_add(&copy, text, text_size);
    rc = buf_status(&copy, err);
    if (rc) {
        goto out;
    }
    rc = prompt_new(out, &list, &copy, false, err);
out:
    token_list_release(&list);
    buf_release(&copy);
    return rc;
}

const carat_token *carat_prompt_tokens(const struct carat_prompt *p, size_t *n)
{
    *n = p->n_tokens;
    return p->tokens;
}

const char *carat_prompt_text(const struct carat_prompt *p, size_t *size)
{
    *size = p->text_size;
    return p->text;
}

bool carat_prompt_opens_thought(const struct carat_prompt *p)
{
    return p->opens_thought;
}

const struct carat_prompt *prompt_hold(const struct carat_prompt *p)
{
    atomic_fetch_add(&p->self->n_holders, 1);
    return p;
}

void prompt_let_go(const struct carat_prompt *p)
{
    if (p) {
        carat_prompt_free(p->self);
    }
}

void carat_prompt_free(struct carat_prompt *p)
{
    if (p && atomic_fetch_sub(&p->n_holders, 1) == 1) {
        mem_free(p->tokens);
        mem_free(p->text);
        prompt_drop_spans(p);
        mem_free(p);
    }
}
