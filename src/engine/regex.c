// SPDX-License-Identifier: Apache-2.0
// Regular expressions over whole texts, by the automata that grammars are made of: no expression
// takes longer than one step for each character.
#include "base/error.h"
#include "base/mem.h"
#include "carat_jobs.h"
#include "engine/grammar_regex.h"

struct carat_regex {
    struct dfa dfa;
};

int carat_regex_new(struct carat_regex **out, const char *expression, struct carat_error *err)
{
    struct slice text = slice_of(expression);
    if (text.size > REGEX_SIZE_MAX) {
        return fail(err, CARAT_E_FULL, "regex: expected at most %zu bytes, found %zu",
                    REGEX_SIZE_MAX, text.size);
    }
    struct carat_regex *r = mem_new(sizeof(*r), err);
    if (!r) {
        return CARAT_E_MEMORY;
    }
    int rc = regex_compile(&r->dfa, text, true, "regex", err);
    if (rc) {
        mem_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

bool carat_regex_matches(const struct carat_regex *regex, const char *text, size_t size)
{
    return dfa_matches(&regex->dfa, slice_make(text, size));
}

void carat_regex_free(struct carat_regex *regex)
{
    if (regex) {
        dfa_release(&regex->dfa);
        mem_free(regex);
    }
}
