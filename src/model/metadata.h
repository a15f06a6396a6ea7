// SPDX-License-Identifier: Apache-2.0
// The metadata of a GGUF file from a checkpoint's config.json, tokenizer.json and what lies beside
// them; and the other way round. Keys: docs/formats.md. Private to the jobs on files.
#ifndef CARAT_MODEL_METADATA_H
#define CARAT_MODEL_METADATA_H

#include "formats/gguf_write.h"
#include "model/catalog.h"

// All keys of a decoder: architecture, sizes, tokenizer, chat template, sampling.
int metadata_set_model(struct gguf_writer *w, struct source *source,
                       const struct model_config *config, uint64_t n_parameters,
                       struct carat_error *err);
// Those of a file of projections, or of the projections inside a model's file.
int metadata_set_projector(struct gguf_writer *w, const struct source *source,
                           const struct projector *p, struct carat_error *err);

#endif
