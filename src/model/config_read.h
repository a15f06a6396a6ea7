// SPDX-License-Identifier: Apache-2.0
// What the two readers of hyper-parameters share. Private to config*.c.
#ifndef CARAT_MODEL_CONFIG_READ_H
#define CARAT_MODEL_CONFIG_READ_H

#include "model/config.h"

// Scalar fields that both containers have, with the name in each.
struct config_key {
    const char *gguf; // below "gemma4."
    const char *json; // below "text_config." or at top level
    size_t offset;    // of a uint32_t in struct model_config
    uint64_t max;
};
#define N_CONFIG_KEYS 5
extern const struct config_key config_keys[N_CONFIG_KEYS];

int config_check_range(const char *file, const char *key, uint64_t value, uint64_t max,
                       struct carat_error *err);
int config_missing(const char *file, const char *key, struct carat_error *err);
int config_unsupported(const char *file, const char *what, struct carat_error *err);
int config_new_layers(struct model_config *c, struct carat_error *err);

int config_read_gguf(struct model_config *c, const struct source *source, struct carat_error *err);
int config_read_json(struct model_config *c, const struct source *source, struct carat_error *err);

#endif
