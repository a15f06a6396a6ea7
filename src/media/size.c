// SPDX-License-Identifier: Apache-2.0
// The size that a picture gets: as many whole blocks as the budget of soft tokens allows, sides in
// about the proportion they had. Formula and table: docs/media.md. It is the model's published
// image processor's, double by double.
#include "media/parts.h"

#include <math.h>

#include "base/error.h"

#define BLOCK_DEFAULT 48
#define BLOCK_MAX     1024

static const uint32_t budgets[] = {70, 140, 280, 560, 1120};
#define N_BUDGETS (sizeof(budgets) / sizeof(budgets[0]))

uint32_t size_block(uint32_t block)
{
    return block > 0 ? block : BLOCK_DEFAULT;
}

// The smallest budget that holds the picture's own pixels.
static uint32_t budget_for(uint64_t pixels, uint64_t block)
{
    for (size_t i = 0; i < N_BUDGETS; i++) {
        if (budgets[i] * block * block >= pixels) {
            return budgets[i];
        }
    }
    return budgets[N_BUDGETS - 1];
}

int size_check_options(uint32_t tokens, uint32_t block, struct carat_error *err)
{
    if (block > BLOCK_MAX) {
        return fail(err, CARAT_E_ARGUMENT,
                    "block of a picture: expected at most %d pixels, found "
                    "%u",
                    BLOCK_MAX, block);
    }
    if (tokens == 0) {
        return 0;
    }
    for (size_t i = 0; i < N_BUDGETS; i++) {
        if (budgets[i] == tokens) {
            return 0;
        }
    }
    return fail(err, CARAT_E_ARGUMENT,
                "soft tokens of a picture: expected 70, 140, 280, 560, 1120 "
                "or 0 for automatic, found %u",
                tokens);
}

// The side that is left when the other one has shrunk below one block.
static double long_side(uint32_t longer, uint32_t shorter, uint32_t tokens, uint32_t block)
{
    double side = (double)(longer / shorter) * block;
    double side_max = (double)tokens * block;
    return side < side_max ? side : side_max;
}

int carat_image_size(uint32_t *out_width, uint32_t *out_height, uint32_t width, uint32_t height,
                     uint32_t tokens, uint32_t block, struct carat_error *err)
{
    int rc = size_check_options(tokens, block, err);
    if (rc) {
        return rc;
    }
    if (width == 0 || height == 0) {
        return fail(err, CARAT_E_ARGUMENT, "expected a picture with sides above 0, found %u x %u",
                    width, height);
    }
    block = size_block(block);
    uint64_t pixels = (uint64_t)width * height;
    tokens = tokens > 0 ? tokens : budget_for(pixels, block);
    double target = (double)tokens * block * block;
    double factor = sqrt(target / (double)pixels);
    double h = floor(factor * height / block) * block;
    double w = floor(factor * width / block) * block;
    if (h == 0) {
        h = block;
        w = long_side(width, height, tokens, block);
    } else if (w == 0) {
        w = block;
        h = long_side(height, width, tokens, block);
    }
    if (h * w > target || h * w == 0) {
        return fail(err, CARAT_E_UNSUPPORTED, "a picture of %u x %u does not fit %u soft tokens",
                    width, height, tokens);
    }
    *out_width = (uint32_t)w;
    *out_height = (uint32_t)h;
    return 0;
}
