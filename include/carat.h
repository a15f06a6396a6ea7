/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carat: a local engine for Gemma 4 models. The one public header.
 *
 * An engine is one loaded model, read-only, shared by threads. A session is one timeline: the
 * tokens seen so far, their kv cache, the logits of the last one. A prompt is tokens ready to
 * evaluate. A sampler turns logits into a token, a parser turns tokens into events.
 *
 * Conventions: an int result is 0 or a negative enum carat_status. On failure outputs are untouched
 * and the error, which may be NULL, holds one sentence: what, where, expected, found, what to do.
 * new/open gives an owned object, free/close takes NULL. A const pointer that comes out is
 * borrowed; its comment says until when. Options that are all zero mean the defaults. Strings are
 * UTF-8. An engine may be shared by threads; every other object is used by one thread at a time.
 */
#ifndef CARAT_H
#define CARAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(CARAT_BUILD) && defined(__GNUC__)
#define CARAT_API __attribute__((visibility("default")))
#else
#define CARAT_API
#endif

enum carat_status {
    CARAT_OK = 0,
    CARAT_E_ARGUMENT = -1,    /* the caller asked for something that makes no sense */
    CARAT_E_MEMORY = -2,      /* no memory */
    CARAT_E_IO = -3,          /* the system could not read or write */
    CARAT_E_FORMAT = -4,      /* a file or text is not what it should be */
    CARAT_E_UNSUPPORTED = -5, /* right, but not something this build can do */
    CARAT_E_DEVICE = -6,      /* the device failed */
    CARAT_E_FULL = -7,        /* a stated limit is reached: context, size */
    CARAT_E_STOPPED = -8,     /* a callback asked to stop */
};

struct carat_error {
    int status;
    char text[1000]; /* terminated */
};

enum carat_log_level { CARAT_LOG_DEBUG, CARAT_LOG_INFO, CARAT_LOG_WARNING, CARAT_LOG_ERROR };

/* Sets where log lines go (no newline at their end); NULL, the default, drops them. The callback
 * may be called from any thread that calls the library. Set it before anything else runs. */
typedef void (*carat_on_log)(void *user, enum carat_log_level level, const char *text);
CARAT_API void carat_set_log(carat_on_log on_log, void *user);

CARAT_API const char *carat_version(void); /* "0.1.0"; static */

typedef int32_t carat_token;
#define CARAT_TOKEN_NONE ((carat_token)-1)

/* ---------------------------------------------------------------------------------- the engine */

enum carat_dtype_kv { CARAT_KV_F16 = 0, CARAT_KV_F32, CARAT_KV_Q8_0 };

/* How matrix products with quantized weights treat their input. */
enum carat_activations {
    CARAT_ACTIVATIONS_AUTO = 0, /* int8 where the weights are quantized, float elsewhere */
    CARAT_ACTIVATIONS_FLOAT,    /* always float: the exact mode, slower */
};

/* Progress of something long. done and total are in one unit (bytes, tokens); return false to stop
 * it (the call then fails with CARAT_E_STOPPED). Called on the thread that made the long call. */
typedef bool (*carat_on_progress)(void *user, const char *what, uint64_t done, uint64_t total);

struct carat_engine_options {
    const char *model;     /* a GGUF file (the first of a split set) or a Hugging Face directory */
    const char *projector; /* a GGUF file with the projections of pictures and sound ("mmproj"), or
                              NULL: those in the model itself, else in the GGUF file with mmproj in
                              its name that lies beside it and belongs to it */
    size_t n_threads;      /* 0: one per usable core */
    enum carat_activations activations;
    bool is_vocab_only; /* tokenizer and chat only: no tensors are needed or looked at */
    carat_on_progress on_progress;
    void *user;
};

struct carat_engine;

CARAT_API int carat_engine_open(struct carat_engine **out,
                                const struct carat_engine_options *options,
                                struct carat_error *err);
CARAT_API void carat_engine_close(struct carat_engine *engine); /* after its sessions are freed */

struct carat_model_info {
    const char *name; /* from the file, or the file's name; all strings live with the engine */
    const char *architecture; /* "gemma4" or "gemma4_unified" */
    const char *container;    /* "GGUF" or "safetensors" */
    const char *weight_type;  /* element type that holds most weights, e.g. "Q4_0" */
    const char *cpu_level;    /* kernels in use: "generic", "avx2", "avx512vnni", "neon", ... */
    uint64_t n_parameters;    /* of the text decoder */
    uint64_t weights_size;    /* bytes of all tensors in use */
    size_t n_layers;
    size_t n_vocab;
    size_t hidden_size;
    size_t context_max; /* most positions the model was made for */
    size_t sliding_window;
    size_t n_threads;
    bool is_vocab_only;
    bool sees;  /* has the projection of pictures and films */
    bool hears; /* has the projection of sound */
    const char
        *projector; /* file the projections came from: the model's own path, another, or "" */
    uint64_t projector_size; /* bytes of their tensors */
    size_t image_block; /* side, in pixels, of the square that becomes one soft token; 0: none */
};
/* Lives as long as the engine. */
CARAT_API const struct carat_model_info *carat_engine_info(const struct carat_engine *engine);

/* ---------------------------------------------------------------------------------- limits */

#define CARAT_LIMITS_LEVELS_MAX 8
/* What the machine can do at most, measured when asked: speeds are judged by it. Decoding reads
 * every weight once per token and is bound by read_rate; reading a prompt multiplies, and is bound
 * by the rate of its kind at the level of kernels in use. docs/performance.md */
struct carat_level_limits {
    const char *name;  /* level of kernels, as carat_model_info.cpu_level; static */
    double int8_rate;  /* multiply-adds per second of 8-bit products with exact 32-bit sums */
    double float_rate; /* the same of f32 */
};
struct carat_limits {
    size_t n_threads;
    double read_rate;     /* bytes per second that all threads together read from memory */
    double read_rate_one; /* that one thread reads */
    /* Bytes per second that the system hands out and clears when all threads together write to
     * memory for the first time; 0 where so little is free that it cannot be told. Opening a model
     * is bound by it where it is low, as in a virtual machine whose host supplies memory late. */
    double fresh_rate;
    struct carat_level_limits levels[CARAT_LIMITS_LEVELS_MAX]; /* lowest first */
    size_t n_levels;
};
/* Takes some seconds, 512 MiB, and before that up to 2 GiB, at most half of what nobody uses.
 * n_threads 0: one per usable core. */
CARAT_API int carat_measure_limits(struct carat_limits *out, size_t n_threads,
                                   struct carat_error *err);

/* ---------------------------------------------------------------------------------- tokens */

enum carat_token_flags {
    CARAT_TOKENIZE_SPECIAL = 1, /* strings like <turn|> in the text become their control tokens */
    CARAT_TOKENIZE_BOS = 2,     /* put <bos> first, unless it is there already */
};
/* Writes at most capacity tokens and returns how many the text has, or a negative status. Never
 * more than text_size + 1, so a caller can size its array beforehand. Bytes that are not UTF-8
 * become byte tokens. */
CARAT_API int64_t carat_tokenize(const struct carat_engine *engine, const char *text,
                                 size_t text_size, unsigned flags, carat_token *out,
                                 size_t capacity, struct carat_error *err);
/* The bytes of one token, not terminated; special tokens give their literal text. NULL and size 0
 * for an id outside the vocabulary. Lives as long as the engine. */
CARAT_API const char *carat_token_text(const struct carat_engine *engine, carat_token token,
                                       size_t *size);
CARAT_API bool carat_token_is_special(const struct carat_engine *engine, carat_token token);
CARAT_API bool carat_token_is_stop(const struct carat_engine *engine, carat_token token);

/* Tokens to text, one token at a time, never half a character: an unfinished UTF-8 sequence is held
 * back, bytes that can never become valid become U+FFFD. */
struct carat_detokenizer;
CARAT_API int carat_detokenizer_new(struct carat_detokenizer **out,
                                    const struct carat_engine *engine, bool skips_special,
                                    struct carat_error *err);
/* What may be shown after this token; borrowed until the next call on d. */
CARAT_API const char *carat_detokenizer_feed(struct carat_detokenizer *d, carat_token token,
                                             size_t *size);
/* What was held back at the end; resets d. */
CARAT_API const char *carat_detokenizer_flush(struct carat_detokenizer *d, size_t *size);
CARAT_API void carat_detokenizer_free(struct carat_detokenizer *d);

/* ---------------------------------------------------------------------------------- media */

/* A picture, a sound or a film, decoded and brought to the form the model reads: pictures resized
 * so that both sides are multiples of a block (48 pixels), sound as 16 kHz mono. A block of a
 * picture or 640 samples (40 ms) of sound become one soft token. docs/media.md has the rules and
 * the limits. */
enum carat_media_type { CARAT_MEDIA_IMAGE = 1, CARAT_MEDIA_AUDIO, CARAT_MEDIA_VIDEO };

/* What may be spent on one medium. Zero means the default in brackets. A medium over a limit is
 * refused with CARAT_E_FULL, from its headers where these tell, before anything large is
 * allocated. */
struct carat_media_limits {
    uint64_t file_size_max; /* bytes of the file [1 GiB] */
    uint64_t pixels_max;    /* width * height of a picture or frame [100 million] */
    double seconds_max;     /* duration of a sound or film [3 hours] */
    uint64_t memory_max;    /* bytes while decoding [2 GiB] */
    double decode_seconds;  /* time that decoding may take [120 s and the duration] */
    size_t frames_max;      /* frames kept of a film [1024] */
};

struct carat_media_source {
    enum carat_media_type type; /* what to read it as; a film read as AUDIO gives its sound track */

    /* Exactly one of these says where it comes from; all are read during the call only. */
    const char *path; /* a file */
    const void *data; /* the bytes of a file [size] */
    size_t size;
    const uint8_t *pixels; /* IMAGE [height][width][3]; VIDEO [n_pixel_frames][height][width][3] */
    const float *samples;  /* AUDIO [n_samples][n_channels], in -1..1 */
    bool is_open;          /* AUDIO: nothing yet, or samples: more comes by carat_media_feed or
                              carat_media_append, the end by carat_media_finish */

    uint32_t width, height;      /* of pixels */
    size_t n_pixel_frames;       /* of pixels, VIDEO */
    const double *pixel_seconds; /* VIDEO: when each frame is shown [n_pixel_frames] */
    size_t n_samples;            /* per channel */
    uint32_t sample_rate;        /* of samples, or of what will be appended */
    uint32_t n_channels;         /* 0: 1 */

    /* How to read it. */
    uint32_t image_tokens; /* most soft tokens of a picture, of each frame of a film: 70, 140, 280,
                              560 or 1120. 0: for a picture the smallest of them that does not
                              shrink it (1120 when it is larger), for a frame 70 */
    bool keeps_size;       /* pixels have sides that are multiples of the block: no resizing */
    uint32_t block;        /* side of a block in pixels; 0: 48, as in every published model */
    bool blends_alpha; /* see-through pixels are blended on white and the orientation in the file
                          is left alone, as programs do that hand over an opened picture; by
                          default alpha is dropped and the orientation applied */
    size_t n_frames;   /* VIDEO: frames to take, evenly spread; 0: 32 for each minute begun */
    double frames_per_second; /* VIDEO: instead of n_frames; 0: unset */
    bool drops_sound;         /* VIDEO: without the sound track */
    double segment_seconds;   /* sound, and sound tracks, longer than this become several spans with
                                 their times; 0: 30 s, the model's stated limit; negative: never */
    struct carat_media_limits limits;
    carat_on_progress on_progress; /* NULL: none; may stop it */
    void *user;
};

struct carat_media;
CARAT_API int carat_media_new(struct carat_media **out, const struct carat_media_source *source,
                              struct carat_error *err);
/* A sound that is_open: the next bytes of a WAV file that is being written, from its first byte on,
 * in pieces of any size; or, when sample_rate was given, the next samples [n][n_channels]. What has
 * arrived can be put into a prompt at any time: the prompt then ends behind the last whole frame,
 * and a session that syncs to it has that part ready when the rest comes. */
CARAT_API int carat_media_feed(struct carat_media *media, const void *data, size_t size,
                               struct carat_error *err);
CARAT_API int carat_media_append(struct carat_media *media, const float *samples, size_t n,
                                 struct carat_error *err);
CARAT_API int carat_media_finish(struct carat_media *media, struct carat_error *err);
CARAT_API void carat_media_free(struct carat_media *media);

struct carat_media_info {
    enum carat_media_type type;
    const char *format;    /* "png", "wav", "mov,mp4", "pixels", ...: static or with the medium */
    uint32_t source_width; /* as it is to be looked at: after the orientation */
    uint32_t source_height;
    double source_seconds; /* duration of a sound or film */
    uint32_t source_rate;  /* of sound */
    uint32_t source_channels;
    size_t source_frames; /* of a film */
    double source_fps;
    size_t n_frames;        /* pictures to be embedded: 1 for a picture */
    uint32_t width, height; /* of each, both multiples of the block */
    uint32_t block;
    size_t n_samples;  /* at 16 kHz */
    size_t n_tokens;   /* soft tokens in all, without markers and times */
    size_t n_segments; /* spans of sound */
    uint8_t hash[16];  /* of the whole content with its dimensions; of a sound so far */
    bool is_open;
};
/* Lives as long as the medium, and changes when it is fed. */
CARAT_API const struct carat_media_info *carat_media_info(const struct carat_media *media);
/* Picture i [height][width][3] and when it is shown (may be NULL). Lives as long as the medium. */
CARAT_API const uint8_t *carat_media_frame(const struct carat_media *media, size_t i,
                                           double *seconds);
/* 16 kHz mono; until the medium is fed again. */
CARAT_API const float *carat_media_samples(const struct carat_media *media, size_t *n);
/* The size a picture gets, docs/media.md. tokens 0: automatic. */
CARAT_API int carat_image_size(uint32_t *out_width, uint32_t *out_height, uint32_t width,
                               uint32_t height, uint32_t tokens, uint32_t block,
                               struct carat_error *err);
/* Whether this build has what reads most formats ("ffmpeg"), JPEG ("jpeg"), HEIC ("heif"). */
CARAT_API bool carat_media_has(const char *feature);
/* Sound longer than the segments, a film thinned out and the like: what was done with a medium that
 * its user should know, one line each; NULL past the last. Lives as long as the medium. */
CARAT_API const char *carat_media_note(const struct carat_media *media, size_t i);
/* A medium as bytes and back, for a program that decodes in a process of its own: the libraries
 * that read files of strangers may be brought to crash, and to worse. put gets the bytes in order,
 * in pieces; get fills out with the next size bytes; both give 0 or a negative status, which is
 * passed on. What carat_media_read makes is the same medium, hash and all, when source is what it
 * was made with; where it came from, and on_progress, are not looked at. It does not believe the
 * bytes: what does not fit source (type, sizes, limits) is CARAT_E_FORMAT or CARAT_E_FULL, before
 * anything large is allocated. The bytes are for the same version on the same machine. */
typedef int (*carat_media_put)(void *user, const void *data, size_t size, struct carat_error *err);
typedef int (*carat_media_get)(void *user, void *out, size_t size, struct carat_error *err);
CARAT_API int carat_media_write(const struct carat_media *media, carat_media_put put, void *user,
                                struct carat_error *err);
CARAT_API int carat_media_read(struct carat_media **out, const struct carat_media_source *source,
                               carat_media_get get, void *user, struct carat_error *err);

/* A tensor on its way through the model: rows [n_rows, n_columns], row i at position first + i of
 * the timeline. Names: "embed", "hidden" (with its layer), "norm", "logits"; and what is multiplied
 * with the matrices of a layer: "attn_in" (q, k, v), "attn_out_in", "ffn_in" (gate, up),
 * "ffn_down_in". layer is -1 outside layers. */
typedef void (*carat_on_tensor)(void *user, const char *name, int layer, size_t first,
                                size_t n_rows, size_t n_columns, const float *rows);

/* Runs the projections alone: on_tensor (may be NULL) gets "vision.patch_dense",
 * "vision.patch_ln2", "vision.pos_norm" and "vision.embeds" or "audio.embeds" for the medium's soft
 * tokens in order, in slices; first counts soft tokens of the medium. */
CARAT_API int carat_media_embed(struct carat_engine *engine, const struct carat_media *media,
                                carat_on_tensor on_tensor, void *user, struct carat_error *err);

/* ---------------------------------------------------------------------------------- prompts */

enum carat_part_type {
    CARAT_PART_TEXT = 0,
    CARAT_PART_JSON, /* the one part of a tool message: the result is this JSON value, not a text */
    CARAT_PART_IMAGE,
    CARAT_PART_AUDIO,
    CARAT_PART_VIDEO,
};
struct carat_part {
    enum carat_part_type type;
    const char *text; /* TEXT, JSON */
    size_t text_size; /* 0: text is terminated */
    /* IMAGE, AUDIO, VIDEO: of that type; the prompt copies what it needs. NULL: one placeholder
     * token, which is rendered but cannot be evaluated. */
    const struct carat_media *media;
};

struct carat_tool_call {
    const char *id; /* may be NULL */
    const char *name;
    const char *arguments; /* JSON: an object, or NULL for none. A JSON string that holds an object
                              is refused or pasted, as the template version does */
    const char *sampled;   /* the call as the model wrote it, from CARAT_EVENT_CALL_END: written
                              byte for byte in place of name and arguments. NULL: written anew */
};
struct carat_tool_response {
    const char *name;     /* may be NULL: "unknown" */
    const char *response; /* JSON */
};

struct carat_message {
    const char *role; /* "system", "developer", "user", "assistant", "tool"; others as they are */
    const struct carat_part *parts; /* the content: one TEXT part for a string, even an empty one */
    size_t n_parts; /* 0: null or missing, or with is_part_list an empty list. A part of a type that
                       is not known here: an empty TEXT */
    bool is_part_list;     /* the content was a list, not a string: only matters below two parts */
    const char *reasoning; /* the thought of an earlier answer, or NULL */
    const struct carat_tool_call *calls;
    size_t n_calls;
    const struct carat_tool_response *responses; /* results kept on the assistant message itself */
    size_t n_responses;
    const char *tool_call_id; /* role "tool": which call this answers, or NULL */
    const char *name;         /* role "tool": the tool's name, or NULL */
};

enum carat_template {
    CARAT_TEMPLATE_AUTO = 0, /* what the model file carries; canonical when it carries none */
    CARAT_TEMPLATE_CANONICAL,
    CARAT_TEMPLATE_CANONICAL_EDGE,
    CARAT_TEMPLATE_REVISION_2026_04,
    CARAT_TEMPLATE_INTERLEAVED,
    CARAT_TEMPLATE_LAUNCH,
};

struct carat_chat {
    const struct carat_message *messages;
    size_t n_messages;
    const char *tools; /* JSON array in the OpenAI form, or NULL */
    enum carat_template chat_template;
    bool thinks;             /* enable_thinking */
    bool preserves_thinking; /* preserve_thinking */
    bool is_complete;        /* no generation prompt at the end (add_generation_prompt = false) */
    bool continues_final;    /* the last message is the beginning of the answer: leave it open */
    bool trusts_markers; /* control strings such as <turn|> inside content become control tokens;
                            by default they are plain text */
    bool sound_first;    /* the sounds of a user message come before its other parts: a model that
                            hears badly behind much text hears better so. docs/media.md */
};

struct carat_prompt;
/* Media become their markers, times and placeholders, docs/media.md. A sound that is open ends the
 * prompt behind its last whole frame; what would come after it is left off. */
CARAT_API int carat_prompt_from_chat(struct carat_prompt **out, const struct carat_engine *engine,
                                     const struct carat_chat *chat, struct carat_error *err);
/* Raw completion: <bos>, then the text. flags as for carat_tokenize; BOS is always there. */
CARAT_API int carat_prompt_from_text(struct carat_prompt **out, const struct carat_engine *engine,
                                     const char *text, size_t text_size, unsigned flags,
                                     struct carat_error *err);
CARAT_API int carat_prompt_from_tokens(struct carat_prompt **out, const struct carat_engine *engine,
                                       const carat_token *tokens, size_t n,
                                       struct carat_error *err);
/* Gives the placeholders of a prompt made from tokens their media: each run of image or video
 * placeholders takes the next picture or frame, each run of audio placeholders the next span of
 * sound, in the order of the media. Lengths must agree, and nothing may be left over; on failure
 * the prompt is as it was. Once for a prompt. */
CARAT_API int carat_prompt_add_media(struct carat_prompt *prompt, const struct carat_engine *engine,
                                     const struct carat_media *const *media, size_t n,
                                     struct carat_error *err);
/* Both live as long as the prompt. The text is the rendered prompt with its markers spelled out;
 * NULL for a prompt made from tokens. */
CARAT_API const carat_token *carat_prompt_tokens(const struct carat_prompt *prompt, size_t *n);
CARAT_API const char *carat_prompt_text(const struct carat_prompt *prompt, size_t *size);
/* Whether the prompt ends inside an open thought: the answer then begins as reasoning. */
CARAT_API bool carat_prompt_opens_thought(const struct carat_prompt *prompt);
/* Which version of the chat template the model file carries: "canonical", "canonical-edge",
 * "revision-2026-04", "interleaved", "launch", "none" or "unknown". Static. */
CARAT_API const char *carat_chat_template_name(const struct carat_engine *engine);
CARAT_API void carat_prompt_free(struct carat_prompt *prompt);

/* ---------------------------------------------------------------------------------- the cache */

/* What sessions of one engine have seen, so that none of them reads it again: the beginnings that
 * live sessions hold, and snapshots on disk of timelines that had to make room. A session that was
 * made with a cache looks here whenever it is synced or prepared. Thread-safe; freed after its
 * sessions. docs/caches.md */
struct carat_cache_options {
    const char *folder; /* for snapshots, made when it is not there; NULL: none are kept */
    uint64_t size_max;  /* bytes of all snapshots in the folder; 0: 8 GiB. The ones that were not
                           used for longest go first */
    size_t tokens_min;  /* timelines, and common beginnings, shorter than this are not worth it; 0:
                           64 */
};
struct carat_cache;
CARAT_API int carat_cache_new(struct carat_cache **out, struct carat_engine *engine,
                              const struct carat_cache_options *options, struct carat_error *err);
CARAT_API void carat_cache_free(struct carat_cache *cache);
struct carat_cache_stats {
    uint64_t n_live_hits;     /* beginnings copied from another session */
    uint64_t n_disk_hits;     /* beginnings read from a snapshot */
    uint64_t n_written;       /* snapshots written */
    uint64_t n_dropped;       /* snapshots removed to keep to the size, or because damaged */
    uint64_t tokens_reused;   /* in all, a session's own beginnings included */
    uint64_t tokens_prompted; /* tokens of all prompts */
    size_t n_snapshots;
    uint64_t snapshot_bytes;
};
CARAT_API void carat_cache_stats(struct carat_cache *cache, struct carat_cache_stats *out);

/* ---------------------------------------------------------------------------------- sessions */

struct carat_session_options {
    size_t context_max; /* most tokens in the timeline; 0: the model's, at most 32768 */
    enum carat_dtype_kv kv_type;
    size_t rewind_max;         /* once a timeline is longer than the sliding window, sync can take
                                  back this many tokens without evaluating all again; each costs a
                                  slot in every sliding layer. 0: only the window itself is kept */
    size_t prefill_chunk;      /* tokens evaluated together; 0: 512. A picture is evaluated in one
                                  piece: above 1120 soft tokens it needs a chunk that large */
    bool sound_sees_ahead;     /* sound tokens of one span see each other in both directions in the
                                  sliding layers, as those of a picture do: off the published rule,
                                  docs/media.md says what for */
    bool has_all_logits;       /* compute logits at every position, for on_tensor and nobody else */
    struct carat_cache *cache; /* of the same engine, or NULL */
    bool returns_to_prompt; /* the timeline can be taken back to the end of the last prompt however
                               long the answer is, as for a client that leaves thoughts out of
                               what it sends back: room for another window in every sliding
                               layer, which is used once an answer is longer than rewind_max */
    carat_on_progress on_progress; /* while evaluating a prompt, in tokens, layer by layer: it must
                                      not call back into the engine */
    carat_on_tensor on_tensor;
    void *user; /* for both */
};

/* What a model will cost, from the file's headers alone; the process keeps within it. Bytes. */
struct carat_memory {
    uint64_t weights;    /* matrices, packed for the kernels: as large as in the file */
    uint64_t tables;     /* vocabulary, norms and other copies made while opening; headers */
    uint64_t kv_sliding; /* kv cache of the sliding layers: fixed by the window */
    uint64_t kv_full; /* kv cache of the full layers and their rotations: grows with the context */
    uint64_t scratch; /* activations, attention, logits, threads' stacks */
    uint64_t total;
    size_t context_max; /* the context these figures are for */
};
CARAT_API int carat_estimate(struct carat_memory *out, const struct carat_engine_options *engine,
                             const struct carat_session_options *session, struct carat_error *err);
/* The same for an engine that is open. */
CARAT_API int carat_engine_estimate(struct carat_memory *out, const struct carat_engine *engine,
                                    const struct carat_session_options *session,
                                    struct carat_error *err);

/* What evaluating tokens costs, counted: bytes read from memory (weights once for each chunk, the
 * kv cache) and multiply-adds of either kind. */
struct carat_cost {
    double bytes;
    double weight_bytes; /* of them, those of the weights */
    double int8_products;
    double float_products;
};
/* Of n tokens at positions first .. first + n - 1, logits of the last one included; n = 1 is a step
 * of decoding at depth `first`. */
CARAT_API int carat_engine_cost(struct carat_cost *out, const struct carat_engine *engine,
                                const struct carat_session_options *session, size_t first, size_t n,
                                struct carat_error *err);

struct carat_session;
CARAT_API int carat_session_new(struct carat_session **out, struct carat_engine *engine,
                                const struct carat_session_options *options,
                                struct carat_error *err);
/* Makes the timeline equal this prompt, by the longest common beginning; evaluates what is missing,
 * in chunks. *reused (may be NULL) gets the number of tokens that did not have to be evaluated.
 * Pictures and sound count as equal where their content is; a picture is kept whole or evaluated
 * again. With sound_sees_ahead a span of sound that is open is left for later: the timeline then
 * ends before it. When on_progress stops it, the timeline holds the whole chunks that were done,
 * and another sync must come before anything else is appended. */
CARAT_API int carat_session_sync(struct carat_session *session, const struct carat_prompt *prompt,
                                 size_t *reused, struct carat_error *err);
/* sync in steps, for who serves several sessions at once: cuts the timeline to what it shares with
 * the prompt (or fills it from the cache), evaluates nothing, and keeps a copy of what the rest of
 * the prompt needs. Steps of carat_decode whose token is CARAT_TOKEN_NONE then evaluate it piece by
 * piece. *reused as for sync. Anything else that changes the timeline forgets the rest. */
CARAT_API int carat_session_prepare(struct carat_session *session,
                                    const struct carat_prompt *prompt, size_t *reused,
                                    struct carat_error *err);
/* What prepare has to do with the cache's folder, and evaluates nothing, ahead of it: a timeline
 * that is about to be cut is written, a snapshot that serves the prompt is read. That takes as long
 * as the disk does, so that who serves several sessions does it on another thread, where needs_disk
 * says so, while rounds of the others go on; nothing else may be done with this session meanwhile.
 * prepare then finds what it needs in memory, unless the folder changed. needs_disk without a
 * prompt asks for one that begins anew, as an embedding does: then carat_session_keep is all there
 * is. */
CARAT_API bool carat_session_needs_disk(const struct carat_session *session,
                                        const struct carat_prompt *prompt);
CARAT_API int carat_session_prepare_disk(struct carat_session *session,
                                         const struct carat_prompt *prompt,
                                         struct carat_error *err);
/* After a round: the timeline ends where prompts are known to part, so that a snapshot is worth
 * keeping before the session's next step (carat_session_keep, on any thread, as above). sync does
 * so by itself. */
CARAT_API bool carat_session_parts(const struct carat_session *session);
/* Tokens of the prepared prompt that are still to be evaluated. */
CARAT_API size_t carat_session_pending(const struct carat_session *session);
/* How many tokens of this prompt the session's own timeline would spare, without the cache. */
CARAT_API size_t carat_session_common(const struct carat_session *session,
                                      const struct carat_prompt *prompt);
/* Puts a snapshot of the timeline into the cache's folder, unless it is there already, so that it
 * outlives the session: before the session is freed, say. Nothing happens without a folder. */
CARAT_API int carat_session_keep(struct carat_session *session, struct carat_error *err);
/* One timeline in a file: written whole or not at all, with a checksum. Loading replaces the
 * session's timeline. A file of another model, of other options of the kv cache, of another version
 * or with damage is CARAT_E_FORMAT; the timeline is then empty or as it was. */
CARAT_API int carat_session_save(struct carat_session *session, const char *path,
                                 struct carat_error *err);
CARAT_API int carat_session_load(struct carat_session *session, const char *path,
                                 struct carat_error *err);
/* Makes the timeline equal the prompt and gives the mean over all positions of the last layer's
 * normalised hidden state, scaled to length 1: [hidden_size]. A generative model's pooled state
 * serves for likeness among texts; it was not trained as an embedding. */
CARAT_API int carat_session_embed(struct carat_session *session, const struct carat_prompt *prompt,
                                  float *out, struct carat_error *err);
/* embed in steps, as carat_session_prepare is sync in steps. Once nothing is pending the second
 * gives the same numbers, to the bit, until the timeline changes; before and after, it is
 * CARAT_E_ARGUMENT. */
CARAT_API int carat_session_prepare_embedding(struct carat_session *session,
                                              const struct carat_prompt *prompt,
                                              struct carat_error *err);
CARAT_API int carat_session_embedding(const struct carat_session *session, float *out,
                                      struct carat_error *err);
/* Appends n tokens and stores log p(token i | all before it) in logprobs[i] (may be NULL). On an
 * empty timeline the first has no probability: 0 is stored. Here and in carat_decode a placeholder
 * is a token like any other: pictures and sound come by sync. */
CARAT_API int carat_session_score(struct carat_session *session, const carat_token *tokens,
                                  size_t n, float *logprobs, struct carat_error *err);
/* Logits [n_vocab] after the last token; NULL when there are none: on an empty timeline, or after a
 * sync that was stopped. Borrowed until the session's next evaluation. */
CARAT_API const float *carat_session_logits(const struct carat_session *session);
CARAT_API const carat_token *carat_session_tokens(const struct carat_session *session, size_t *n);
CARAT_API size_t carat_session_context_max(const struct carat_session *session);
/* For measuring speed at depth: makes the timeline n positions long without evaluating any. The
 * cache gets made-up rows, of the size that the model's own have and the same ones each time, and
 * steps of carat_decode then cost what they cost behind n real tokens. No text comes of it: the
 * timeline has no logits, not even after steps, so that carat_generate and carat_session_score
 * refuse it; its tokens are 0; the next sync begins anew. */
CARAT_API int carat_session_fill(struct carat_session *session, size_t n, struct carat_error *err);
CARAT_API void carat_session_free(struct carat_session *session);

/* ---------------------------------------------------------------------------------- grammars */

/* What an answer may be. Tokens that lead nowhere are never sampled, so an answer that ends by
 * itself is always right: text that fits the schema, expression or choices, and calls whose
 * arguments fit the declared parameters. Thoughts are free. docs/grammars.md lists the keywords and
 * the syntax; what is outside of them is CARAT_E_UNSUPPORTED, naming the place. Only of tools that
 * do not say "strict" it is passed over. */
enum carat_tool_choice {
    CARAT_TOOLS_AUTO = 0, /* text or calls; a call that begins is held to the declarations */
    CARAT_TOOLS_NONE,     /* no call begins */
    CARAT_TOOLS_REQUIRED, /* at least one call, and no text */
};
struct carat_grammar_options {
    /* What the text must be; at most one. All NULL: anything. */
    const char *json_schema; /* JSON Schema; "{}" is any JSON value */
    const char *regex;       /* matches the whole text */
    const char *const *choices;
    size_t n_choices;
    /* Calls. */
    const char *tools; /* JSON array in the OpenAI form, as in carat_chat; NULL: no calls */
    enum carat_tool_choice tool_choice;
    const char *tool_name; /* REQUIRED: this one; NULL: any */
    bool is_single_call;   /* the answer ends after one call */
    bool starts_in_thought;
    bool has_no_thoughts; /* what is held to a form does not begin with a thought, either: for chats
                             that do not think, whose model might else flee into one */
};
/* Immutable, shared by threads and samplers; freed after the samplers that use it. */
struct carat_grammar;
CARAT_API int carat_grammar_new(struct carat_grammar **out, const struct carat_engine *engine,
                                const struct carat_grammar_options *options,
                                struct carat_error *err);
CARAT_API void carat_grammar_free(struct carat_grammar *grammar);

/* Notices an answer that goes round in circles, whatever it is in the middle of: the newest tokens
 * are a piece of text that came many times in a row. docs/sampling.md has the rule. */
struct carat_loop_guard;
CARAT_API int carat_loop_guard_new(struct carat_loop_guard **out, struct carat_error *err);
/* Takes a sampled token; true when the answer loops. */
CARAT_API bool carat_loop_guard_feed(struct carat_loop_guard *guard, carat_token token);
CARAT_API void carat_loop_guard_free(struct carat_loop_guard *guard);

/* ---------------------------------------------------------------------------------- sampling */

struct carat_logit_bias {
    carat_token token;
    float bias; /* added to the logit; -INFINITY forbids */
};

/* Stages run in this order, as in Hugging Face transformers: bias and suppressed tokens, penalties,
 * temperature, top-k, top-p, min-p, draw. top-p and min-p see the probabilities that temperature
 * and the stages before them left. docs/sampling.md has the formulas. */
struct carat_sampling {
    float temperature;        /* 0: greedy, the most likely token after bias and penalties */
    size_t top_k;             /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off; divides positive logits, multiplies negative ones, of
                                 tokens that were accepted or picked */
    float frequency_penalty;  /* 0: off; subtracted for each time a token was picked */
    float presence_penalty;   /* 0: off; subtracted once from tokens that were picked */
    size_t penalty_window;    /* penalties look at this many newest tokens; 0: all */
    const struct carat_logit_bias *biases; /* copied by carat_sampler_new */
    size_t n_biases;
    uint64_t seed; /* 0: a random one, which carat_sampler_seed tells */
    size_t n_top;  /* keep log-probabilities of this many best tokens, at most 100 */
    const struct carat_grammar *grammar; /* NULL: none. Borrowed until the sampler is freed. Every
                                            pick moves it on; before the bias stage it forbids what
                                            it does not allow */
};
/* The model's own generation config, or temperature 1.0, top-k 64, top-p 0.95. */
CARAT_API void carat_sampling_init(struct carat_sampling *out, const struct carat_engine *engine);

struct carat_logprob {
    carat_token token;
    float logprob; /* under the model's distribution, before any stage */
};

struct carat_sampler;
/* sampling may be NULL: carat_sampling_init's. */
CARAT_API int carat_sampler_new(struct carat_sampler **out, const struct carat_engine *engine,
                                const struct carat_sampling *sampling, struct carat_error *err);
CARAT_API carat_token carat_sampler_pick(struct carat_sampler *sampler, const float *logits);
/* Tells the sampler of a token that it did not pick, such as the prompt's: it counts for the
 * repetition penalty. carat_sampler_pick counts its own picks, for all penalties. */
CARAT_API void carat_sampler_accept(struct carat_sampler *sampler, carat_token token);
/* Of the last pick: the token's own log-probability, then the n_top best, best first. Borrowed
 * until the next pick; *n is 0 unless n_top was set (then n_top + 1). */
CARAT_API const struct carat_logprob *carat_sampler_logprobs(const struct carat_sampler *sampler,
                                                             size_t *n);
CARAT_API uint64_t carat_sampler_seed(const struct carat_sampler *sampler);
CARAT_API void carat_sampler_free(struct carat_sampler *sampler);

/* ---------------------------------------------------------------------------------- events */

enum carat_event_type {
    CARAT_EVENT_TEXT,      /* a piece of the answer */
    CARAT_EVENT_THOUGHT,   /* a piece of reasoning */
    CARAT_EVENT_CALL,      /* a tool call begins: text is the name */
    CARAT_EVENT_CALL_ARGS, /* a piece of its arguments as JSON */
    CARAT_EVENT_CALL_END,  /* the call as sampled, markers included, to hand back later */
    CARAT_EVENT_STOP,      /* the end: see stop */
};
enum carat_stop {
    CARAT_STOP_NONE,
    CARAT_STOP_TURN,   /* the model ended its turn */
    CARAT_STOP_TOOL,   /* the same, and it made calls whose results it waits for */
    CARAT_STOP_STRING, /* a stop string was met: text names it */
    CARAT_STOP_LENGTH, /* max_tokens or the context is used up */
    CARAT_STOP_USER,   /* the callback asked */
    CARAT_STOP_LOOP,   /* the loop guard noticed that the answer goes round in circles */
};
struct carat_event {
    enum carat_event_type type;
    enum carat_stop stop;
    const char *text; /* whole UTF-8 characters, terminated; borrowed until the next feed */
    size_t size;
    carat_token token; /* the token that brought it, or CARAT_TOKEN_NONE */
};

struct carat_parser;
struct carat_parser_options {
    const char *const *stops; /* stop strings, matched in the answer's text; copied */
    size_t n_stops;
    bool starts_in_thought; /* carat_prompt_opens_thought */
    bool is_raw;            /* no chat structure: all text is TEXT, special tokens dropped; only
                               the model's stop tokens and the stop strings end it */
};
CARAT_API int carat_parser_new(struct carat_parser **out, const struct carat_engine *engine,
                               const struct carat_parser_options *options, struct carat_error *err);
/* Takes one token. The events that it brought are then read with carat_parser_next, until that
 * returns false. After a STOP event nothing more comes, and what is fed is ignored. The pieces of
 * one message joined give the same result however the model's text was cut into tokens. A call is
 * announced only once it is known to be whole; text that might still turn out to be surrounding
 * white space or part of a stop string is held back. */
CARAT_API int carat_parser_feed(struct carat_parser *parser, carat_token token,
                                struct carat_error *err);
/* The same for text whose markers are spelled out (a recorded answer, another engine's output). */
CARAT_API int carat_parser_feed_text(struct carat_parser *parser, const char *text, size_t size,
                                     struct carat_error *err);
/* No more tokens will come (why: usually CARAT_STOP_LENGTH): gives what was held back, and STOP. */
CARAT_API int carat_parser_finish(struct carat_parser *parser, enum carat_stop why,
                                  struct carat_error *err);
/* The next event in order; false when there is none until the next feed. */
CARAT_API bool carat_parser_next(struct carat_parser *parser, struct carat_event *event);
CARAT_API void carat_parser_free(struct carat_parser *parser);

/* ---------------------------------------------------------------------------------- generating */

struct carat_step {
    struct carat_session *session;
    carat_token token;   /* appended to the session's timeline; its logits follow.
                            CARAT_TOKEN_NONE: the next tokens of what it was prepared with */
    size_t n_tokens_max; /* of these, at most (0: a chunk, and never more than that); a picture is
                            evaluated in one piece, however large. Logits come with the last of all
                            that is prepared. on_progress is not called */
};
/* One round over n different sessions of one engine, evaluated together: what comes out does not
 * depend on what else is in the round. Pieces of prompts beyond what the engine evaluates at once
 * are left for later rounds, in the order of the steps: look at carat_session_pending. On failure
 * no timeline changed. */
CARAT_API int carat_decode(const struct carat_step *steps, size_t n, struct carat_error *err);

/* Called for each event; return false to stop (the parser then gives CARAT_STOP_USER). */
typedef bool (*carat_on_event)(void *user, const struct carat_event *event);

/* Picks, feeds and decodes until something stops it or max_tokens (0: the context's end) are made.
 * The session then holds every token that was sampled but the last: the next sync brings what
 * follows. *n_generated may be NULL. */
CARAT_API int carat_generate(struct carat_session *session, struct carat_sampler *sampler,
                             struct carat_parser *parser, size_t max_tokens,
                             carat_on_event on_event, void *user, size_t *n_generated,
                             struct carat_error *err);

#ifdef __cplusplus
}
#endif

#endif
