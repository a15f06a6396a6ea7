// SPDX-License-Identifier: Apache-2.0
// The best mix under a budget. For each matrix and type the error is measured on a sample of rows,
// as a share of the matrix's energy, both weighted by importance: what the products with it lose.
// Of these pairs of bytes and error only those on the lower convex hull are worth taking; from the
// smallest ones the matrix is improved next that gains most per byte. docs/quantize.md.
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "model/quantize.h"

// From small to large.
static const enum dtype ladder[] = {DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_IQ4_XS, DTYPE_IQ4_NL, DTYPE_Q4_K,
                                    DTYPE_Q5_K, DTYPE_Q5_1, DTYPE_Q6_K,   DTYPE_Q8_0,   DTYPE_BF16};
#define LADDER_MAX (sizeof(ladder) / sizeof(ladder[0]))

struct point {
    enum dtype type;
    uint64_t size;
    double error;
};
struct curve {
    struct point points[LADDER_MAX + 1]; // the hull, from small to large
    size_t n;
    size_t at; // the one taken
};

static int compare_points(const void *a, const void *b)
{
    const struct point *x = a;
    const struct point *y = b;
    if (x->size != y->size) {
        return x->size < y->size ? -1 : 1;
    }
    return x->error < y->error ? -1 : x->error > y->error;
}

static double slope(const struct point *a, const struct point *b)
{
    return (a->error - b->error) / (double)(b->size - a->size);
}

// Keeps the points from which every step to the next gains less per byte than the one before.
static void make_hull(struct curve *c)
{
    size_t n = 0;
    qsort(c->points, c->n, sizeof(c->points[0]), compare_points);
    for (size_t i = 0; i < c->n; i++) {
        struct point p = c->points[i];
        if (n > 0 && (p.error >= c->points[n - 1].error || p.size == c->points[n - 1].size)) {
            continue;
        }
        while (n > 1 &&
               slope(&c->points[n - 2], &c->points[n - 1]) <= slope(&c->points[n - 1], &p)) {
            n--;
        }
        c->points[n++] = p;
    }
    c->n = n;
}

// Bytes per value decide whether a type is worth looking at: nothing is gained by types larger than
// the one the matrix has.
static bool is_worthwhile(const struct item *it, enum dtype type)
{
    return it->columns % dtypes[type].block_values == 0 && dtypes[type].pack &&
           item_size_as(it, type) <= item_size_as(it, it->type) && type != it->type;
}

static int measure(struct curve *c, const struct item *it, double weight,
                   const struct carat_quantize_options *o, struct transcoder *t,
                   struct carat_error *err)
{
    struct column_importance importance;
    struct transcode_sum sum;
    int rc = importance_for(&importance, o->importance, it, err);
    for (size_t i = 0; rc == 0 && i < LADDER_MAX; i++) {
        if (!is_worthwhile(it, ladder[i])) {
            continue;
        }
        transcode_measure(t, it, importance, ladder[i], &sum);
        double share = sum.energy > 0 ? sum.error / sum.energy : 0;
        c->points[c->n++] = (struct point){ladder[i], item_size_as(it, ladder[i]), share * weight};
    }
    // What it has, which costs no error.
    c->points[c->n++] = (struct point){it->type, item_size_as(it, it->type), 0};
    make_hull(c);
    return rc;
}

static bool makes_logits(const struct item *it, bool has_head)
{
    return it->kind == MATRIX_HEAD || (it->kind == MATRIX_EMBED && !has_head);
}

static int measure_all(struct curve *curves, const struct catalog *c,
                       const struct carat_quantize_options *o, struct transcoder *t,
                       struct carat_error *err)
{
    // The matrix that makes the logits stands behind all layers, and what each of them adds is a
    // part of what it reads: an error in it alone weighs as much as the same one in all others.
    // (Measured on the demonstration model and a fixture: docs/quantize.md.)
    bool has_head = catalog_model(c, 1).has_head;
    uint64_t done = 0;
    uint64_t total = 0;
    for (size_t i = 0; i < c->n; i++) {
        total += c->items[i].is_matrix;
    }
    for (size_t i = 0; i < c->n; i++) {
        const struct item *it = &c->items[i];
        if (!it->is_matrix) {
            continue;
        }
        double weight = makes_logits(it, has_head) && total > 1 ? (double)(total - 1) : 1;
        int rc = measure(&curves[i], it, weight, o, t, err);
        if (rc) {
            return rc;
        }
        source_drop(it->source, it->data, (size_t)it->size);
        if (t->on_progress && !t->on_progress(t->user, "measuring matrices", ++done, total)) {
            return fail(err, CARAT_E_STOPPED, "stopped");
        }
    }
    return 0;
}

// The curve whose next step gains most per byte and fits into what is left; NULL: none.
static struct curve *best_step(struct curve *curves, size_t n, uint64_t left)
{
    struct curve *best = NULL;
    double best_gain = 0;
    for (size_t i = 0; i < n; i++) {
        struct curve *c = &curves[i];
        if (c->at + 1 >= c->n || c->points[c->at + 1].size - c->points[c->at].size > left) {
            continue;
        }
        double gain = slope(&c->points[c->at], &c->points[c->at + 1]);
        if (!best || gain > best_gain) {
            best = c;
            best_gain = gain;
        }
    }
    return best;
}

int quantize_choose_by_error(struct catalog *c, const struct carat_quantize_options *options,
                             uint64_t budget, uint64_t other_size, struct transcoder *t,
                             struct carat_error *err)
{
    struct curve *curves = mem_new_array(c->n + 1, sizeof(*curves), err);
    uint64_t taken = other_size;
    int rc = curves ? measure_all(curves, c, options, t, err) : CARAT_E_MEMORY;
    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        const struct item *it = &c->items[i];
        // Tensors begin at multiples of the alignment.
        taken += GGUF_ALIGNMENT_DEFAULT +
                 (curves[i].n > 0 ? curves[i].points[0].size : item_size_as(it, it->to));
    }
    if (rc == 0 && taken > budget) {
        rc =
            fail(err, CARAT_E_ARGUMENT,
                 "%s: the smallest mix of this model takes %llu bytes: give at least "
                 "auto:%.1fMB",
                 options->type, (unsigned long long)taken, (double)((taken + 99999) / 100000) / 10);
    }
    for (struct curve *next = NULL;
         rc == 0 && (next = best_step(curves, c->n, budget - taken)) != NULL; next->at++) {
        taken += next->points[next->at + 1].size - next->points[next->at].size;
    }
    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        if (curves[i].n > 0) {
            c->items[i].to = c->items[i].asked = curves[i].points[curves[i].at].type;
        }
    }
    mem_free(curves);
    return rc;
}
