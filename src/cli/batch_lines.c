// SPDX-License-Identifier: Apache-2.0
// Lines of a file that may be larger than the memory, and lines that may be larger than anybody
// wants.
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "cli/batch.h"

#define CHUNK_SIZE ((size_t)1 << 18)

int batch_lines_open(struct batch_lines *l, const char *path, size_t line_max,
                     struct carat_error *err)
{
    *l = (struct batch_lines){.line = {.max = line_max}};
    int rc = os_reader_open(&l->file, path, err);
    if (rc) {
        return rc;
    }
    l->chunk = mem_new(CHUNK_SIZE, err);
    if (!l->chunk) {
        batch_lines_close(l);
        return CARAT_E_MEMORY;
    }
    return 0;
}

static int fill(struct batch_lines *l, struct carat_error *err)
{
    uint64_t left = l->file.size - l->file.at;
    l->chunk_size = left < CHUNK_SIZE ? (size_t)left : CHUNK_SIZE;
    l->chunk_at = 0;
    return os_reader_next(&l->file, l->chunk, l->chunk_size, err);
}

// A piece of the line, up to its end or that of the chunk. True: the line has ended.
static bool take_piece(struct batch_lines *l, struct hash *hash)
{
    const char *begin = l->chunk + l->chunk_at;
    size_t left = l->chunk_size - l->chunk_at;
    const char *end = memchr(begin, '\n', left);
    size_t size = end ? (size_t)(end - begin) : left;
    hash_add(hash, begin, size);
    size_t room = l->line.max - l->line.size;
    l->is_long = l->is_long || size > room;
    buf_add(&l->line, begin, size < room ? size : room);
    l->chunk_at += size + (end != NULL);
    l->end += size + (end != NULL);
    return end != NULL;
}

int batch_lines_next(struct batch_lines *l, bool *is_there, struct carat_error *err)
{
    struct hash hash;
    bool has_ended = false;
    uint64_t begin = l->end;
    hash_init(&hash, NULL);
    buf_clear(&l->line);
    l->is_long = l->is_torn = false;
    while (!has_ended) {
        if (l->chunk_at == l->chunk_size) {
            if (l->file.at == l->file.size) {
                break;
            }
            int rc = fill(l, err);
            if (rc) {
                return rc;
            }
        }
        has_ended = take_piece(l, &hash);
    }
    l->is_torn = !has_ended;
    *is_there = has_ended || l->end > begin;
    l->number += *is_there;
    l->hash = hash_u64(&hash);
    return buf_status(&l->line, err);
}

bool batch_line_is_blank(const struct batch_lines *l)
{
    for (size_t i = 0; i < l->line.size; i++) {
        if (!strchr(" \t\r", l->line.data[i]) || l->line.data[i] == '\0') {
            return false;
        }
    }
    return true;
}

void batch_lines_close(struct batch_lines *l)
{
    os_reader_close(&l->file);
    buf_release(&l->line);
    mem_free(l->chunk);
    *l = (struct batch_lines){0};
}
