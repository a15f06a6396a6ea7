// SPDX-License-Identifier: Apache-2.0
// How texts are compared: what does not count is taken out, and errors are counted in words and in
// characters. docs/eval-tasks.md
#ifndef CARAT_CLI_EVAL_TASKS_WORDS_H
#define CARAT_CLI_EVAL_TASKS_WORDS_H

#include "base/str.h"

// Punctuation and symbols: the categories P and S.
bool unicode_is_mark(uint32_t c);
// The simple case folding, or the lower case, where that is one character.
uint32_t unicode_small(uint32_t c);

// Appends the text in small letters; what is not UTF-8 becomes U+FFFD.
void words_add_small(struct buf *out, struct slice text);
// Appends the words of a text, with one space between them: small letters, marks are gaps, but for
// an apostrophe (' or U+2019, written ') inside of a word.
void words_add(struct buf *out, struct slice text);

// The fewest insertions, deletions and substitutions that make the answer of the reference; of
// several ways the one with most substitutions.
struct word_errors {
    uint64_t n; // words, or characters, of the reference
    uint64_t substituted, deleted, inserted;
};
// Both texts as words_add gives them. The work is at most the product of both lengths.
int words_count_errors(struct word_errors *out, struct slice reference, struct slice answer,
                       struct carat_error *err);
// The same of characters, the spaces between words included.
int words_count_character_errors(struct word_errors *out, struct slice reference,
                                 struct slice answer, struct carat_error *err);

#endif
