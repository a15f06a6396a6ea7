// SPDX-License-Identifier: Apache-2.0
// The tensors of a model as they will stand in a file that is made of it: under GGUF's names, in
// GGUF's order of dimensions, with what has to be done to their values on the way. Private to the
// jobs on files (quantize.c, convert.c).
#ifndef CARAT_MODEL_CATALOG_H
#define CARAT_MODEL_CATALOG_H

#include "model/projector.h"
#include "model/recipes.h"

struct item {
    char name[TENSOR_NAME_SIZE]; // in the new file
    const struct source *source; // where `data` lies
    const uint8_t *data;         // values as `type`, rows one after the other
    float *made;                 // values that were made anew or put into another order, owned
    enum dtype type;             // of data; F32 for made ones
    uint64_t size;               // bytes of data
    float factor;                // that every value is multiplied by
    uint32_t n_dims;
    uint64_t dims[4]; // contiguous one first
    uint64_t columns; // dims[0]
    uint64_t rows;    // all others
    enum matrix_kind kind;
    int layer;      // -1: none
    bool is_matrix; // what a recipe chooses the type of
    bool is_projector;
    enum dtype to;
    enum dtype asked; // what the recipe wanted, where `to` is only what fits; else `to`
};

struct catalog {
    struct item *items;
    size_t n;
};

enum catalog_parts {
    CATALOG_MODEL = 1,
    CATALOG_PROJECTOR = 2,
    CATALOG_EXACT = 4, // projections of a checkpoint keep the type they have, else they get BF16
};
// Appends the tensors of a source: of a GGUF file all that belong to the parts, of a checkpoint
// those that the tables name (weights.h, projector.h). config is for checkpoints.
int catalog_add(struct catalog *c, const struct source *source, const struct model_config *config,
                unsigned parts, struct carat_error *err);
// How many tensors of a checkpoint are in none of the catalogs.
size_t catalog_left_out(const struct source *source, const struct catalog *const *catalogs,
                        size_t n_catalogs);
void catalog_release(struct catalog *c);
// n values of row `row` from column `first` on, a whole number of blocks.
void item_read(const struct item *item, float *out, uint64_t row, uint64_t first, size_t n);
// What recipes need to know.
struct recipe_model catalog_model(const struct catalog *c, size_t n_grouped);
size_t catalog_i_value(const struct catalog *c, size_t layer);

#endif
