// SPDX-License-Identifier: Apache-2.0
// Schemas and tools: any text is a program or a refusal that says why; from every program a way
// leads to an end, whatever bytes are chosen as long as they are allowed.
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "engine/grammar_machine.h"
#include "engine/grammar_schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS 64

// Follows the bytes of the input where they are allowed, others where they are not.
static void walk(const struct program *program, uint32_t state, const uint8_t *data, size_t size)
{
    struct machine m;
    struct place kept[8];
    if (program->states[state].need == NEED_DEAD || machine_init(&m, program, STEPS, NULL)) {
        return;
    }
    const struct place start = {.state = state, .stack = STACK_BOTTOM, .max = COUNT_UNLIMITED};
    struct places places = machine_settle(&m, &start, 1);
    require(places.n > 0 || m.is_at_end);
    for (size_t i = 0; i < STEPS && places.n > 0 && places.n <= 8; i++) {
        memcpy(kept, places.items, places.n * sizeof(kept[0]));
        machine_keep(&m, kept, places.n);
        const struct places from = {.items = kept, .n = places.n};
        bool can_go_on = false;
        for (unsigned k = 0; k <= 256 && !can_go_on; k++) {
            const struct machine_mark mark = machine_mark(&m);
            const uint8_t first = size ? data[i % size] : 0;
            places =
                k == 256 ? machine_quote(&m, from) : machine_step(&m, from, (uint8_t)(first + k));
            can_go_on = places.n > 0 || m.is_at_end;
            if (!can_go_on) {
                machine_reset(&m, mark);
            }
        }
        require(can_go_on);
    }
    machine_release(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct carat_error err = {0};
    struct json_doc *doc = NULL;
    if (size > 4096 || json_parse(&doc, (const char *)data, size, "fuzz", &err)) {
        return 0;
    }
    for (int i = 0; i < 3; i++) {
        const struct schema_options options = {
            .name = "fuzz", .is_call = i > 0, .is_lenient = i == 2, .needs_object = i > 0};
        struct program program = {0};
        uint32_t rule = 0;
        int rc = program_builtin(&program, &err);
        rc = rc ? rc : schema_draw(&program, json_root(doc), &options, &rule, &err);
        require(rc == 0 || (rc < 0 && err.status == rc && err.text[0]));
        if (rc == 0) {
            program_link(&program);
            walk(&program, program.rules[rule], data, size);
        }
        program_release(&program);
    }
    json_free(doc);
    return 0;
}
