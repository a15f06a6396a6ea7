// SPDX-License-Identifier: Apache-2.0
// The kernels of the CPU device as a table of functions, filled with generic C first and then level
// by level. Every level gives the same bits: the order of additions is part of what a kernel
// means, and docs/kernels.md defines it. A product is taken in strips of 16 outputs, one per lane,
// and each lane adds along the columns in order.
#ifndef CARAT_COMPUTE_CPU_KERN_H
#define CARAT_COMPUTE_CPU_KERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/dtype.h"

enum {
    KERN_LANES = 16,     // outputs per strip
    KERN_BLOCK = 32,     // columns that share one scale of an int8 activation
    KERN_PANEL_MAX = 16, // most activation rows in a panel
    KERN_FEW_ROWS = 16,  // of x, at most, where memory limits: see rows_q8
    KERN_F32_STRIPS = 4, // strips that one row of x meets together: see rows_f32
    KERN_KEYS = 64,      // keys per block of attention, aligned to absolute positions
    KERN_FEW_MAX = 8,    // most query rows in attention without a strip of queries
};

// How the codes of a quantized type stand for weights: weight = scale * (code - zero) + min, with
// one scale (and min) per sub-block of a row.
struct kern_coding {
    uint8_t zero_shift; // zero = 1 << zero_shift, or no zero when 255
    uint8_t sub_block;  // 16 or 32 columns; 0: this type is only multiplied in float
    bool has_min;
    uint8_t run;      // columns of a row whose products, two by two, add up in 16 bits: 4 of codes
                      // above 63, 8, or the whole sub-block
    uint8_t loose_at; // where a block has bytes that make no whole word,
    uint8_t loose_size; // and how many: 0, 1 or 2
};
enum { KERN_NO_ZERO = 255 };
extern const struct kern_coding kern_codings[DTYPE_COUNT_COMPUTE];

// 16 rows as stored: row r begins at data + r * stride.
struct strip_source {
    const uint8_t *data;
    size_t stride; // bytes
};

// Weights stand in memory as packed strips: 16 rows, block by block; of a block first the loose
// bytes of all rows, then its 32-bit words in order, each 16 times, once per row. A packed strip
// has as many bytes as the rows in the file, but for rows of no whole number of words, which are
// filled up with zeros. F32, F16 and BF16 have one word per block here.
struct kern_packing {
    size_t values;     // of a block
    size_t size;       // bytes of a block of one row
    size_t loose_at;   // see struct kern_coding
    size_t loose_size; // the rest are words
};
struct kern_packing kern_packing_of(enum dtype type);
// Bytes of a packed strip with rows of n values; false when that overflows.
bool kern_strip_size(size_t *out, enum dtype type, size_t n);
// Packs n_rows (1 .. 16) rows of n values; a strip with fewer than 16 repeats the last one.
void kern_pack_strip(uint8_t *strip, struct strip_source from, size_t n_rows, size_t n,
                     enum dtype type);
// Columns [first, first + n), whole blocks, of one row back as they were stored. first and n are
// even where two values share a word, or n ends the row.
void kern_packed_row(uint8_t *row, const uint8_t *strip, size_t lane, size_t first, size_t n,
                     enum dtype type);

// How a level's dot_q8 wants its operands to stand. unit: columns of a row that follow each other.
struct kern_order {
    uint8_t strip_unit; // 4 or 8
    uint8_t panel_unit; // 4, 8 or 32
    bool strip_signed;  // the codes of a strip are signed bytes, with the zero taken off
};

// 16 rows of weights as codes. scale and min have 16 floats per sub-block.
struct code_strip {
    uint8_t *codes; // [columns / unit][16][unit]
    float *scale;   // [columns / sub_block][16]
    float *min;     // the same; untouched without minima
    struct kern_order order;
};

// Where the code of column k of a strip's row is.
static inline size_t kern_code_at(struct kern_order order, size_t k, size_t lane)
{
    const size_t unit = order.strip_unit;
    return (k / unit * KERN_LANES + lane) * unit + k % unit;
}

// Rows of activations as int8, interleaved: n_rows (1 .. panel_rows) rows make a panel. One of a
// single row is the same in every order.
struct panel {
    int8_t *codes;     // [columns / unit][n_rows][unit], -127 .. 127
    float *scale;      // [columns / 32][n_rows]
    int32_t *minus_16; // [columns / 16][n_rows]: minus the sum of the codes
    int32_t *minus_32; // [columns / 32][n_rows]
    float *sum_16;     // [columns / 16][n_rows]: the sum of the codes, times scale
    float *sum_32;     // [columns / 32][n_rows]
    size_t n_rows;
    struct kern_order order;
};

// Where a strip's sums stand: row r, lanes at data + r * stride.
struct acc {
    float *data;
    size_t stride;
    bool is_fresh; // begin at zero instead of at what is there
};

// The running softmax of one query: begins with max at -inf.
struct kern_softmax {
    float max;
    float sum; // of exp(score - max)
};

// Rows of floats: row r begins at data + r * stride.
struct f32_rows {
    const float *data;
    size_t stride; // in floats
};

struct kern {
    const char *name;
    size_t panel_rows; // rows in a full panel
    struct kern_order order;

    // Element by element. n may be anything.
    void (*norm)(float *out, const float *x, const float *w, size_t n, float eps); // w may be NULL
    void (*layer_norm)(float *out, const float *x, const float *w, const float *b, size_t n,
                       float eps);
    void (*geglu)(float *out, const float *gate, const float *up, size_t n);
    void (*add)(float *out, const float *a, const float *b, size_t n, float scale);
    void (*scale)(float *x, size_t n, float factor);
    void (*softcap)(float *x, size_t n, float cap);
    void (*rope)(float *x, const float *table, size_t n_pairs, size_t half);
    // Scores s [n], n a multiple of 16 and -inf where masked, become exp(s - m), with m the larger
    // of state->max and the largest score. state takes them in. Returns exp(old max - m), by which
    // what was accumulated before has to be multiplied. With nothing visible so far s becomes
    // zeros.
    float (*softmax)(float *s, size_t n, struct kern_softmax *state);
    // Takes the sums b [n] and their state into a. An empty b changes nothing.
    void (*merge)(float *a, struct kern_softmax *a_state, const float *b,
                  const struct kern_softmax *b_state, size_t n);

    // Attention. Keys and values are rows as stored, F32, F16 or Q8_0. Sums are taken as in float
    // products: a score's along the elements, a value's along the keys.
    //
    // Many query rows: sixteen make a strip, [n][16]. first, n, n_pairs and half are multiples of
    // 16 unless keys and values are F32. turn makes a strip of 16 rows of n numbers.
    void (*turn)(float *strip, const float *rows, size_t stride, size_t n);
    // The turned part of keys that are made from values: elements 0 .. n_pairs - 1 and half ..
    // half + n_pairs - 1 of rope(value * norm), one after the other. table has a row for each key.
    void (*rebuild_keys[DTYPE_COUNT_COMPUTE])(float *out, size_t stride, struct strip_source values,
                                              size_t n_keys, const float *norm, const float *table,
                                              size_t n_pairs, size_t half, enum dtype type);
    // scores [n_keys][16] = (is_fresh ? 0 : scores) + query [n][16] * elements [first, first + n)
    // of each key.
    void (*strip_scores[DTYPE_COUNT_COMPUTE])(float *scores, const float *queries,
                                              struct strip_source keys, size_t n_keys, size_t first,
                                              size_t n, bool is_fresh, enum dtype type);
    // softmax of each lane of s [n][16], n <= KERN_KEYS; states and factors [16].
    void (*strip_softmax)(float *s, size_t n, struct kern_softmax *states, float *factors);
    // sums [n_rows][n] = sums * factor of the row, then plus value * weight of each key. weights
    // [n_keys][16], n_rows <= 16.
    void (*strip_values[DTYPE_COUNT_COMPUTE])(struct acc sums, const float *factors,
                                              const float *weights, struct strip_source values,
                                              size_t n_rows, size_t n_keys, size_t n,
                                              enum dtype type);
    // n_rows <= KERN_FEW_MAX query rows: scores [n_rows] x 16 keys, weights [n_rows] x n_keys.
    void (*few_scores[DTYPE_COUNT_COMPUTE])(struct acc scores, struct strip_source keys,
                                            struct f32_rows queries, size_t n_rows, size_t n,
                                            enum dtype type);
    void (*few_values[DTYPE_COUNT_COMPUTE])(struct acc sums, const float *factors,
                                            struct f32_rows weights, struct strip_source values,
                                            size_t n_rows, size_t n_keys, size_t n,
                                            enum dtype type);

    // A row of n values to f32.
    void (*unpack[DTYPE_COUNT_COMPUTE])(float *out, const void *row, size_t n);

    // Packs 16 rows of n values, as kern_pack_strip does.
    void (*pack_strip)(uint8_t *strip, struct strip_source from, size_t n, enum dtype type);

    // Float products. strip [n][16] from a packed strip of n values per row.
    void (*strip_f32[DTYPE_COUNT_COMPUTE])(float *strip, const uint8_t *packed, size_t n,
                                           enum dtype type);
    // For each of n_rows rows of x: acc lanes += strip[k][lane] * x[k], k in order, fused. strip
    // row k is at strip + k * strip_stride.
    void (*dot_f32)(struct acc acc, const float *strip, size_t strip_stride, const float *x,
                    size_t x_stride, size_t n_rows, size_t n);

    // strip_f32 and dot_f32 in one, for at most KERN_FEW_ROWS rows of x: n_strips (1 or
    // KERN_F32_STRIPS) packed strips, strip_size bytes apart, whose lanes follow each other in acc.
    // NULL where there is nothing faster.
    void (*rows_f32[DTYPE_COUNT_COMPUTE])(struct acc acc, const uint8_t *packed, size_t strip_size,
                                          size_t n_strips, struct f32_rows x, size_t n_rows,
                                          size_t n, enum dtype type);

    // Int8 products; n is a multiple of 32 (and of the type's block).
    void (*strip_q8[DTYPE_COUNT_COMPUTE])(struct code_strip strip, const uint8_t *packed, size_t n,
                                          enum dtype type);
    // x [n_rows, n] with row stride to a panel of n_rows.
    void (*pack)(struct panel panel, const float *x, size_t x_stride, size_t n);
    void (*dot_q8)(struct acc acc, struct code_strip strip, struct panel panel,
                   const struct kern_coding *coding, size_t n);
    // Multiply-adds that run as fast as the level's instructions can, n_rounds times: how many that
    // were. sink takes 64 bytes of what was computed. NULL in plain C.
    uint64_t (*peak_q8)(uint8_t *sink, size_t n_rounds);
    uint64_t (*peak_f32)(uint8_t *sink, size_t n_rounds);
    // Reads size bytes, a multiple of 256, in order and does nothing with them.
    void (*peak_read)(uint8_t *sink, const uint8_t *data, size_t size);

    // strip_q8 and dot_q8 in one for at most KERN_FEW_ROWS rows: x has a panel for each. NULL where
    // there is nothing faster.
    void (*rows_q8[DTYPE_COUNT_COMPUTE])(struct acc acc, const uint8_t *packed,
                                         const struct panel *x, size_t n_rows, size_t n,
                                         enum dtype type);
};

void kern_init_generic(struct kern *k);
// Those that were built; each expects a table that a lower level has filled.
void kern_init_avx2(struct kern *k);
void kern_init_q8_avxvnni(struct kern *k); // both onto avx2
void kern_init_strip_avxvnni(struct kern *k);
void kern_init_avx512(struct kern *k);
void kern_init_avx512vnni(struct kern *k);
void kern_init_avx512amx(struct kern *k); // onto avx512vnni
void kern_init_neon(struct kern *k);
void kern_init_neondot(struct kern *k);
void kern_init_neoni8mm(struct kern *k);

#endif
