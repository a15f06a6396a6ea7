// SPDX-License-Identifier: Apache-2.0
// Regular expressions: any text is an automaton or a refusal that says why; what a search finds is
// what the whole finds with anything around it.
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "engine/grammar_regex.h"
#include "engine/grammar_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The first line is the expression, the rest a text.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct carat_error err = {0};
    struct dfa whole = {0};
    struct dfa search = {0};
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    const size_t n = end ? (size_t)(end - data) : size;
    if (n > 256) { // time grows with the size; what is refused for it is tested elsewhere
        return 0;
    }
    const struct slice expression = slice_make((const char *)data, n);
    const struct slice text =
        end ? slice_make((const char *)end + 1, size - n - 1) : slice_make("", 0);
    const int rc = regex_compile(&whole, expression, false, "fuzz", &err);
    require(rc == 0 || (rc < 0 && err.status == rc && err.text[0]));
    if (rc == 0 && regex_compile(&search, expression, true, "fuzz", &err) == 0) {
        require(!dfa_matches(&whole, text) || dfa_matches(&search, text));
        struct dfa bounded = {0};
        if (text_bounded(&bounded, &whole, 1, 5, &err) == 0) {
            require(!dfa_matches(&bounded, text) ||
                    (dfa_matches(&whole, text) && text.size <= 20 && text.size > 0));
        }
        dfa_release(&bounded);
    }
    dfa_release(&whole);
    dfa_release(&search);
    return 0;
}
