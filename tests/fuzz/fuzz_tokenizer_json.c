// SPDX-License-Identifier: Apache-2.0
// Random tokenizer.json and GGUF vocabularies: refused with a message, or good for any text.
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int make(struct tokenizer **out, const uint8_t *data, size_t size, struct carat_error *err)
{
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        struct gguf *g = NULL;
        int rc = gguf_open_memory(&g, data, size, "vocabulary", err);
        if (rc == 0) {
            rc = tokenizer_new_gguf(out, g, err);
        }
        gguf_close(g);
        return rc;
    }
    struct json_doc *doc = NULL;
    int rc = json_parse(&doc, (const char *)data, size, "vocabulary", err);
    if (rc == 0) {
        rc = tokenizer_new_json(out, doc, "vocabulary", err);
    }
    json_free(doc);
    return rc;
}

static void use(const struct tokenizer *t, struct slice text)
{
    for (int parses_special = 0; parses_special < 2; parses_special++) {
        struct token_list tokens = {0};
        require(tokenizer_encode(t, text, parses_special, &tokens, NULL) == 0);
        require(tokens.count <= text.size);
        for (size_t i = 0; i < tokens.count; i++) {
            require(tokenizer_text(t, tokens.tokens[i]).size > 0);
            require(parses_special || !tokenizer_is_special(t, tokens.tokens[i]));
        }
        token_list_release(&tokens);
    }
    carat_token token = CARAT_TOKEN_NONE;
    require(tokenizer_next_special(t, text, 0, &token) <= text.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] =
        "<bos><|turn>user\n the  tab\tabc\n\n\xC3\xA9\xE2\x96\x81\xF0\x9F<turn|>";
    struct tokenizer *t = NULL;
    struct carat_error err = {0};
    const int rc = make(&t, data, size, &err);
    require(rc == 0 || err.text[0] != 0);
    if (rc == 0) {
        use(t, slice_make(text, sizeof(text) - 1));
        // The vocabulary's own bytes are the text most likely to be merged.
        use(t, slice_make((const char *)data, size < 4096 ? size : 4096));
        for (size_t i = 0; i < tokenizer_n_tokens(t); i++) {
            require(tokenizer_text(t, (carat_token)i).size <= TOKENIZER_TOKEN_SIZE_MAX);
        }
    }
    tokenizer_free(t);
    return 0;
}
