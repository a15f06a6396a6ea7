// SPDX-License-Identifier: Apache-2.0
// The few operations on tiles of a matrix unit that kern_tile.c is written in: by AMX, or in plain
// C, which the tests compile instead, so that the kernel around them is checked on machines
// without such a unit. A product takes A [rows][k], signed bytes, B [k / 4][16][4], unsigned ones,
// and gives C [rows][16], exact sums in 32 bits.
#ifndef CARAT_COMPUTE_CPU_TILE_H
#define CARAT_COMPUTE_CPU_TILE_H

#include <stdint.h>
#include <string.h>

enum {
    TILE_ROWS = 16,     // at most
    TILE_BYTES = 64,    // in a row, at most
    TILE_C_STRIDE = 64, // bytes from a row of C to the next
    TILE_B_STRIDE = 64, // the same of B
    TILE_PEAK = 4,      // products in a round of tile_peak, which do not wait for each other
    TILE_C_INTS = 16,   // in a row
};

#if defined(TILE_TWIN)
struct tile_unit {
    size_t rows, k;
};

static inline void tile_begin(struct tile_unit *unit, size_t rows, size_t k)
{
    *unit = (struct tile_unit){rows, k};
}

static inline void tile_end(struct tile_unit *unit)
{
    *unit = (struct tile_unit){0, 0};
}

static inline void tile_product(const struct tile_unit *unit, int32_t *c, const int8_t *a,
                                size_t a_stride, const uint8_t *b)
{
    for (size_t r = 0; r < unit->rows; r++) {
        for (size_t i = 0; i < TILE_C_INTS; i++) {
            int32_t sum = 0;
            for (size_t k = 0; k < unit->k; k++) {
                sum += a[r * a_stride + k] * b[k / 4 * TILE_B_STRIDE + i * 4 + k % 4];
            }
            c[r * TILE_C_INTS + i] = sum;
        }
    }
}

static inline void tile_peak(const struct tile_unit *unit, int32_t *c, const int8_t *a,
                             const uint8_t *b, size_t n_rounds)
{
    for (size_t i = 0; i < n_rounds * TILE_PEAK; i++) {
        tile_product(unit, c, a, TILE_BYTES, b);
    }
}

#else
#include <immintrin.h>

// The form of the tiles as LDTILECFG takes it: palette 1 has eight tiles.
struct tile_unit {
    uint8_t palette;
    uint8_t start_row;
    uint8_t unused[14];
    uint16_t row_bytes[8];
    uint8_t unused_too[16];
    uint8_t rows[8];
    uint8_t unused_last[8];
};
_Static_assert(sizeof(struct tile_unit) == 64, "as the instruction reads it");

// Compilers do not know that the instructions below read what these pointers lead to.
static inline void tile_reads(const void *a, const void *b)
{
    __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
}

// Tile 0 is C, 1 is A, 2 is B, 3 to 5 are more of C for tile_peak.
static inline void tile_begin(struct tile_unit *unit, size_t rows, size_t k)
{
    *unit = (struct tile_unit){.palette = 1,
                               .row_bytes = {TILE_C_STRIDE, (uint16_t)k, TILE_B_STRIDE,
                                             TILE_C_STRIDE, TILE_C_STRIDE, TILE_C_STRIDE},
                               .rows = {(uint8_t)rows, (uint8_t)rows, (uint8_t)(k / 4),
                                        (uint8_t)rows, (uint8_t)rows, (uint8_t)rows}};
    tile_reads(unit, unit);
    _tile_loadconfig(unit);
}

static inline void tile_end(struct tile_unit *unit)
{
    (void)unit;
    _tile_release();
}

static inline void tile_product(const struct tile_unit *unit, int32_t *c, const int8_t *a,
                                size_t a_stride, const uint8_t *b)
{
    (void)unit;
    tile_reads(a, b);
    _tile_zero(0);
    _tile_loadd(1, a, a_stride);
    _tile_loadd(2, b, TILE_B_STRIDE);
    _tile_dpbsud(0, 1, 2);
    _tile_stored(0, c, TILE_C_STRIDE);
    tile_reads(c, c); // and writes
}

static inline void tile_peak(const struct tile_unit *unit, int32_t *c, const int8_t *a,
                             const uint8_t *b, size_t n_rounds)
{
    (void)unit;
    tile_reads(a, b);
    _tile_zero(0);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_loadd(1, a, TILE_BYTES);
    _tile_loadd(2, b, TILE_B_STRIDE);
    for (size_t i = 0; i < n_rounds; i++) {
        _tile_dpbsud(0, 1, 2);
        _tile_dpbsud(3, 1, 2);
        _tile_dpbsud(4, 1, 2);
        _tile_dpbsud(5, 1, 2);
    }
    _tile_stored(0, c, TILE_C_STRIDE);
    tile_reads(c, c);
}
#endif

#endif
