// SPDX-License-Identifier: Apache-2.0
// Text to ids and back: BPE by merge rank over the whole text, byte fallback, special tokens
// (docs/tokenizer.md). Reads the vocabulary from GGUF metadata or tokenizer.json. Read-only once
// made; shared by threads.
#ifndef CARAT_MODEL_TOKENIZER_H
#define CARAT_MODEL_TOKENIZER_H

#include "formats/source.h"

struct tokenizer;

int tokenizer_new(struct tokenizer **out, struct source *source, struct carat_error *err);
// The same from one document, which may be dropped afterwards. name is what errors call it.
int tokenizer_new_gguf(struct tokenizer **out, const struct gguf *gguf, struct carat_error *err);
int tokenizer_new_json(struct tokenizer **out, const struct json_doc *doc, const char *name,
                       struct carat_error *err);
void tokenizer_free(struct tokenizer *t); // takes NULL

size_t tokenizer_n_tokens(const struct tokenizer *t);
// Raw bytes: U+2581 is a space again, byte tokens are their byte, special tokens their literal
// text. At most TOKENIZER_TOKEN_SIZE_MAX of them; Gemma's longest token has 93.
#define TOKENIZER_TOKEN_SIZE_MAX 4096u
// Empty for an id outside the vocabulary. Lives with the tokenizer.
struct slice tokenizer_text(const struct tokenizer *t, carat_token token);
bool tokenizer_is_special(const struct tokenizer *t, carat_token token);
// The id whose vocabulary string is exactly this (special tokens included), or CARAT_TOKEN_NONE.
carat_token tokenizer_find(const struct tokenizer *t, struct slice text);

// The control tokens that the chat format needs, by role. CARAT_TOKEN_NONE when the vocabulary
// lacks one (small test vocabularies do).
struct special_tokens {
    carat_token bos, eos, pad, unk, mask;
    carat_token turn_open, turn_close;          // <|turn> <turn|>
    carat_token channel_open, channel_close;    // <|channel> <channel|>
    carat_token call_open, call_close;          // <|tool_call> <tool_call|>
    carat_token response_open, response_close;  // <|tool_response> <tool_response|>
    carat_token tool_open, tool_close;          // <|tool> <tool|>
    carat_token quote;                          // <|"|>
    carat_token think;                          // <|think|>
    carat_token image_open, image, image_close; // <|image> <|image|> <image|>
    carat_token audio_open, audio, audio_close; // <|audio> <|audio|> <audio|>
    carat_token video;                          // <|video|>
};
const struct special_tokens *tokenizer_specials(const struct tokenizer *t);

// Appends the tokens of text to out: never more than its bytes. parses_special: the strings of
// special tokens in the text become those tokens. Time is n log n for any input. Bytes that are not
// UTF-8 become byte tokens. More than TOKENIZER_TEXT_MAX bytes: CARAT_E_FULL.
#define TOKENIZER_TEXT_MAX ((size_t)1 << 30)
struct token_list {
    carat_token *tokens;
    size_t count;
    size_t capacity;
};
int token_list_add(struct token_list *list, carat_token token, struct carat_error *err);
void token_list_release(struct token_list *list);
int tokenizer_encode(const struct tokenizer *t, struct slice text, bool parses_special,
                     struct token_list *out, struct carat_error *err);

// The next added token's string in text at or after `from`, leftmost, the longest there: its
// offset, and its id in *token; text.size when there is none. All of Gemma's added tokens are
// special.
size_t tokenizer_next_special(const struct tokenizer *t, struct slice text, size_t from,
                              carat_token *token);

// Streaming detokenization: bytes held back until they are whole characters. Zeroed memory is a
// fresh state. Appends what may be shown to out; invalid parts become U+FFFD.
struct utf8_stream {
    char held[4];
    size_t n_held;
};
void utf8_stream_feed(struct utf8_stream *s, struct slice bytes, struct buf *out);
void utf8_stream_flush(struct utf8_stream *s, struct buf *out);

// Bytes this vocabulary takes in memory, from the headers alone, for carat_estimate. An upper
// bound, which includes what reading it takes for a while.
size_t tokenizer_memory(const struct source *source);

#endif
