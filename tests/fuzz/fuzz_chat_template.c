// SPDX-License-Identifier: Apache-2.0
// Bytes as JSON, as messages and tools, through every version of the template: the text must
// begin with <bos>, and a failure must say why.
#include <stdint.h>
#include <string.h>

#include "../chat/chat_row.h"
#include "base/error.h"
#include "chat/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_doc *doc = NULL;
    struct arena arena = {0};
    struct carat_chat chat;
    if (json_parse(&doc, (const char *)data, size, "input", NULL)) {
        return 0;
    }
    if (chat_row_read(&chat, json_root(doc), &arena) == 0) {
        for (int which = CARAT_TEMPLATE_CANONICAL; which <= CARAT_TEMPLATE_LAUNCH; which++) {
            struct chat_result result = {0};
            struct carat_error err = {0};
            int rc = chat_render(&result, &chat, (enum carat_template)which, NULL, &err);
            require(rc == 0 || err.text[0]);
            require(rc || !strncmp(buf_text(&result.text), "<bos>", 5));
            chat_result_release(&result);
        }
    }
    arena_release(&arena);
    json_free(doc);
    return 0;
}
