// SPDX-License-Identifier: Apache-2.0
// One view of a model on disk, whatever the container and the number of shards: a GGUF file, the
// first of a split GGUF set, or a Hugging Face directory with one or many safetensors files.
#ifndef CARAT_FORMATS_SOURCE_H
#define CARAT_FORMATS_SOURCE_H

#include "formats/gguf.h"
#include "formats/json.h"
#include "formats/safetensors.h"

// Limits, far above any model there is.
#define SOURCE_SHARDS_MAX         1000
#define SOURCE_CONFIG_MAX         ((size_t)16 << 20) // bytes of config.json and of generation_config.json
#define SOURCE_TOKENIZER_MAX      ((size_t)128 << 20)
#define SOURCE_TOKENIZER_META_MAX ((size_t)64 << 20) // tokenizer_config.json
#define SOURCE_INDEX_MAX          ((size_t)64 << 20)
#define SOURCE_TEMPLATE_MAX       ((size_t)4 << 20)
#define SOURCE_LIST_MAX           10000 // names in a directory that is searched

struct source_tensor {
    struct slice name;
    enum dtype type;
    uint32_t n_dims;
    uint64_t
        dims[4]; // rows first, as in a checkpoint: the last one is contiguous; unused ones are 1
    const uint8_t *data;
    uint64_t size; // bytes
    size_t i_map;  // data lies in source_map_at(s, i_map)
};

struct source;
// needs_tensors false: metadata and vocabulary only (a directory then needs no safetensors files).
// A missing shard, a tensor that is twice there, a shard of another model: an error that says
// which.
int source_open(struct source **out, const char *path, bool needs_tensors, struct carat_error *err);
// The same over the caller's bytes, which outlive the result: a GGUF file, or else the text of a
// config.json, as of a directory with nothing beside it (for tests and fuzzing).
int source_open_memory(struct source **out, const void *data, size_t size, const char *name,
                       struct carat_error *err);
void source_close(struct source *s); // takes NULL
const char *source_path(const struct source *s);

size_t source_n_tensors(const struct source *s);
const struct source_tensor *source_tensor_at(const struct source *s, size_t i);
const struct source_tensor *source_find(const struct source *s, const char *name); // NULL: absent
size_t source_n_maps(const struct source *s);                                      // one per file
const struct os_map *source_map_at(const struct source *s, size_t i);

// Tells the system that these bytes of a file will be read soon, or not again: see os.h. Bytes that
// lie in no mapped file are left alone.
void source_will_need(const struct source *s, const uint8_t *data, size_t size);
void source_drop(const struct source *s, const uint8_t *data, size_t size);

// Exactly one of these two is not NULL: the metadata of a GGUF's first file, or config.json.
const struct gguf *source_gguf(const struct source *s);
const struct json_doc *source_config(const struct source *s);
// Of a directory, NULL when the file is not there. tokenizer.json is parsed at the first call and
// dropped by source_drop_tokenizer, because it is large.
const struct json_doc *source_generation_config(const struct source *s);
int source_tokenizer(struct source *s, const struct json_doc **out, struct carat_error *err);
void source_drop_tokenizer(struct source *s);
// The chat template's text: from the GGUF's metadata, chat_template.jinja, or
// tokenizer_config.json. Empty when there is none. Lives with the source.
struct slice source_chat_template(const struct source *s);

#endif
