/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carat: long jobs on model files: shrinking, converting, and the importance of weights. Installed
 * beside carat.h, whose conventions hold here, too. docs/quantize.md explains what is done.
 */
#ifndef CARAT_JOBS_H
#define CARAT_JOBS_H

#include "carat.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------- importance */

/* How much each column of each matrix matters: the mean square of what is multiplied with it, over
 * the tokens of some prompts. Given to carat_quantize, errors in columns that matter count more.
 * Names are those of GGUF ("blk.0.attn_q.weight"). */
struct carat_importance;
CARAT_API int carat_importance_new(struct carat_importance **out, struct carat_error *err);
/* Of an imatrix file, in GGUF or in the older form. */
CARAT_API int carat_importance_read(struct carat_importance **out, const char *path,
                                    struct carat_error *err);
/* Evaluates the prompt from its beginning, pictures and sound included, and adds up what its tokens
 * bring. A prompt longer than context_max (0: 4096) tokens is refused. */
CARAT_API int carat_importance_collect(struct carat_importance *importance,
                                       struct carat_engine *engine,
                                       const struct carat_prompt *prompt, size_t context_max,
                                       carat_on_progress on_progress, void *user,
                                       struct carat_error *err);
/* Writes an imatrix file in GGUF, or, where the name ends in .dat, in the older form. dataset: what
 * the prompts were, for whoever reads it; may be NULL. */
CARAT_API int carat_importance_write(const struct carat_importance *importance, const char *path,
                                     const char *dataset, struct carat_error *err);
struct carat_importance_info {
    size_t n_matrices;
    uint64_t n_tokens; /* 0: a file did not say */
};
CARAT_API void carat_importance_info(const struct carat_importance *importance,
                                     struct carat_importance_info *out);
/* The mean squares [*n] of one matrix; NULL when there are none. Lives as long as the importance,
 * until more is collected. */
CARAT_API const float *carat_importance_of(const struct carat_importance *importance,
                                           const char *matrix, size_t *n);
CARAT_API void carat_importance_free(struct carat_importance *importance);

/* ---------------------------------------------------------------------------------- quantizing */

/* Where the projections of pictures and sound go. */
enum carat_projector_place {
    CARAT_PROJECTOR_AUTO = 0, /* where they are: inside of a GGUF that has them, and apart for a
                                 checkpoint, because other engines want them so */
    CARAT_PROJECTOR_INSIDE,   /* into the model's file */
    CARAT_PROJECTOR_APART,    /* into a file of their own, see projector_target */
    CARAT_PROJECTOR_NONE,     /* nowhere */
};

/* What became of one tensor. Strings are borrowed for the call. */
struct carat_tensor_report {
    const char *name;
    const char *role; /* "attn_q", "ffn_down", "token_embd", ...; "other" */
    int layer;        /* -1: none */
    const char *from; /* element types; of tensors that are made anew: "F32" */
    const char *to;
    const char *instead_of; /* the type that the recipe asked for, whose blocks do not fit the rows;
                               NULL: it got what was asked for */
    uint64_t n_values;
    uint64_t from_size; /* bytes */
    uint64_t to_size;
    double error;  /* sum of (new - old)^2, weighted by importance where there is some; 0 when
                      copied;  negative: not known */
    double energy; /* the same sum of old^2 */
    bool is_projector;
    bool is_planned; /* is_dry_run: nothing was written */
};
typedef void (*carat_on_tensor_done)(void *user, const struct carat_tensor_report *report);

struct carat_quantize_result {
    uint64_t file_size;      /* bytes, with metadata */
    uint64_t projector_size; /* of a projector file that was made; 0: none */
    size_t n_tensors;
    size_t n_resumed; /* of these, the ones that an earlier run had finished */
    uint64_t resumed_size;
};

struct carat_quantize_options {
    const char *source;    /* a GGUF file (the first of a split set) or a Hugging Face directory */
    const char *target;    /* the GGUF file to make */
    const char *type;      /* an element type, a mix, or "auto:SIZE"; carat_quantize_type_at lists
                              them. NULL: as in the source */
    const char *projector; /* a GGUF file whose projections go to the target; NULL: the source's */
    enum carat_projector_place projector_place;
    const char *projector_target; /* NULL: "mmproj-" and the target's name, beside it */
    const char *const *rules; /* "PART=TYPE": matrices whose name has PART get that type. The first
                                 that fits counts */
    size_t n_rules;
    const struct carat_importance *importance; /* may be NULL */
    bool is_pure;         /* every matrix gets the type, embedding and output included */
    bool is_dry_run;      /* only say what would become of each tensor */
    bool measures_errors; /* fill in error and energy */
    bool overwrites;      /* an existing target is replaced, an unfinished one of other options or
                             another source dropped */
    size_t n_threads;     /* 0: one per usable core */
    carat_on_tensor_done on_tensor; /* may be NULL; for each tensor in order, on the calling thread,
                                       those of an earlier run included */
    void *tensor_user;
    struct carat_quantize_result *result; /* may be NULL */
};
/* Writes a GGUF file, in memory that does not grow with the model. The file has another name until
 * it is whole. When the work is stopped or its process ends, the same call goes on behind the last
 * finished tensor, and the result is the same byte for byte. on_progress counts bytes of the
 * source. */
CARAT_API int carat_quantize(const struct carat_quantize_options *options,
                             carat_on_progress on_progress, void *user, struct carat_error *err);

/* The types that carat_quantize knows, one after the other; false past the last. */
struct carat_quantize_type {
    const char *name;
    const char *what; /* one line */
};
CARAT_API bool carat_quantize_type_at(size_t i, struct carat_quantize_type *out);

/* ---------------------------------------------------------------------------------- converting */

enum carat_convert_type {
    CARAT_CONVERT_AUTO = 0, /* BF16 for weights that are BF16 or quantized, else as they are */
    CARAT_CONVERT_BF16,
    CARAT_CONVERT_F16,
    CARAT_CONVERT_F32,
};
struct carat_convert_options {
    const char *source;    /* a GGUF file */
    const char *target;    /* the directory to make, as of a Hugging Face checkpoint */
    const char *projector; /* a GGUF file with projections to put in as well; NULL: the source's, or
                              none */
    enum carat_convert_type type;
    bool overwrites;
    bool is_dry_run;
    size_t n_threads;
    carat_on_tensor_done on_tensor;
    void *tensor_user;
    struct carat_quantize_result *result;
};
/* GGUF to a directory with model.safetensors, config.json, tokenizer.json and what else the file
 * has: dequantized, under the names of the published checkpoints. Goes on where it was stopped. The
 * other way is carat_quantize with type NULL, BF16, F16 or F32. */
CARAT_API int carat_convert(const struct carat_convert_options *options,
                            carat_on_progress on_progress, void *user, struct carat_error *err);

/* ---------------------------------------------------------------------------------- matching */

/* Whether texts are as a regular expression says; in the syntax of carat_grammar_options.regex. It
 * may match anywhere in the text unless ^ and $ hold it. Every text takes time in proportion to its
 * length, whatever the expression; one that would need too large an automaton is CARAT_E_FULL. */
struct carat_regex;
CARAT_API int carat_regex_new(struct carat_regex **out, const char *expression,
                              struct carat_error *err);
/* False for what is not UTF-8. A regex may be used by several threads. */
CARAT_API bool carat_regex_matches(const struct carat_regex *regex, const char *text, size_t size);
CARAT_API void carat_regex_free(struct carat_regex *regex);

#ifdef __cplusplus
}
#endif

#endif
