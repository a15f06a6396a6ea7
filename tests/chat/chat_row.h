// SPDX-License-Identifier: Apache-2.0
// Turns a row of chat.jsonl, that is messages as servers receive them, into a struct carat_chat.
// For the chat room's tests and fuzz targets.
#ifndef TESTS_CHAT_ROW_H
#define TESTS_CHAT_ROW_H

#include "base/mem.h"
#include "formats/json.h"

// Everything is taken from the arena. Returns 0, or CARAT_E_FORMAT for what is no row.
int chat_row_read(struct carat_chat *out, const struct json_value *row, struct arena *arena);
// Calls use for every line of a file of JSON objects; returns how many there were.
size_t chat_rows_each(const char *path, void (*use)(const struct json_value *row));
bool json_equal(const struct json_value *a, const struct json_value *b);

#endif
