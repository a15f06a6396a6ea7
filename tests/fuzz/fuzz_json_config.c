// SPDX-License-Identifier: Apache-2.0
// Random JSON: refused with a message, or what is written again is read as the same. And random
// configurations, as config.json or as the metadata of a GGUF file.
#include <stdint.h>

#include "base/error.h"
#include "formats/source.h"
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct json_value *v)
{
    for (struct json_iter it = json_iter(v); json_next(&it);) {
        uint64_t u;
        int64_t i;
        const bool is_u64 = json_u64(it.value, &u);
        if (json_i64(it.value, &i) && is_u64) {
            require((uint64_t)i == u);
        }
        require(!it.is_object || json_getn(v, it.key) != NULL);
        (void)json_double(it.value);
    }
}

static void use_json(const uint8_t *data, size_t size)
{
    struct json_doc *doc = NULL;
    if (json_parse(&doc, (const char *)data, size, "text", NULL)) {
        return;
    }
    struct buf text = {0};
    struct buf again = {0};
    struct json_doc *copy = NULL;
    walk(json_root(doc));
    json_write(json_root(doc), &text);
    require(json_parse(&copy, buf_text(&text), text.size, "copy", NULL) == 0);
    json_write(json_root(copy), &again);
    require(slice_equal(slice_make(text.data, text.size), slice_make(again.data, again.size)));
    json_free(copy);
    json_free(doc);
    buf_release(&text);
    buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    use_json(data, size);
    struct source *s = NULL;
    struct carat_error err = {0};
    int rc = source_open_memory(&s, data, size, "config", &err);
    require(rc == 0 || err.text[0] != 0);
    if (rc == 0) {
        struct model_config config = {0};
        err = (struct carat_error){0};
        rc = config_read(&config, s, &err);
        require(rc == 0 || err.text[0] != 0);
        config_release(&config);
    }
    source_close(s);
    return 0;
}
