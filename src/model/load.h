// SPDX-License-Identifier: Apache-2.0
// Matrices from a file into the device's own order. Read once, in pieces; what was read no longer
// counts as this process's memory, so that there are never two copies of the weights.
#ifndef CARAT_MODEL_LOAD_H
#define CARAT_MODEL_LOAD_H

#include "model/projector.h"

struct load {
    struct device *device;
    carat_on_progress on_progress; // may be NULL
    void *user;
    uint64_t done; // bytes of the file, of total
    uint64_t total;
};

// Bytes that load_weights and load_projector will read.
uint64_t weights_load_size(const struct weights *w);
uint64_t projector_load_size(const struct projector *p);
// CARAT_E_MEMORY, or CARAT_E_STOPPED when on_progress says so; what was loaded is to be unloaded
// even then. source: where the matrices were bound.
int load_weights(struct load *l, struct weights *w, const struct source *source,
                 struct carat_error *err);
int load_projector(struct load *l, struct projector *p, const struct source *source,
                   struct carat_error *err);
void unload_weights(struct device *dev, struct weights *w);
void unload_projector(struct device *dev, struct projector *p);

#endif
