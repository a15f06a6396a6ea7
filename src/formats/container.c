// SPDX-License-Identifier: Apache-2.0
// Names, and the mistakes people make with model files, recognised by their first bytes.
#include "formats/container.h"

#include <string.h>

bool container_is_name(struct slice name, size_t size_max)
{
    if (name.size == 0 || name.size > size_max || !utf8_is_valid(name.data, name.size)) {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        if ((unsigned char)name.data[i] < 0x20 || name.data[i] == 0x7F) {
            return false;
        }
    }
    return true;
}

struct sniff {
    const char *start; // compared without regard to case
    const char *kind;
};

static const struct sniff rows[] = {
    {"GGUF", "a GGUF file"},
    {"FUGG", "a big-endian GGUF file"},
    {"ggml", "an old GGML file"},
    {"lmgg", "an old GGML file"},
    {"fmgg", "an old GGML file"},
    {"tjgg", "an old GGML file"},
    {"PK\003\004", "a zip archive, as PyTorch checkpoints are"},
    {"\200\002", "a Python pickle"},
    {"\200\004", "a Python pickle"},
    {"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"},
    {"<!doctype", "a web page: the download went wrong"},
    {"<html", "a web page: the download went wrong"},
    {"<?xml", "an XML text: the download went wrong"},
    {"\037\213", "a gzip archive: unpack it first"},
    {"\050\265\057\375", "a zstd archive: unpack it first"},
    {"\375"
     "7zXZ",
     "an xz archive: unpack it first"},
    {"\211HDF", "an HDF5 file"},
    {"{", "a JSON text"},
};

static unsigned lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? c + 32u : c;
}

static bool starts(const unsigned char *data, size_t size, const char *start)
{
    size_t n = strlen(start);
    for (size_t i = 0; i < n; i++) {
        if (i >= size || lower(data[i]) != lower((unsigned char)start[i])) {
            return false;
        }
    }
    return true;
}

static bool is_blank(const unsigned char *data, size_t size)
{
    for (size_t i = 0; i < size && i < 4096; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

const char *container_sniff(const void *data, size_t size)
{
    if (size == 0) {
        return "an empty file";
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (starts(data, size, rows[i].start)) {
            return rows[i].kind;
        }
    }
    struct cursor c = cursor_make(data, size);
    uint64_t header = cursor_u64(&c);
    if (cursor_u8(&c) == '{' && header <= size - 8) {
        return "a safetensors file";
    }
    return is_blank(data, size) ? "a file that begins with zeros: an unfinished download?"
                                : "something else";
}
