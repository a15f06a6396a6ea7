// SPDX-License-Identifier: Apache-2.0
// Recipes of the quantizer: which element type a matrix gets by its role and layer. They assign
// what the usual tool does for the same name, so that files compare; docs/quantize.md lists them.
#ifndef CARAT_MODEL_RECIPES_H
#define CARAT_MODEL_RECIPES_H

#include "model/weights.h"

// What a name says about a matrix, in any member of the family.
enum matrix_kind {
    MATRIX_OTHER,
    MATRIX_EMBED,
    MATRIX_HEAD,
    MATRIX_Q,
    MATRIX_K,
    MATRIX_V,
    MATRIX_QKV,
    MATRIX_O,
    MATRIX_GATE,
    MATRIX_UP,
    MATRIX_DOWN,
    MATRIX_KIND_COUNT,
};
const char *matrix_kind_name(enum matrix_kind kind); // "attn_q", ...

// The model as recipes see it.
struct recipe_model {
    size_t n_layers;
    size_t n_values;  // layers with a value matrix of their own
    size_t n_grouped; // query heads per key head
    bool has_head;    // an output matrix besides the embedding
    bool has_importance;
};
struct recipe_matrix {
    enum matrix_kind kind;
    size_t layer;
    size_t i_value; // how many layers with a value matrix come before this one
    uint64_t columns;
};

struct recipe;
const struct recipe *recipe_at(size_t i); // NULL past the last
const struct recipe *recipe_find(const char *name);
const char *recipe_name(const struct recipe *r);
const char *recipe_what(const struct recipe *r);
enum dtype recipe_type(const struct recipe *r);    // of most matrices
uint32_t recipe_file_type(const struct recipe *r); // general.file_type
// The type of one matrix, before recipe_fit. is_pure: what recipe_type says, everywhere.
enum dtype recipe_type_of(const struct recipe *r, const struct recipe_model *model,
                          const struct recipe_matrix *matrix, bool is_pure);
// The type itself, or the one to take where its blocks do not fit rows of so many values.
enum dtype recipe_fit(enum dtype type, uint64_t columns);

#endif
