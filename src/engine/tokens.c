// SPDX-License-Identifier: Apache-2.0
// The public functions about tokens: text to ids, ids to text, and the streaming detokenizer.
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/internal.h"

static int check_text(const char *text, size_t size, unsigned flags, struct carat_error *err)
{
    const unsigned known = CARAT_TOKENIZE_SPECIAL | CARAT_TOKENIZE_BOS;
    if ((flags & ~known) != 0) {
        return fail(err, CARAT_E_ARGUMENT,
                    "tokenize: flags: expected a combination of enum carat_token_flags, found 0x%x",
                    flags);
    }
    if (!text && size > 0) {
        return fail(err, CARAT_E_ARGUMENT, "tokenize: text: expected %zu bytes, found NULL", size);
    }
    return 0;
}

int64_t carat_tokenize(const struct carat_engine *engine, const char *text, size_t text_size,
                       unsigned flags, carat_token *out, size_t capacity, struct carat_error *err)
{
    const struct tokenizer *t = engine_tokenizer(engine);
    const bool parses_special = (flags & CARAT_TOKENIZE_SPECIAL) != 0;
    struct token_list list = {0};
    size_t skipped = 0;
    int64_t rc = check_text(text, text_size, flags, err);
    if (rc) {
        goto out;
    }
    if ((flags & CARAT_TOKENIZE_BOS) != 0) {
        rc = token_list_add(&list, tokenizer_specials(t)->bos, err);
        if (rc) {
            goto out;
        }
        if (list.tokens[0] == CARAT_TOKEN_NONE) {
            rc = fail(err, CARAT_E_UNSUPPORTED, "tokenize: this vocabulary has no <bos>");
            goto out;
        }
    }
    rc = tokenizer_encode(t, slice_make(text, text_size), parses_special, &list, err);
    if (rc) {
        goto out;
    }
    // The text may begin with <bos> itself.
    if ((flags & CARAT_TOKENIZE_BOS) != 0 && list.count > 1 && list.tokens[1] == list.tokens[0]) {
        skipped = 1;
    }
    const size_t n = list.count - skipped;
    if (out && n > 0 && capacity > 0) {
        memcpy(out, list.tokens + skipped, (n < capacity ? n : capacity) * sizeof(*out));
    }
    rc = (int64_t)n;
out:
    token_list_release(&list);
    return rc;
}

const char *carat_token_text(const struct carat_engine *engine, carat_token token, size_t *size)
{
    const struct slice text = tokenizer_text(engine_tokenizer(engine), token);
    *size = text.size;
    return text.data;
}

bool carat_token_is_special(const struct carat_engine *engine, carat_token token)
{
    return tokenizer_is_special(engine_tokenizer(engine), token);
}

bool carat_token_is_stop(const struct carat_engine *engine, carat_token token)
{
    return engine_is_stop(engine, token);
}

// ------------------------------------------------------------------------------------ detokenizing

struct carat_detokenizer {
    const struct tokenizer *tokenizer;
    bool skips_special;
    struct utf8_stream stream;
    struct buf shown;
};

// A token has at most this many bytes, and each byte becomes at most one U+FFFD of three.
#define SHOWN_MAX (3 * ((size_t)TOKENIZER_TOKEN_SIZE_MAX + 4))

int carat_detokenizer_new(struct carat_detokenizer **out, const struct carat_engine *engine,
                          bool skips_special, struct carat_error *err)
{
    static const char zeros[256];
    int rc = CARAT_E_MEMORY;
    struct carat_detokenizer *d = mem_new(sizeof(*d), err);
    if (!d) {
        goto out;
    }
    d->tokenizer = engine_tokenizer(engine);
    d->skips_special = skips_special;
    // Feeding cannot fail, so its buffer gets its full size now.
    d->shown.max = SHOWN_MAX + sizeof(zeros);
    while (d->shown.size < SHOWN_MAX && !d->shown.has_failed) {
        buf_add(&d->shown, zeros, sizeof(zeros));
    }
    rc = buf_status(&d->shown, err);
    if (rc) {
        goto out;
    }
    buf_clear(&d->shown);
    *out = d;
    d = NULL;
out:
    carat_detokenizer_free(d);
    return rc;
}

const char *carat_detokenizer_feed(struct carat_detokenizer *d, carat_token token, size_t *size)
{
    buf_clear(&d->shown);
    if (!d->skips_special || !tokenizer_is_special(d->tokenizer, token)) {
        utf8_stream_feed(&d->stream, tokenizer_text(d->tokenizer, token), &d->shown);
    }
    *size = d->shown.size;
    return buf_text(&d->shown);
}

const char *carat_detokenizer_flush(struct carat_detokenizer *d, size_t *size)
{
    buf_clear(&d->shown);
    utf8_stream_flush(&d->stream, &d->shown);
    *size = d->shown.size;
    return buf_text(&d->shown);
}

void carat_detokenizer_free(struct carat_detokenizer *d)
{
    if (d) {
        buf_release(&d->shown);
        mem_free(d);
    }
}
