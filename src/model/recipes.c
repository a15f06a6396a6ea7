// SPDX-License-Identifier: Apache-2.0
// The table of recipes. The rules are those that llama.cpp's quantizer publishes, for the members
// of this family: which matrices of a mix get a better type, and what stands in where rows are too
// short for a type's blocks.
#include "model/recipes.h"

#include <string.h>

// Where a rule holds. Eighths and sixteenths are of the layers, from the first.
enum where {
    EVERYWHERE,
    MORE_BITS,               // the first and the last eighth, and every third layer between
    FIRST_EIGHTH,            //
    FIRST_EIGHTH_UNWEIGHTED, // and there is no importance
    FIRST_EIGHTH_WEIGHTED,   // and there is
    FIRST_SIXTEENTH,         //
    FIRST_TWO,               //
    FIRST_FOUR,              //
    WIDE_GROUPS,             // four or more query heads share a key head
};

struct rule {
    enum matrix_kind kind;
    enum where where;
    enum dtype type;
};
#define RULES_MAX 6

struct recipe {
    const char *name;
    const char *what;
    enum dtype type;
    uint32_t file_type;
    struct rule rules[RULES_MAX]; // the first that holds counts; ends with MATRIX_OTHER
};

// clang-format off
static const struct recipe recipes[] = {
    {"F32",    "32-bit floats", DTYPE_F32, 0, {{0}}},
    {"F16",    "16-bit floats with a small range", DTYPE_F16, 1, {{0}}},
    {"BF16",   "16-bit floats as published checkpoints have them", DTYPE_BF16, 32, {{0}}},
    {"Q8_0",   "8.5 bits per weight: hard to tell from BF16", DTYPE_Q8_0, 7, {{0}}},
    {"Q6_K",   "6.6 bits", DTYPE_Q6_K, 18, {{0}}},
    {"Q5_K_M", "Q5_K, and Q6_K where it matters most", DTYPE_Q5_K, 17,
     {{MATRIX_V, MORE_BITS, DTYPE_Q6_K}, {MATRIX_DOWN, MORE_BITS, DTYPE_Q6_K}, {MATRIX_QKV, EVERYWHERE, DTYPE_Q6_K}}},
    {"Q5_K_S", "Q5_K", DTYPE_Q5_K, 16, {{0}}},
    {"Q5_K",   "Q5_K: 5.5 bits", DTYPE_Q5_K, 16, {{0}}},
    {"Q5_1",   "6 bits, simple blocks", DTYPE_Q5_1, 9, {{0}}},
    {"Q5_0",   "5.5 bits, simple blocks", DTYPE_Q5_0, 8, {{MATRIX_DOWN, FIRST_EIGHTH_WEIGHTED, DTYPE_Q5_1}}},
    {"Q4_K_M", "Q4_K, and Q6_K where it matters most: the usual choice", DTYPE_Q4_K, 15,
     {{MATRIX_V, MORE_BITS, DTYPE_Q6_K}, {MATRIX_DOWN, MORE_BITS, DTYPE_Q6_K}, {MATRIX_QKV, EVERYWHERE, DTYPE_Q5_K}}},
    {"Q4_K_S", "Q4_K, and Q5_K in the first layers", DTYPE_Q4_K, 14,
     {{MATRIX_V, FIRST_FOUR, DTYPE_Q5_K}, {MATRIX_DOWN, FIRST_EIGHTH, DTYPE_Q5_K}}},
    {"Q4_K",   "Q4_K: 4.5 bits", DTYPE_Q4_K, 14, {{0}}},
    {"Q4_1",   "5 bits, simple blocks", DTYPE_Q4_1, 3, {{0}}},
    {"Q4_0",   "4.5 bits, simple blocks: as the published files for small machines", DTYPE_Q4_0, 2,
     {{MATRIX_DOWN, FIRST_EIGHTH_WEIGHTED, DTYPE_Q4_1}}},
    {"IQ4_NL", "4.5 bits on an uneven scale", DTYPE_IQ4_NL, 25,
     {{MATRIX_V, WIDE_GROUPS, DTYPE_Q5_K}, {MATRIX_DOWN, FIRST_EIGHTH_UNWEIGHTED, DTYPE_Q5_K}}},
    {"IQ4_XS", "4.25 bits on an uneven scale", DTYPE_IQ4_XS, 30,
     {{MATRIX_V, WIDE_GROUPS, DTYPE_Q5_K}, {MATRIX_DOWN, FIRST_EIGHTH_UNWEIGHTED, DTYPE_Q5_K}}},
    {"Q3_K_L", "Q3_K, and Q5_K where it matters", DTYPE_Q3_K, 13,
     {{MATRIX_V, EVERYWHERE, DTYPE_Q5_K}, {MATRIX_DOWN, EVERYWHERE, DTYPE_Q5_K}, {MATRIX_O, EVERYWHERE, DTYPE_Q5_K},
      {MATRIX_QKV, EVERYWHERE, DTYPE_Q4_K}}},
    {"Q3_K_M", "Q3_K, and Q4_K where it matters", DTYPE_Q3_K, 12,
     {{MATRIX_V, FIRST_TWO, DTYPE_Q5_K}, {MATRIX_V, EVERYWHERE, DTYPE_Q4_K}, {MATRIX_DOWN, FIRST_SIXTEENTH, DTYPE_Q5_K},
      {MATRIX_DOWN, EVERYWHERE, DTYPE_Q4_K}, {MATRIX_O, EVERYWHERE, DTYPE_Q4_K}, {MATRIX_QKV, EVERYWHERE, DTYPE_Q4_K}}},
    {"Q3_K_S", "Q3_K", DTYPE_Q3_K, 11, {{0}}},
    {"Q3_K",   "Q3_K: 3.4 bits", DTYPE_Q3_K, 11, {{0}}},
    {"Q2_K",   "Q2_K, and Q3_K where it matters: the smallest", DTYPE_Q2_K, 10,
     {{MATRIX_V, WIDE_GROUPS, DTYPE_Q4_K}, {MATRIX_V, EVERYWHERE, DTYPE_Q3_K}, {MATRIX_DOWN, EVERYWHERE, DTYPE_Q3_K},
      {MATRIX_O, EVERYWHERE, DTYPE_Q3_K}}},
};
static const char *const kind_names[MATRIX_KIND_COUNT] = {
    [MATRIX_OTHER] = "other",   [MATRIX_EMBED] = "token_embd", [MATRIX_HEAD] = "output",
    [MATRIX_Q] = "attn_q",      [MATRIX_K] = "attn_k",         [MATRIX_V] = "attn_v",
    [MATRIX_QKV] = "attn_qkv",  [MATRIX_O] = "attn_output",    [MATRIX_GATE] = "ffn_gate",
    [MATRIX_UP] = "ffn_up",     [MATRIX_DOWN] = "ffn_down",
};
// clang-format on

const char *matrix_kind_name(enum matrix_kind kind)
{
    return kind_names[kind];
}

const struct recipe *recipe_at(size_t i)
{
    return i < sizeof(recipes) / sizeof(recipes[0]) ? &recipes[i] : NULL;
}

static bool is_same_name(const char *a, const char *b)
{
    size_t i = 0;
    while (a[i] && b[i]) {
        char x = a[i] >= 'a' && a[i] <= 'z' ? (char)(a[i] - 'a' + 'A') : a[i];
        char y = b[i] >= 'a' && b[i] <= 'z' ? (char)(b[i] - 'a' + 'A') : b[i];
        if (x != y) {
            return false;
        }
        i++;
    }
    return a[i] == b[i];
}

const struct recipe *recipe_find(const char *name)
{
    for (size_t i = 0; recipe_at(i); i++) {
        if (is_same_name(name, recipes[i].name)) {
            return &recipes[i];
        }
    }
    return NULL;
}

const char *recipe_name(const struct recipe *r)
{
    return r->name;
}

const char *recipe_what(const struct recipe *r)
{
    return r->what;
}

enum dtype recipe_type(const struct recipe *r)
{
    return r->type;
}

uint32_t recipe_file_type(const struct recipe *r)
{
    return r->file_type;
}

static bool holds(enum where where, const struct recipe_model *m, size_t i, size_t n)
{
    size_t eighth = n / 8;
    switch (where) {
    case EVERYWHERE:
        return true;
    case MORE_BITS:
        return i < eighth || i >= 7 * n / 8 || (i - eighth) % 3 == 2;
    case FIRST_EIGHTH:
        return i < eighth;
    case FIRST_EIGHTH_UNWEIGHTED:
        return i < eighth && !m->has_importance;
    case FIRST_EIGHTH_WEIGHTED:
        return i < eighth && m->has_importance;
    case FIRST_SIXTEENTH:
        return i < n / 16;
    case FIRST_TWO:
        return i < 2;
    case FIRST_FOUR:
        return i < 4;
    case WIDE_GROUPS:
        return m->n_grouped >= 4;
    }
    return false;
}

enum dtype recipe_type_of(const struct recipe *r, const struct recipe_model *model,
                          const struct recipe_matrix *matrix, bool is_pure)
{
    bool is_float = dtypes[r->type].block_values == 1;
    if (is_pure || is_float) {
        return r->type;
    }
    // The matrix that makes the logits: every error in it reaches them undamped.
    if (matrix->kind == MATRIX_HEAD || (matrix->kind == MATRIX_EMBED && !model->has_head)) {
        bool fits = matrix->columns % dtypes[r->type].block_values == 0;
        return r->type == DTYPE_Q8_0 || !fits ? DTYPE_Q8_0 : DTYPE_Q6_K;
    }
    bool is_value = matrix->kind == MATRIX_V || matrix->kind == MATRIX_QKV;
    for (size_t i = 0; i < RULES_MAX && r->rules[i].kind != MATRIX_OTHER; i++) {
        const struct rule *rule = &r->rules[i];
        if (rule->kind == matrix->kind &&
            holds(rule->where, model, is_value ? matrix->i_value : matrix->layer,
                  is_value ? model->n_values : model->n_layers)) {
            return rule->type;
        }
    }
    return r->type;
}

enum dtype recipe_fit(enum dtype type, uint64_t columns)
{
    if (columns % dtypes[type].block_values == 0) {
        return type;
    }
    enum dtype instead = DTYPE_F16;
    switch (type) {
    case DTYPE_Q2_K:
    case DTYPE_Q3_K:
        instead = DTYPE_Q4_0;
        break;
    case DTYPE_IQ4_XS:
        instead = DTYPE_IQ4_NL;
        break;
    case DTYPE_Q4_K:
        instead = DTYPE_Q5_0;
        break;
    case DTYPE_Q5_K:
        instead = DTYPE_Q5_1;
        break;
    case DTYPE_Q6_K:
        instead = DTYPE_Q8_0;
        break;
    default:
        break;
    }
    return columns % dtypes[instead].block_values == 0 ? instead : DTYPE_F16;
}
