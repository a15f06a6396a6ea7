// SPDX-License-Identifier: Apache-2.0
// Runs a program over bytes: the places that an answer may have got to, each with its stack of
// calls. Stacks share their frames and equal ones are one. Nothing is allocated after machine_init.
#ifndef CARAT_ENGINE_GRAMMAR_MACHINE_H
#define CARAT_ENGINE_GRAMMAR_MACHINE_H

#include "engine/grammar_program.h"

// A stack is the number of its topmost frame.
#define STACK_UNKNOWN 0u // whoever called: leaving it is noted and goes no further
#define STACK_BOTTOM  1u // nobody called: leaving it ends the text

struct frame {
    uint32_t ret;
    uint32_t below;
    uint32_t depth;
};

struct place {
    uint32_t state;
    uint32_t stack;
    uint32_t min, max; // characters that a counting rule still needs and allows
};

struct places {
    struct place *items;
    size_t n;
};

struct machine {
    const struct program *program;
    struct frame *frames;
    uint32_t n_frames;
    uint32_t *slots;    // of a hash table of frames
    struct place *pool; // places of a walk, level after level
    size_t n_pool, pool_max;
    struct place *todo;
    // Set by the last step.
    bool is_at_end;    // the text may end here
    bool has_left;     // the unknown caller may go on here
    uint32_t left_max; // what `max` was then
};

int machine_init(struct machine *m, const struct program *program, size_t steps_max,
                 struct carat_error *err);
void machine_release(struct machine *m);

// Where one can get without reading anything from the n places in `from`. The places are appended
// to the pool; the result stays until machine_reset. `from` may lie in the pool.
struct places machine_settle(struct machine *m, const struct place *from, size_t n);
struct places machine_step(struct machine *m, struct places from, uint8_t byte);
struct places machine_quote(struct machine *m, struct places from);

// Forgets frames and pooled places that are newer than the mark.
struct machine_mark {
    uint32_t n_frames;
    size_t n_pool;
};
struct machine_mark machine_mark(const struct machine *m);
void machine_reset(struct machine *m, struct machine_mark mark);
// Keeps what these places need of the frames and no more; the pool is emptied. Renumbers stacks.
void machine_keep(struct machine *m, struct place *places, size_t n);

#endif
