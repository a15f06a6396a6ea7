// SPDX-License-Identifier: Apache-2.0
#include "base/base64.h"

#include "base/error.h"

#define PIECE 3072 // bytes that are appended together

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

// What may stand behind the first '=': no more than fills the group of four.
static bool ends_well(struct slice text, size_t at, unsigned n_held)
{
    unsigned n_padding = 0;
    for (; at < text.size; at++) {
        if (text.data[at] == '=') {
            n_padding++;
        } else if (!is_space(text.data[at])) {
            return false;
        }
    }
    return n_held >= 2 && n_held + n_padding == 4;
}

int base64_decode(struct buf *out, struct slice text, struct carat_error *err)
{
    unsigned char piece[PIECE];
    size_t n_piece = 0, at = 0;
    uint32_t bits = 0;
    unsigned n_held = 0; // letters of the group of four that have been seen
    for (; at < text.size && text.data[at] != '='; at++) {
        int value = value_of(text.data[at]);
        if (value < 0 && is_space(text.data[at])) {
            continue;
        }
        if (value < 0) {
            return fail(err, CARAT_E_FORMAT,
                        "base64: expected a letter of its alphabet, found byte 0x%02x at %zu",
                        (unsigned)(unsigned char)text.data[at], at);
        }
        bits = bits << 6 | (uint32_t)value;
        if (++n_held == 4) {
            piece[n_piece++] = (unsigned char)(bits >> 16);
            piece[n_piece++] = (unsigned char)(bits >> 8);
            piece[n_piece++] = (unsigned char)bits;
            n_held = 0;
        }
        if (n_piece == PIECE) {
            buf_add(out, piece, n_piece);
            n_piece = 0;
        }
    }
    if (n_held == 1 || (at < text.size && !ends_well(text, at, n_held))) {
        return fail(err, CARAT_E_FORMAT, "base64: expected groups of four letters, found %s",
                    n_held == 1 ? "one letter too many" : "something else behind the padding");
    }
    if (n_held > 0) {
        bits <<= 6 * (4 - n_held);
        piece[n_piece++] = (unsigned char)(bits >> 16);
        if (n_held == 3) {
            piece[n_piece++] = (unsigned char)(bits >> 8);
        }
    }
    buf_add(out, piece, n_piece);
    return buf_status(out, err);
}
