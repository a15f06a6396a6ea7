// SPDX-License-Identifier: Apache-2.0
// Int8 products of many rows on a matrix unit (tile.h): a strip's codes stand in memory as the
// unit's B, a panel that keeps 32 columns of a row together as its A. One product covers a
// sub-block, since each has its own scale; what follows it, scales and sums in float, is done in
// the vectors of simd.h in the order that docs/kernels.md defines. Everything else of such a level
// is another level's.
#include "compute/cpu/simd.h"

#include "compute/cpu/tile.h"

_Static_assert((int)TILE_ROWS == (int)KERN_PANEL_MAX, "a full panel fills a tile");
_Static_assert((int)TILE_C_INTS == (int)KERN_LANES, "so does a strip");

// Numbers of one sub-block, one per row; those of rows that are not there stay zero.
struct row_numbers {
    float scale[TILE_ROWS];
    float sum[TILE_ROWS];
    int32_t minus[TILE_ROWS];
};

// Sums of a tile's rows of SIMD_LANES lanes.
struct sums {
    vf row[TILE_ROWS];
};

SIMD_INLINE void add_product(struct sums *sums, const int32_t *product, const struct row_numbers *x,
                             vf scale, vf min, const bool has_min)
{
#pragma GCC unroll 16
    for (size_t r = 0; r < TILE_ROWS; r++) {
        vi isum = vi_load(product + r * TILE_C_INTS);
        if (!has_min) {
            isum = vi_add(isum, vi_set1((uint32_t)x->minus[r]));
        }
        const vf both = vf_mul(scale, vf_set1(x->scale[r]));
        sums->row[r] = vf_fma(vf_from_vi(isum), both, sums->row[r]);
        if (has_min) {
            sums->row[r] = vf_fma(min, vf_set1(x->sum[r]), sums->row[r]);
        }
    }
}

SIMD_INLINE void copy_numbers(struct row_numbers *x, const float *scale, const float *sum,
                              const int32_t *minus, size_t n, int32_t zero, const bool has_min)
{
    for (size_t r = 0; r < n; r++) {
        x->scale[r] = scale[r];
        if (has_min) {
            x->sum[r] = sum[r];
        } else {
            x->minus[r] = zero * minus[r];
        }
    }
}

SIMD_INLINE void read_numbers(struct row_numbers *x, struct panel panel, size_t b, int32_t zero,
                              const size_t sub_block, const bool has_min)
{
    const size_t n = panel.n_rows;
    const int32_t *minus = (sub_block == 16 ? panel.minus_16 : panel.minus_32) + b * n;
    const float *sum = (sub_block == 16 ? panel.sum_16 : panel.sum_32) + b * n;
    const float *scale = panel.scale + b * sub_block / KERN_BLOCK * n;
    if (n == TILE_ROWS) {
        copy_numbers(x, scale, sum, minus, TILE_ROWS, zero, has_min); // a vector of each
    } else {
        copy_numbers(x, scale, sum, minus, n, zero, has_min);
    }
}

SIMD_INLINE void dot_tiles(struct acc acc, struct code_strip strip, struct panel panel, size_t n,
                           int32_t zero, const size_t sub_block, const bool has_min)
{
    struct sums sums[SIMD_PARTS];
    struct row_numbers x = {0};
    int32_t product[TILE_ROWS * TILE_C_INTS] = {0};
    struct tile_unit unit;
#pragma GCC unroll 16
    for (size_t r = 0; r < TILE_ROWS; r++) {
#pragma GCC unroll 2
        for (size_t part = 0; part < SIMD_PARTS; part++) {
            const bool is_there = !acc.is_fresh && r < panel.n_rows;
            sums[part].row[r] =
                is_there ? vf_load(acc.data + r * acc.stride + part * SIMD_LANES) : vf_set1(0.0f);
        }
    }
    tile_begin(&unit, panel.n_rows, sub_block);
    for (size_t b = 0; b < n / sub_block; b++) {
        const size_t k = b * sub_block;
        const int8_t *a = panel.codes + k / KERN_BLOCK * KERN_BLOCK * panel.n_rows + k % KERN_BLOCK;
        tile_product(&unit, product, a, KERN_BLOCK, strip.codes + k * KERN_LANES);
        read_numbers(&x, panel, b, zero, sub_block, has_min);
#pragma GCC unroll 2
        for (size_t part = 0; part < SIMD_PARTS; part++) {
            const size_t lane = b * KERN_LANES + part * SIMD_LANES;
            const vf min = has_min ? vf_load(strip.min + lane) : vf_set1(0.0f);
            add_product(&sums[part], product + part * SIMD_LANES, &x, vf_load(strip.scale + lane),
                        min, has_min);
        }
    }
    tile_end(&unit);
#pragma GCC unroll 16
    for (size_t r = 0; r < TILE_ROWS; r++) {
#pragma GCC unroll 2
        for (size_t part = 0; part < SIMD_PARTS; part++) {
            if (r < panel.n_rows) {
                vf_store(acc.data + r * acc.stride + part * SIMD_LANES, sums[part].row[r]);
            }
        }
    }
}

static void dot_q8(struct acc acc, struct code_strip strip, struct panel panel,
                   const struct kern_coding *coding, size_t n)
{
    const int32_t zero = coding->zero_shift == KERN_NO_ZERO ? 0 : 1 << coding->zero_shift;
    if (coding->sub_block == 16 && coding->has_min) {
        dot_tiles(acc, strip, panel, n, zero, 16, true);
    } else if (coding->sub_block == 16) {
        dot_tiles(acc, strip, panel, n, zero, 16, false);
    } else if (coding->has_min) {
        dot_tiles(acc, strip, panel, n, zero, 32, true);
    } else {
        dot_tiles(acc, strip, panel, n, zero, 32, false);
    }
}

// As fast as the unit is: whole tiles, and nothing read in between.
static uint64_t peak_q8(uint8_t *sink, size_t n_rounds)
{
    const int8_t a[TILE_ROWS * TILE_BYTES] = {1, 2, 3};
    const uint8_t b[TILE_ROWS * TILE_B_STRIDE] = {1, 2, 3};
    int32_t c[TILE_ROWS * TILE_C_INTS];
    struct tile_unit unit;
    tile_begin(&unit, TILE_ROWS, TILE_BYTES);
    tile_peak(&unit, c, a, b, n_rounds);
    tile_end(&unit);
    memcpy(sink, c, 64);
    return (uint64_t)n_rounds * TILE_PEAK * TILE_ROWS * TILE_C_INTS * TILE_BYTES;
}

// Onto a table that another level has filled.
void KERN_INIT_TILE(struct kern *k)
{
    k->name = KERN_NAME;
    k->panel_rows = TILE_ROWS;
    k->order = (struct kern_order){.strip_unit = 4, .panel_unit = KERN_BLOCK};
    k->dot_q8 = dot_q8;
    k->peak_q8 = peak_q8;
}
