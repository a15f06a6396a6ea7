// SPDX-License-Identifier: Apache-2.0
// The small files of a checkpoint's directory, made of a GGUF file's metadata. Private to
// convert.c.
#ifndef CARAT_MODEL_CHECKPOINT_H
#define CARAT_MODEL_CHECKPOINT_H

#include "model/projector.h"
#include "model/tokenizer.h"

struct checkpoint {
    const struct source *source; // a GGUF file
    const struct model_config *config;
    const struct weights *weights;
    const struct projector *projector; // without paths: text only
    const struct tokenizer *tokenizer;
    const char *dtype; // "bfloat16", ...
    bool has_head;
    uint32_t pooling; // patches on a block's side
};

// Each appends a whole file; what cannot be said in it is an error.
int checkpoint_config(struct buf *out, const struct checkpoint *c, struct carat_error *err);
int checkpoint_tokenizer(struct buf *out, const struct checkpoint *c, struct carat_error *err);
void checkpoint_tokenizer_config(struct buf *out, const struct checkpoint *c);
void checkpoint_generation(struct buf *out, const struct checkpoint *c);
void checkpoint_processor(struct buf *out, const struct checkpoint *c);

#endif
