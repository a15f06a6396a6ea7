// SPDX-License-Identifier: Apache-2.0
// Slices, a buffer that grows to a stated maximum, UTF-8, and the bounds-checked cursor through
// which all bytes from outside are read.
#ifndef CARAT_BASE_STR_H
#define CARAT_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "carat.h"

// A borrowed run of bytes, not terminated.
struct slice {
    const char *data;
    size_t size;
};
struct slice slice_of(const char *text); // a terminated string; NULL gives an empty slice
struct slice slice_make(const char *data, size_t size);
bool slice_equal(struct slice a, struct slice b);
bool slice_is(struct slice a, const char *text);
bool slice_starts(struct slice a, const char *prefix);
bool slice_ends(struct slice a, const char *suffix);

// A buffer of bytes, always followed by a zero byte once something was put in. After a failed
// append (no memory, or more than max) it stays failed and further appends do nothing: append
// freely and ask once.
struct buf {
    char *data;      // NULL while empty
    size_t size;     // without the terminator
    size_t capacity; // bytes allocated
    size_t max;      // most bytes of content; 0: BUF_MAX_DEFAULT
    bool has_failed;
    bool is_full; // it failed because of max
};
#define BUF_MAX_DEFAULT ((size_t)1 << 30)
void buf_add(struct buf *b, const void *data, size_t size);
void buf_adds(struct buf *b, const char *text);
void buf_add_slice(struct buf *b, struct slice s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_add_utf8(struct buf *b, uint32_t code_point);
// The text as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD.
void buf_add_json(struct buf *b, const char *text, size_t size);
void buf_clear(struct buf *b); // empties it, keeps the memory and the failure off
int buf_status(const struct buf *b, struct carat_error *err); // 0, or CARAT_E_MEMORY / CARAT_E_FULL
char *buf_take(struct buf *b);             // the content, owned by the caller (mem_free)
const char *buf_text(const struct buf *b); // never NULL
void buf_release(struct buf *b);

// Looks at one UTF-8 sequence at the start of data[0..size). Returns its length (1..4) and stores
// the code point; 0 when the bytes are a true beginning that needs more bytes; a negative number
// -n when the first n bytes are a maximal invalid part (Unicode 15, table 3-7), to be replaced by
// one U+FFFD.
int utf8_next(const char *data, size_t size, uint32_t *code_point);
size_t utf8_put(char out[4], uint32_t code_point); // length; surrogates and > 0x10FFFF: U+FFFD
bool utf8_is_valid(const char *data, size_t size);
// Python's str.isspace, which Jinja's trim and str.strip use.
bool unicode_is_space(uint32_t code_point);
struct slice utf8_trim(struct slice s); // both ends, by unicode_is_space

// A reader over bytes from outside, little-endian. After the first read past the end it gives
// zeros and stays failed, so a parser reads straight and asks once.
struct cursor {
    const uint8_t *data;
    size_t size;
    size_t at; // offset of the next byte
    bool has_failed;
};
struct cursor cursor_make(const void *data, size_t size);
size_t cursor_left(const struct cursor *c);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
float cursor_f32(struct cursor *c);
double cursor_f64(struct cursor *c);
const void *cursor_bytes(struct cursor *c, uint64_t size); // NULL when failed
void cursor_skip(struct cursor *c, uint64_t size);

#endif
