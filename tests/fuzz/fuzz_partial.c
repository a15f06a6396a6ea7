// SPDX-License-Identifier: Apache-2.0
// A file in the making, left behind by a maker that was stopped, and damaged since: whoever makes
// it again refuses it or ends with the right bytes.
//
//   byte 0        steps that were done, bits 0-3; 0x40: the rest of the input is the journal; 0x80:
//                 what was begun otherwise is dropped
//   byte 1        bytes of an unfinished step
//   then by four  what to damage: bit 0 of the first byte says the file, else the journal; the rest
//                 how: a byte replaced, cut off here, a step's line copied here; two bytes where; a
//                 byte
#include "formats/partial.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "scratch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS     9
#define STEP_MAX  256
#define HEAD_SIZE 32
#define LINE_SIZE 48

static const uint8_t key[HASH_SIZE] = "a job";
static char path[128], part[160], journal[160], lock[160];

// The bytes that step i makes.
static size_t make_step(uint8_t out[STEP_MAX], size_t i)
{
    size_t n = i == 4 ? 0 : (i * 83 + 5) % STEP_MAX;
    for (size_t k = 0; k < n; k++) {
        out[k] = (uint8_t)(i * 31 + k * k);
    }
    return n;
}

static int add_steps(struct partial *p, size_t end)
{
    uint8_t bytes[STEP_MAX];
    const double figures[3] = {1, 2, 3};
    int rc = 0;
    for (size_t i = p->n_steps; rc == 0 && i < end; i++) {
        size_t n = make_step(bytes, i);
        rc = partial_add(p, bytes, n, NULL);
        rc = rc ? rc : partial_step(p, figures, NULL);
    }
    return rc;
}

static void remove_all(void)
{
    remove(path);
    remove(part);
    remove(journal);
    remove(lock);
}

static void damage(const uint8_t change[4])
{
    const char *name = change[0] & 1 ? part : journal;
    size_t size = 0, at = (size_t)change[1] << 8 | change[2];
    uint8_t *bytes = scratch_read(name, &size);
    if (!bytes || size == 0) {
        free(bytes);
        return;
    }
    at %= size;
    if (change[0] & 2) {
        size = at;
    } else if ((change[0] & 4) && name == journal && size >= HEAD_SIZE + LINE_SIZE) {
        size_t n = (size - HEAD_SIZE) / LINE_SIZE;
        memmove(bytes + HEAD_SIZE + at % n * LINE_SIZE,
                bytes + HEAD_SIZE + change[3] % n * LINE_SIZE, LINE_SIZE);
    } else {
        bytes[at] = change[3];
    }
    scratch_write(name, bytes, size);
    free(bytes);
}

static void check_whole(void)
{
    size_t size = 0, at = 0;
    uint8_t want[STEP_MAX];
    uint8_t *found = scratch_read(path, &size);
    require(found);
    for (size_t i = 0; i < STEPS; i++) {
        size_t n = make_step(want, i);
        require(at + n <= size && memcmp(found + at, want, n) == 0);
        at += n;
    }
    require(at == size);
    free(found);
}

static void leave_behind(size_t n_steps, size_t n_more)
{
    struct partial p = {0};
    uint8_t more[STEP_MAX] = {0xEE};
    require(partial_open(&p, path, key, false, NULL) == 0);
    require(add_steps(&p, n_steps) == 0);
    require(partial_add(&p, more, n_more, NULL) == 0);
    partial_close(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partial p = {0};
    struct carat_error err = {0};
    if (size < 2) {
        return 0;
    }
    if (!path[0]) {
        snprintf(path, sizeof(path), "%s/made", scratch_folder());
        snprintf(part, sizeof(part), "%s" PARTIAL_SUFFIX, path);
        snprintf(journal, sizeof(journal), "%s" PARTIAL_JOURNAL, path);
        snprintf(lock, sizeof(lock), "%s" PARTIAL_LOCK, path);
    }
    remove_all();
    leave_behind((data[0] & 15) % STEPS, data[1]);
    if (data[0] & 0x40) {
        scratch_write(journal, data + 2, size - 2);
    }
    for (size_t at = 2; !(data[0] & 0x40) && size - at >= 4 && at < 100; at += 4) {
        damage(data + at);
    }
    int rc = partial_open(&p, path, key, (data[0] & 0x80) != 0, &err);
    if (rc) {
        require(err.text[0] != 0);
    } else {
        require(p.n_steps <= STEPS && add_steps(&p, STEPS) == 0);
        require(partial_finish(&p, &err) == 0);
        check_whole();
    }
    partial_close(&p);
    remove_all();
    return 0;
}
