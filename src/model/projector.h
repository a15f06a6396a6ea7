// SPDX-License-Identifier: Apache-2.0
// The projections of the encoder-free model: blocks of pixels and frames of sound to soft tokens,
// rows that stand in the decoder's input where a placeholder is. docs/model.md, "Pictures and
// sound".
#ifndef CARAT_MODEL_PROJECTOR_H
#define CARAT_MODEL_PROJECTOR_H

#include "model/weights.h"

#define PROJECTOR_POSITIONS_MAX (1u << 16)
#define PROJECTOR_BLOCK_MAX     256  // pixels
#define PROJECTOR_FRAME_MAX     4096 // samples

enum projector_role {
    ROLE_PATCH_NORM1,
    ROLE_PATCH_NORM1_BIAS,
    ROLE_PATCH_DENSE,
    ROLE_PATCH_BIAS,
    ROLE_PATCH_NORM2,
    ROLE_PATCH_NORM2_BIAS,
    ROLE_POSITIONS,
    ROLE_POS_NORM,
    ROLE_POS_NORM_BIAS,
    ROLE_VISION_PROJECTION,
    ROLE_AUDIO_PROJECTION,
    ROLE_PROJECTOR_COUNT,
};

// A checkpoint stores the first spelling, behind "model." or nothing; the second is that of the
// reference's modules.
struct projector_tensor {
    const char *gguf;
    const char *safetensors[2];
};
extern const struct projector_tensor projector_table[ROLE_PROJECTOR_COUNT];

// Looks under each spelling. name gets the one that is there, or else the usual one.
#define PROJECTOR_NAME_SIZE 160
const struct source_tensor *projector_find(char name[PROJECTOR_NAME_SIZE],
                                           const struct source *source,
                                           const struct projector_tensor *t);

// The weights that pictures need (has_vision) and those that sound needs (has_audio), bound to the
// tensors of a file: the model's own, or an mmproj GGUF.
struct projector {
    bool has_vision;
    bool has_audio;
    uint32_t block;            // side of a block in pixels: 48
    uint32_t width;            // of the picture path's rows: 3840
    uint32_t n_positions;      // rows of the position table, for x and for y
    uint32_t hidden_size;      // of the decoder
    uint32_t frame_samples;    // samples of a sound frame: 640
    bool is_channel_major;     // a block's values are ordered c, y, x (GGUF), else y, x, c
    bool is_axis_major;        // position rows: axis * n_positions + i (GGUF), else i * 2 + axis
    struct weight patch_dense; // [width, block * block * 3]
    float patch_dense_factor;
    struct weight positions; // [2 * n_positions, width]
    float positions_factor;
    struct weight vision_projection; // [hidden_size, width]
    float vision_projection_factor;
    struct weight audio_projection; // [hidden_size, frame_samples]
    float audio_projection_factor;
    const float *patch_norm1[2]; // weight, bias [block * block * 3], in the file's order
    const float *patch_bias;     // [width]
    const float *patch_norm2[2]; // [width]
    const float *pos_norm[2];    // [width]
    float norm_eps;              // of the LayerNorms: 1e-5
    float vision_rms_eps;        // of the norms without weight: 1e-6
    float audio_rms_eps;
    uint64_t file_size;   // bytes of the matrices in the file
    uint64_t packed_size; // bytes of the device's copies of them
    uint64_t copied_size;
    uint64_t n_parameters;
    struct arena arena;
};

// Binds what the source has. A source without any of the tensors gives a projector with neither
// path, and so does a model with the towers of another member; one that has a part of a path's
// tensors, or another shape, is an error, and so is an mmproj file of another member. The source
// must outlive it.
int projector_bind(struct projector *out, const struct model_config *config,
                   const struct source *source, struct carat_error *err);
void projector_release(struct projector *p); // takes zeroed memory

enum soft_kind { SOFT_IMAGE, SOFT_AUDIO };

// A run of soft tokens inside a chunk. The data are borrowed.
struct soft_span {
    enum soft_kind kind;
    size_t row;            // the chunk's row that the first one goes to
    size_t n;              // soft tokens in this chunk
    size_t skipped;        // soft tokens of the same item that came in earlier chunks
    const uint8_t *pixels; // IMAGE: the whole picture [height][width][3]
    uint32_t width;        // multiples of the block, of at most n_positions blocks
    uint32_t height;
    const float *samples; // AUDIO: the whole span, 16 kHz mono
    size_t n_samples;     // frame i is [i * frame_samples, ...), the last one filled with zeros
};

// Scratch for a few rows at a time.
struct embedder {
    const struct projector *projector;
    struct device *device;
    float *memory;
    float *patches;  // [EMBED_ROWS, block * block * 3] or [EMBED_ROWS, frame_samples]
    float *u;        // [EMBED_ROWS, width]
    float *position; // [EMBED_ROWS, width]
};
#define EMBED_ROWS 128

// Names: "vision.patch_dense", "vision.patch_ln2", "vision.pos_norm", "vision.embeds" and
// "audio.embeds"; first counts soft tokens of the item.
struct embed_trace {
    carat_on_tensor on_tensor; // may be NULL
    void *user;
};

uint64_t embedder_size(const struct projector *projector);
int embedder_reserve(struct embedder *e, const struct projector *projector, struct device *device,
                     struct carat_error *err);
void embedder_release(struct embedder *e); // takes zeroed memory
// What the device needs for it; combined with the decoder's own limits.
void embedder_limits(struct device_limits *limits, const struct projector *projector);
// out [span->n, hidden_size] gets the soft tokens. vision.c, audio.c.
void embed_image(struct embedder *e, struct tensor out, const struct soft_span *span,
                 struct embed_trace trace);
void embed_audio(struct embedder *e, struct tensor out, const struct soft_span *span,
                 struct embed_trace trace);

#endif
