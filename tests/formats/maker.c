// SPDX-License-Identifier: Apache-2.0
#include "maker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"

static void put_integer(struct buf *b, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        buf_addc(b, (char)(value >> (8 * i) & 0xFF));
    }
}

void put_u32(struct buf *b, uint32_t value)
{
    put_integer(b, value, 4);
}

void put_u64(struct buf *b, uint64_t value)
{
    put_integer(b, value, 8);
}

void put_string(struct buf *b, const char *text)
{
    put_u64(b, strlen(text));
    buf_adds(b, text);
}

static void put_f32(struct buf *b, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_u32(b, bits);
}

void maker_key(struct maker *m, const char *key, uint32_t type)
{
    put_string(&m->keys, key);
    put_u32(&m->keys, type);
    m->n_keys++;
}

void maker_u32(struct maker *m, const char *key, uint32_t value)
{
    maker_key(m, key, GGUF_U32);
    put_u32(&m->keys, value);
}

void maker_string(struct maker *m, const char *key, const char *text)
{
    maker_key(m, key, GGUF_STRING);
    put_string(&m->keys, text);
}

void maker_array(struct maker *m, const char *key, uint32_t element, uint64_t count)
{
    maker_key(m, key, GGUF_ARRAY);
    put_u32(&m->keys, element);
    put_u64(&m->keys, count);
}

void maker_info(struct maker *m, const char *name, uint32_t n_dims, const uint64_t *dims,
                uint32_t type, uint64_t offset)
{
    put_string(&m->tensors, name);
    put_u32(&m->tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        put_u64(&m->tensors, dims[i]);
    }
    put_u32(&m->tensors, type);
    put_u64(&m->tensors, offset);
    m->n_tensors++;
}

static void pad(struct buf *b, size_t alignment)
{
    while (b->size % alignment != 0) {
        buf_addc(b, '\0');
    }
}

void maker_tensor(struct maker *m, const char *name, uint64_t columns, uint64_t rows, float first)
{
    const uint64_t dims[] = {columns, rows};
    pad(&m->data, m->alignment ? (size_t)m->alignment : 32);
    maker_info(m, name, rows > 1 ? 2 : 1, dims, 0, m->data.size);
    for (uint64_t i = 0; i < columns * rows; i++) {
        put_f32(&m->data, first + (float)i);
    }
}

void maker_finish(struct maker *m, struct buf *out)
{
    buf_adds(out, "GGUF");
    put_u32(out, 3);
    put_u64(out, m->n_tensors);
    put_u64(out, m->n_keys);
    buf_add(out, m->keys.data, m->keys.size);
    buf_add(out, m->tensors.data, m->tensors.size);
    if (m->data.size > 0) {
        pad(out, m->alignment ? (size_t)m->alignment : 32);
        buf_add(out, m->data.data, m->data.size);
    }
    assert_int_equal(buf_status(out, NULL), 0);
    buf_release(&m->keys);
    buf_release(&m->tensors);
    buf_release(&m->data);
    *m = (struct maker){0};
}

void maker_small(struct buf *out)
{
    struct maker m = {0};
    maker_string(&m, "general.architecture", "gemma4");
    maker_u32(&m, "n.u32", 4000000000);
    maker_key(&m, "n.u8", GGUF_U8);
    put_integer(&m.keys, 200, 1);
    maker_key(&m, "n.i8", GGUF_I8);
    put_integer(&m.keys, (uint64_t)-5, 1);
    maker_key(&m, "n.u16", GGUF_U16);
    put_integer(&m.keys, 60000, 2);
    maker_key(&m, "n.i16", GGUF_I16);
    put_integer(&m.keys, 300, 2);
    maker_key(&m, "n.i32", GGUF_I32);
    put_u32(&m.keys, (uint32_t)-7);
    maker_key(&m, "n.u64", GGUF_U64);
    put_u64(&m.keys, UINT64_MAX);
    maker_key(&m, "n.i64", GGUF_I64);
    put_u64(&m.keys, (uint64_t)INT64_MIN);
    maker_key(&m, "x.f32", GGUF_F32);
    put_f32(&m.keys, 0.5f);
    maker_key(&m, "x.f64", GGUF_F64);
    put_u64(&m.keys, UINT64_C(0x3FD0000000000000)); // 0.25
    maker_key(&m, "yes", GGUF_BOOL);
    buf_addc(&m.keys, 1);
    maker_array(&m, "words", GGUF_STRING, 3);
    put_string(&m.keys, "one");
    put_string(&m.keys, "");
    put_string(&m.keys, "\xFF\xFE"); // tokens may be any bytes
    maker_array(&m, "numbers", GGUF_I32, 2);
    put_u32(&m.keys, 11);
    put_u32(&m.keys, (uint32_t)-12);
    maker_array(&m, "nothing", GGUF_F32, 0);
    maker_tensor(&m, "a", 4, 2, 1);
    maker_tensor(&m, "b", 3, 1, 100);
    maker_finish(&m, out);
}

void make_safetensors(struct buf *out, const char *header, size_t n)
{
    put_string(out, header);
    for (size_t i = 0; i < n; i++) {
        buf_addc(out, (char)(i & 0xFF));
    }
    assert_int_equal(buf_status(out, NULL), 0);
}

int place_make(void **state)
{
    static struct place place;
    snprintf(place.dir, sizeof(place.dir), "/tmp/carat-test-XXXXXX");
    *state = &place;
    return mkdtemp(place.dir) ? 0 : -1;
}

int place_remove(void **state)
{
    struct place *p = *state;
    char **names = NULL;
    size_t count = 0;
    if (os_list(&names, &count, p->dir, 10000, NULL) == 0) {
        for (size_t i = 0; i < count; i++) {
            remove(place_path(p, names[i]));
        }
        os_list_free(names, count);
    }
    return rmdir(p->dir);
}

const char *place_path(struct place *p, const char *name)
{
    int n = snprintf(p->path, sizeof(p->path), "%s/%s", p->dir, name);
    assert_in_range(n, 1, sizeof(p->path) - 1);
    return p->path;
}

void place_write(struct place *p, const char *name, const void *data, size_t size)
{
    assert_int_equal(os_write_file(place_path(p, name), data, size, NULL), 0);
}

void place_write_text(struct place *p, const char *name, const char *text)
{
    place_write(p, name, text, strlen(text));
}

void place_write_buf(struct place *p, const char *name, struct buf *b)
{
    place_write(p, name, b->data, b->size);
    buf_release(b);
}
