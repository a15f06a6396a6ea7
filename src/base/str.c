// SPDX-License-Identifier: Apache-2.0
// Slices, buffers, UTF-8 and the cursor.
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

struct slice slice_of(const char *text)
{
    return (struct slice){.data = text, .size = text ? strlen(text) : 0};
}

struct slice slice_make(const char *data, size_t size)
{
    return (struct slice){.data = data, .size = size};
}

bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool slice_is(struct slice a, const char *text)
{
    return slice_equal(a, slice_of(text));
}

bool slice_starts(struct slice a, const char *prefix)
{
    size_t size = strlen(prefix);
    return size <= a.size && slice_equal(slice_make(a.data, size), slice_make(prefix, size));
}

bool slice_ends(struct slice a, const char *suffix)
{
    size_t size = strlen(suffix);
    return size <= a.size && (size == 0 || memcmp(a.data + a.size - size, suffix, size) == 0);
}

// Room for size more bytes and the terminator; false, and the buffer failed, when there is none.
static bool buf_reserve(struct buf *b, size_t size)
{
    size_t max = b->max > 0 ? b->max : BUF_MAX_DEFAULT;
    max = max < SIZE_MAX ? max : SIZE_MAX - 1; // the terminator comes on top
    if (b->has_failed) {
        return false;
    }
    if (size > max || b->size > max - size) {
        b->has_failed = true;
        b->is_full = true;
        return false;
    }
    size_t need = b->size + size + 1;
    if (need <= b->capacity) {
        return true;
    }
    // Doubling keeps appending linear; max keeps doubling within what was allowed.
    size_t capacity = b->capacity < 32 ? 64 : b->capacity;
    while (capacity < need) {
        capacity = capacity > max / 2 ? max + 1 : 2 * capacity;
    }
    char *data = mem_resize(b->data, capacity, NULL);
    if (!data) {
        b->has_failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void buf_add(struct buf *b, const void *data, size_t size)
{
    if (!buf_reserve(b, size)) {
        return;
    }
    if (size > 0) {
        memcpy(b->data + b->size, data, size);
        b->size += size;
    }
    b->data[b->size] = '\0';
}

void buf_adds(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_add_slice(struct buf *b, struct slice s)
{
    buf_add(b, s.data, s.size);
}

void buf_addc(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_addf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        b->has_failed = true;
    } else if (buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->size, (size_t)n + 1, format, again);
        b->size += (size_t)n;
    }
    va_end(again);
}

void buf_add_utf8(struct buf *b, uint32_t code_point)
{
    char bytes[4];
    buf_add(b, bytes, utf8_put(bytes, code_point));
}

// One character of a JSON string (RFC 8259, section 7).
static void add_json_character(struct buf *b, uint32_t code_point)
{
    static const char letters[] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    if (code_point == '"' || code_point == '\\') {
        buf_addc(b, '\\');
        buf_addc(b, (char)code_point);
    } else if (code_point < sizeof(letters) && letters[code_point]) {
        buf_addc(b, '\\');
        buf_addc(b, letters[code_point]);
    } else if (code_point < 0x20) {
        buf_addf(b, "\\u%04x", (unsigned)code_point);
    } else {
        buf_add_utf8(b, code_point);
    }
}

void buf_add_json(struct buf *b, const char *text, size_t size)
{
    buf_addc(b, '"');
    size_t at = 0;
    while (at < size && !b->has_failed) {
        uint32_t code_point = 0xFFFD;
        int n = utf8_next(text + at, size - at, &code_point);
        if (n > 0) {
            at += (size_t)n;
        } else {
            code_point = 0xFFFD;
            // 0: a sequence that the end of the text cuts off; all of it is one replacement.
            at = n < 0 ? at + (size_t)-n : size;
        }
        add_json_character(b, code_point);
    }
    buf_addc(b, '"');
}

void buf_clear(struct buf *b)
{
    b->size = 0;
    b->has_failed = false;
    b->is_full = false;
    if (b->data) {
        b->data[0] = '\0';
    }
}

int buf_status(const struct buf *b, struct carat_error *err)
{
    if (!b->has_failed) {
        return 0;
    }
    if (b->is_full) {
        return fail(err, CARAT_E_FULL, "more than %zu bytes are needed here, which is the limit",
                    b->max > 0 ? b->max : BUF_MAX_DEFAULT);
    }
    return fail(err, CARAT_E_MEMORY, "no memory to make a text longer than %zu bytes", b->size);
}

char *buf_take(struct buf *b)
{
    buf_add(b, NULL, 0); // an empty buffer, too, gives a terminated string
    char *data = NULL;
    if (!b->has_failed) {
        data = b->data;
        *b = (struct buf){.max = b->max};
    }
    return data;
}

const char *buf_text(const struct buf *b)
{
    return b->data ? b->data : "";
}

void buf_release(struct buf *b)
{
    if (b) {
        mem_free(b->data);
        *b = (struct buf){.max = b->max};
    }
}

// Table 3-7 of the Unicode standard: what may follow a first byte. Only the second byte's range
// varies; the others are 80..BF.
struct utf8_lead {
    int size; // of the sequence; 0: not a first byte
    uint8_t second_min;
    uint8_t second_max;
};

static struct utf8_lead utf8_lead(uint8_t c)
{
    if (c < 0x80) {
        return (struct utf8_lead){1, 0, 0};
    }
    if (c < 0xC2 || c > 0xF4) {
        return (struct utf8_lead){0, 0, 0};
    }
    if (c < 0xE0) {
        return (struct utf8_lead){2, 0x80, 0xBF};
    }
    if (c < 0xF0) {
        uint8_t min = c == 0xE0 ? 0xA0 : 0x80; // no overlong forms
        uint8_t max = c == 0xED ? 0x9F : 0xBF; // no surrogates
        return (struct utf8_lead){3, min, max};
    }
    uint8_t min = c == 0xF0 ? 0x90 : 0x80;
    uint8_t max = c == 0xF4 ? 0x8F : 0xBF; // nothing above 10FFFF
    return (struct utf8_lead){4, min, max};
}

int utf8_next(const char *data, size_t size, uint32_t *code_point)
{
    if (size == 0) {
        return 0;
    }
    const uint8_t *bytes = (const uint8_t *)data;
    struct utf8_lead lead = utf8_lead(bytes[0]);
    if (lead.size == 0) {
        return -1;
    }
    // The first byte's own bits: 7, 5, 4 or 3 of them.
    uint32_t value = lead.size == 1 ? bytes[0] : bytes[0] & (0x7FU >> lead.size);
    for (int i = 1; i < lead.size; i++) {
        if ((size_t)i == size) {
            return 0;
        }
        uint8_t min = i == 1 ? lead.second_min : 0x80;
        uint8_t max = i == 1 ? lead.second_max : 0xBF;
        if (bytes[i] < min || bytes[i] > max) {
            return -i;
        }
        value = value << 6 | (bytes[i] & 0x3FU);
    }
    *code_point = value;
    return lead.size;
}

size_t utf8_put(char out[4], uint32_t code_point)
{
    uint32_t c = code_point;
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
        c = 0xFFFD;
    }
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

bool utf8_is_valid(const char *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        uint32_t code_point;
        int n = utf8_next(data + at, size - at, &code_point);
        if (n <= 0) {
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

bool unicode_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

// Bytes of the white space character at the end of s; 0 when there is none.
static size_t space_at_end(struct slice s)
{
    for (size_t n = 1; n <= 3 && n <= s.size; n++) {
        uint32_t c;
        int size = utf8_next(s.data + s.size - n, n, &c);
        if (size > 0) {
            return (size_t)size == n && unicode_is_space(c) ? n : 0;
        }
    }
    return 0;
}

struct slice utf8_trim(struct slice s)
{
    uint32_t c;
    int n;
    while ((n = utf8_next(s.data, s.size, &c)) > 0 && unicode_is_space(c)) {
        s.data += n;
        s.size -= (size_t)n;
    }
    size_t tail;
    while ((tail = space_at_end(s)) > 0) {
        s.size -= tail;
    }
    return s;
}

struct cursor cursor_make(const void *data, size_t size)
{
    return (struct cursor){.data = data, .size = size};
}

size_t cursor_left(const struct cursor *c)
{
    return c->has_failed ? 0 : c->size - c->at;
}

const void *cursor_bytes(struct cursor *c, uint64_t size)
{
    if (c->has_failed || size > c->size - c->at) {
        c->has_failed = true;
        return NULL;
    }
    const void *bytes = c->data ? c->data + c->at : (const void *)"";
    c->at += (size_t)size;
    return bytes;
}

void cursor_skip(struct cursor *c, uint64_t size)
{
    cursor_bytes(c, size);
}

// Little-endian whatever the machine: put together byte by byte, which compilers make one load.
static uint64_t cursor_integer(struct cursor *c, unsigned size)
{
    const uint8_t *bytes = cursor_bytes(c, size);
    uint64_t value = 0;
    if (bytes) {
        for (unsigned i = 0; i < size; i++) {
            value |= (uint64_t)bytes[i] << (8 * i);
        }
    }
    return value;
}

uint8_t cursor_u8(struct cursor *c)
{
    return (uint8_t)cursor_integer(c, 1);
}

uint16_t cursor_u16(struct cursor *c)
{
    return (uint16_t)cursor_integer(c, 2);
}

uint32_t cursor_u32(struct cursor *c)
{
    return (uint32_t)cursor_integer(c, 4);
}

uint64_t cursor_u64(struct cursor *c)
{
    return cursor_integer(c, 8);
}

float cursor_f32(struct cursor *c)
{
    uint32_t bits = cursor_u32(c);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

double cursor_f64(struct cursor *c)
{
    uint64_t bits = cursor_u64(c);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}
