// SPDX-License-Identifier: Apache-2.0
// What a device can do: memory, and the operations a decoder is written in. The model calls op_*;
// a device carries them out at once (CPU) or records them. Operations return nothing: shapes were
// checked when the run was planned, and a device keeps its first failure for device_wait.
//
// All activations are f32. A row's value depends on that row alone: not on how many rows are
// computed together, on threads, or on where a chunk begins.
#ifndef CARAT_COMPUTE_DEVICE_H
#define CARAT_COMPUTE_DEVICE_H

#include "carat.h"
#include "formats/dtype.h"

struct device;

struct device_options {
    size_t n_threads; // 0: one per usable core
    enum carat_activations activations;
};

int device_new_cpu(struct device **out, const struct device_options *options,
                   struct carat_error *err);
void device_free(struct device *dev);               // takes NULL
const char *device_level(const struct device *dev); // kernels in use: "avx2", ...
size_t device_threads(const struct device *dev);
// Whether op_linear multiplies weights of this type in int8; else in float.
bool device_multiplies_int8(const struct device *dev, enum dtype type);
// The first failure since the last call, or 0; waits until everything is done.
int device_wait(struct device *dev, struct carat_error *err);

// Scratch the operations need besides their operands. Must be reserved before the first op; ops
// never allocate. Reserving more than before grows it.
struct device_limits {
    size_t rows_max;    // rows of x in one op_linear
    size_t columns_max; // columns of x in one op_linear
    size_t head_dim_max;
    size_t heads_max; // query heads of one op_attend
    size_t keys_max;  // longest context (full layers)
};
size_t device_scratch_size(const struct device_limits *limits, size_t n_threads);
int device_reserve(struct device *dev, const struct device_limits *limits, struct carat_error *err);

// Memory for activations and caches, zeroed lazily: untouched pages cost nothing.
void *device_alloc(struct device *dev, size_t size, struct carat_error *err);
void device_release(struct device *dev, void *block); // takes NULL

// A view of activations: row i begins at data + i * stride. [rows, columns]
struct tensor {
    float *data;
    size_t rows;
    size_t columns;
    size_t stride; // in floats, >= columns
};
struct tensor tensor_make(float *data, size_t rows, size_t columns); // contiguous
struct tensor tensor_rows(struct tensor t, size_t first, size_t n);

// A matrix. Computes y = x W^T. The operations read the device's own copy, in the order that its
// products want, which is as large as the rows in the file; those are not needed any more then.
struct weight {
    enum dtype type;
    const uint8_t *data; // as stored in the file: row r is at data + r * row_size
    size_t rows;         // outputs
    size_t columns;      // inputs
    size_t row_size;     // bytes
    uint8_t *packed;     // the device's; NULL before device_new_weight
    size_t strip_size;   // bytes of 16 packed rows
};
// Bytes that the device's copy takes.
uint64_t device_weight_size(const struct weight *w);
// Makes room for the device's copy of w. Freed by device_free_weight.
int device_new_weight(struct device *dev, struct weight *w, struct carat_error *err);
// Copies rows [first, first + n) of w->data, with first a multiple of DEVICE_WEIGHT_ROWS, and n too
// unless they are the last ones.
#define DEVICE_WEIGHT_ROWS 16
void device_fill_weight(struct device *dev, const struct weight *w, size_t first, size_t n);
void device_free_weight(struct device *dev, struct weight *w); // takes one without a copy

// out[i] = scale * row tokens[i] of w. [n, w.columns]
void op_embed(struct device *dev, struct tensor out, const struct weight *w, const int32_t *tokens,
              float scale);

// RMSNorm of each group of `group` columns (group = columns: the whole row; head_dim: per head):
// out = x / sqrt(mean(x^2) + eps) * w. w [group] may be NULL: then no weight. out may be x.
// model.md section 1.1.
void op_norm(struct device *dev, struct tensor out, struct tensor x, const float *w, size_t group,
             float eps);

// LayerNorm of each row: out = (x - mean) / sqrt(variance + eps) * w + b, the variance without
// Bessel's correction. w, b [columns]. out may be x.
void op_layer_norm(struct device *dev, struct tensor out, struct tensor x, const float *w,
                   const float *b, float eps);

// outs[i] = x weights[i]^T for n weights that share their input. outs must not overlap x.
#define OP_LINEAR_MAX 4
void op_linear(struct device *dev, const struct tensor *outs, struct tensor x,
               const struct weight *const *weights, size_t n);

// Rotation tables: cos and sin of position * inv_freq[i], angles in f32. table
// [n, n_pairs, 2] for positions first .. first + n - 1.
void op_rope_table(struct device *dev, float *table, const float *inv_freq, size_t n_pairs,
                   size_t first, size_t n);
// Rotates each head of x in place: pair i couples elements i and i + head_dim / 2, for i < n_pairs;
// the other elements stay. Row r uses table row r. model.md section 1.3.
void op_rope(struct device *dev, struct tensor x, size_t head_dim, const float *table,
             size_t n_pairs);

// One layer's kv cache as operations see it. Rows of head_dim values in `type` (F32, F16, Q8_0),
// each head's rows contiguous: head h, slot s at base + (h * capacity + s) * row_size. Position p
// is in slot p % capacity. While a chunk of n tokens is evaluated, a ring's (window > 0) new rows
// are kept in recent_* (slot i = i-th token of the chunk) and enter the ring afterwards, so that
// the first token of a chunk still finds the keys that the last one pushes out.
struct kv_view {
    enum dtype type;
    size_t row_size;
    size_t n_heads;
    size_t head_dim;
    size_t capacity;
    size_t window; // 0: no window, and capacity is the context
    uint8_t *keys; // NULL: a key is rebuilt as rope(value * key_norm), model.md section 4.1
    uint8_t *values;
    uint8_t *recent_keys; // [n_heads][recent_capacity] rows; only when window > 0
    uint8_t *recent_values;
    size_t recent_capacity;
    const float *key_norm;   // [head_dim], only when keys is NULL
    const float *rope_table; // [capacity, n_pairs, 2] by position, only when keys is NULL
    size_t n_pairs;
};
// Stores k (rotated; ignored when keys is NULL) and v of a chunk that begins at position first.
// k, v: [n, n_heads * head_dim].
void op_kv_store(struct device *dev, const struct kv_view *kv, struct tensor k, struct tensor v,
                 size_t first);
// Moves the chunk's rows from recent_* into the ring. Nothing to do when window is 0.
void op_kv_commit(struct device *dev, const struct kv_view *kv, size_t first, size_t n);
// Attention for a chunk whose rows were stored: query row i is at position first + i and sees
// positions j < ends[i], and j > first + i - window where there is a window. ends [n], each above
// first + i and at most first + n, says how far a row looks ahead (model.md section 4.4); NULL:
// causal, first + i + 1. Scores are plain dot products (scale 1); query head h reads kv head
// h / (n_query_heads / n_heads). Softmax in f32. q, out: [n, n_query_heads * head_dim].
void op_attend(struct device *dev, struct tensor out, struct tensor q, const struct kv_view *kv,
               size_t n_query_heads, size_t first, const size_t *ends);

// out = gelu_tanh(gate) * up, model.md section 1.2. out may be gate.
void op_geglu(struct device *dev, struct tensor out, struct tensor gate, struct tensor up);
// out = (a + b) * scale. out may be a.
void op_add(struct device *dev, struct tensor out, struct tensor a, struct tensor b, float scale);
// x = x + row in every row, in place. row [columns]
void op_add_row(struct device *dev, struct tensor x, const float *row);
// x = x * factor, in place.
void op_scale(struct device *dev, struct tensor x, float factor);
// x = cap * tanh(x / cap), in place.
void op_softcap(struct device *dev, struct tensor x, float cap);

#endif
