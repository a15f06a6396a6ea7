// SPDX-License-Identifier: Apache-2.0
// Which element type each matrix gets: by a recipe and rules on top of it, or, under a budget of
// bytes, by the errors measured.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/quantize.h"

uint64_t item_size_as(const struct item *item, enum dtype type)
{
    return item->rows * (item->columns / dtypes[type].block_values) * dtypes[type].block_size;
}

// ------------------------------------------------------------------------------------------- rules

// "7.5GB", "800M", "123456": powers of 1000, or of 1024 with an i ("7GiB").
static int parse_size(const char *text, uint64_t *out, struct carat_error *err)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    double value = strtod(text, &end);
    double factor = 1;
    bool is_good = end != text && text[0] != '-' && text[0] != '+' && isfinite(value);
    const char *unit = is_good && *end ? strchr(units, *end & ~0x20) : NULL;
    if (unit) {
        bool is_binary = end[1] == 'i';
        factor = pow(is_binary ? 1024 : 1000, (double)(unit - units) + 1);
        end += is_binary ? 2 : 1;
    }
    end += is_good && (*end == 'B' || *end == 'b') ? 1 : 0;
    if (!is_good || *end || value * factor < 1 || value * factor > 1e18) {
        return fail(err, CARAT_E_ARGUMENT,
                    "auto:%s: expected a size such as auto:7.5GB or auto:600MiB", text);
    }
    *out = (uint64_t)(value * factor);
    return 0;
}

static const struct recipe *element_recipe(const char *name, size_t size)
{
    char text[16];
    if (size == 0 || size >= sizeof(text)) {
        return NULL;
    }
    snprintf(text, sizeof(text), "%.*s", (int)size, name);
    return recipe_find(text);
}

static int apply_rules(struct item *it, const struct carat_quantize_options *o,
                       struct carat_error *err)
{
    for (size_t i = 0; i < o->n_rules; i++) {
        const char *equal = strchr(o->rules[i], '=');
        const struct recipe *r = equal ? element_recipe(equal + 1, strlen(equal + 1)) : NULL;
        char part[64];
        if (!r || equal == o->rules[i] || (size_t)(equal - o->rules[i]) >= sizeof(part)) {
            return fail(err, CARAT_E_ARGUMENT,
                        "rule '%s': expected PART=TYPE, such as attn_v=Q8_0 or blk.0.=BF16",
                        o->rules[i]);
        }
        snprintf(part, sizeof(part), "%.*s", (int)(equal - o->rules[i]), o->rules[i]);
        if (strstr(it->name, part)) {
            it->asked = recipe_type(r);
            it->to = recipe_fit(it->asked, it->columns);
            return 0;
        }
    }
    return 0;
}

static int apply_recipe(struct catalog *c, const struct carat_quantize_options *o, size_t n_grouped,
                        const struct recipe *recipe, struct carat_error *err)
{
    struct recipe_model model = catalog_model(c, n_grouped);
    model.has_importance = o->importance != NULL;
    for (size_t i = 0; i < c->n; i++) {
        struct item *it = &c->items[i];
        if (!it->is_matrix) {
            continue;
        }
        if (recipe) {
            struct recipe_matrix matrix = {it->kind, it->layer < 0 ? 0 : (size_t)it->layer, 0,
                                           it->columns};
            matrix.i_value = it->kind == MATRIX_V || it->kind == MATRIX_QKV
                                 ? catalog_i_value(c, matrix.layer)
                                 : 0;
            it->asked = recipe_type_of(recipe, &model, &matrix, o->is_pure);
            it->to = recipe_fit(it->asked, it->columns);
        }
        int rc = apply_rules(it, o, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

// Matrices that become something else lose the factor beside them: it goes into their values.
static void drop_factors(struct catalog *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const struct item *it = &c->items[i];
        size_t size = strlen(it->name);
        bool is_dropped = false;
        for (size_t k = 0; k < c->n && size > 6 && !is_dropped; k++) {
            const struct item *of = &c->items[k];
            if (of->factor == 1 || of->to == of->type ||
                strcmp(it->name + size - 6, ".scale") != 0) {
                continue;
            }
            size_t base = size - 6;
            is_dropped = strncmp(of->name, it->name, base) == 0 &&
                         (of->name[base] == 0 || strcmp(of->name + base, ".weight") == 0);
        }
        if (is_dropped) {
            continue;
        }
        c->items[n++] = c->items[i];
    }
    c->n = n;
}

int quantize_choose(struct catalog *c, const struct carat_quantize_options *options,
                    size_t n_grouped, uint64_t other_size, struct transcoder *t,
                    const struct recipe **recipe, struct carat_error *err)
{
    const char *type = options->type;
    uint64_t budget = 0;
    int rc = 0;
    *recipe = NULL;
    if (type && strncmp(type, "auto:", 5) == 0) {
        rc = parse_size(type + 5, &budget, err);
        rc = rc ? rc : quantize_choose_by_error(c, options, budget, other_size, t, err);
    } else if (type) {
        *recipe = recipe_find(type);
        rc = *recipe ? 0
                     : fail(err, CARAT_E_ARGUMENT,
                            "'%s' is no type to quantize to; 'Q4_K_M' is the usual one, and "
                            "'auto:SIZE' fits a size",
                            type);
    }
    rc = rc ? rc : apply_recipe(c, options, n_grouped, *recipe, err);
    if (rc == 0) {
        drop_factors(c);
    }
    return rc;
}
