// SPDX-License-Identifier: Apache-2.0
// The operations as the model calls them: shapes are checked here, once for all devices, and the
// device at hand does the work. Memory errors of the caller end the program (require); what only
// gives wrong numbers is an assert.
#include "compute/device.h"

#include <assert.h>

#include "base/error.h"
#include "compute/device_ops.h"

void device_free(struct device *dev)
{
    if (dev) {
        dev->ops->free(dev);
    }
}

const char *device_level(const struct device *dev)
{
    return dev->ops->level(dev);
}

size_t device_threads(const struct device *dev)
{
    return dev->ops->threads(dev);
}

bool device_multiplies_int8(const struct device *dev, enum dtype type)
{
    return dev->ops->multiplies_int8(dev, type);
}

int device_wait(struct device *dev, struct carat_error *err)
{
    return dev->ops->wait(dev, err);
}

int device_reserve(struct device *dev, const struct device_limits *limits, struct carat_error *err)
{
    return dev->ops->reserve(dev, limits, err);
}

void *device_alloc(struct device *dev, size_t size, struct carat_error *err)
{
    return dev->ops->alloc(dev, size, err);
}

void device_release(struct device *dev, void *block)
{
    if (block) {
        dev->ops->release(dev, block);
    }
}

int device_new_weight(struct device *dev, struct weight *w, struct carat_error *err)
{
    require(!w->packed);
    return dev->ops->new_weight(dev, w, err);
}

void device_fill_weight(struct device *dev, const struct weight *w, size_t first, size_t n)
{
    require(w->packed);
    require(first <= w->rows && n <= w->rows - first);
    require(first % DEVICE_WEIGHT_ROWS == 0);
    require(n % DEVICE_WEIGHT_ROWS == 0 || first + n == w->rows);
    dev->ops->fill_weight(dev, w, first, n);
}

void device_free_weight(struct device *dev, struct weight *w)
{
    if (w->packed) {
        dev->ops->free_weight(dev, w);
        w->packed = NULL;
    }
}

struct tensor tensor_make(float *data, size_t rows, size_t columns)
{
    return (struct tensor){.data = data, .rows = rows, .columns = columns, .stride = columns};
}

struct tensor tensor_rows(struct tensor t, size_t first, size_t n)
{
    require(first <= t.rows);
    require(n <= t.rows - first);
    return (struct tensor){
        .data = t.data + first * t.stride, .rows = n, .columns = t.columns, .stride = t.stride};
}

static void require_same_shape(struct tensor a, struct tensor b)
{
    require(a.rows == b.rows);
    require(a.columns == b.columns);
}

void op_embed(struct device *dev, struct tensor out, const struct weight *w, const int32_t *tokens,
              float scale)
{
    require(out.columns == w->columns);
    require(w->packed);
    dev->ops->embed(dev, out, w, tokens, scale);
}

void op_norm(struct device *dev, struct tensor out, struct tensor x, const float *w, size_t group,
             float eps)
{
    require_same_shape(out, x);
    require(group > 0);
    require(x.columns % group == 0);
    dev->ops->norm(dev, out, x, w, group, eps);
}

void op_layer_norm(struct device *dev, struct tensor out, struct tensor x, const float *w,
                   const float *b, float eps)
{
    require_same_shape(out, x);
    require(w);
    require(b);
    dev->ops->layer_norm(dev, out, x, w, b, eps);
}

void op_linear(struct device *dev, const struct tensor *outs, struct tensor x,
               const struct weight *const *weights, size_t n)
{
    require(n <= OP_LINEAR_MAX);
    for (size_t i = 0; i < n; i++) {
        require(outs[i].rows == x.rows);
        require(outs[i].columns == weights[i]->rows);
        require(x.columns == weights[i]->columns);
        require(weights[i]->type < DTYPE_COUNT_COMPUTE);
        require(weights[i]->packed);
    }
    dev->ops->linear(dev, outs, x, weights, n);
}

void op_rope_table(struct device *dev, float *table, const float *inv_freq, size_t n_pairs,
                   size_t first, size_t n)
{
    dev->ops->rope_table(dev, table, inv_freq, n_pairs, first, n);
}

void op_rope(struct device *dev, struct tensor x, size_t head_dim, const float *table,
             size_t n_pairs)
{
    require(head_dim > 0);
    require(x.columns % head_dim == 0);
    require(n_pairs <= head_dim / 2);
    dev->ops->rope(dev, x, head_dim, table, n_pairs);
}

// The slots that a chunk of n rows from position first on will touch must exist.
static void require_kv(const struct kv_view *kv, size_t first, size_t n)
{
    require(kv->n_heads > 0);
    require(kv->head_dim > 0);
    require(kv->capacity > 0);
    if (kv->window > 0) {
        require(kv->recent_capacity >= n);
        // While a chunk is evaluated its first row still sees window - 1 older ones. A ring that is
        // shorter, because the context is, never turns.
        require(kv->capacity + 1 >= kv->window || first + n <= kv->capacity);
    } else {
        require(first <= kv->capacity);
        require(n <= kv->capacity - first);
    }
    if (!kv->keys) {
        require(kv->key_norm);
        require(kv->rope_table || kv->n_pairs == 0);
        require(kv->n_pairs <= kv->head_dim / 2);
    }
}

void op_kv_store(struct device *dev, const struct kv_view *kv, struct tensor k, struct tensor v,
                 size_t first)
{
    require_kv(kv, first, v.rows);
    require(v.columns == kv->n_heads * kv->head_dim);
    if (kv->keys) {
        require_same_shape(k, v);
    }
    dev->ops->kv_store(dev, kv, k, v, first);
}

void op_kv_commit(struct device *dev, const struct kv_view *kv, size_t first, size_t n)
{
    require_kv(kv, first, n);
    dev->ops->kv_commit(dev, kv, first, n);
}

void op_attend(struct device *dev, struct tensor out, struct tensor q, const struct kv_view *kv,
               size_t n_query_heads, size_t first, const size_t *ends)
{
    require_same_shape(out, q);
    require_kv(kv, first, q.rows);
    require(n_query_heads % kv->n_heads == 0);
    require(q.columns == n_query_heads * kv->head_dim);
    for (size_t i = 0; ends && i < q.rows; i++) {
        require(ends[i] > first + i && ends[i] <= first + q.rows);
    }
    dev->ops->attend(dev, out, q, kv, n_query_heads, first, ends);
}

void op_geglu(struct device *dev, struct tensor out, struct tensor gate, struct tensor up)
{
    require_same_shape(out, gate);
    require_same_shape(out, up);
    dev->ops->geglu(dev, out, gate, up);
}

void op_add(struct device *dev, struct tensor out, struct tensor a, struct tensor b, float scale)
{
    require_same_shape(out, a);
    require_same_shape(out, b);
    dev->ops->add(dev, out, a, b, scale);
}

void op_add_row(struct device *dev, struct tensor x, const float *row)
{
    require(row);
    dev->ops->add_row(dev, x, row);
}

void op_scale(struct device *dev, struct tensor x, float factor)
{
    dev->ops->scale(dev, x, factor);
}

void op_softcap(struct device *dev, struct tensor x, float cap)
{
    assert(cap > 0);
    dev->ops->softcap(dev, x, cap);
}
