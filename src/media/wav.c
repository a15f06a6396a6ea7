// SPDX-License-Identifier: Apache-2.0
// WAV: chunks of RIFF, and of RF64 and BW64 for files beyond 4 GB (EBU Tech 3306, ITU-R BS.2088).
// One parser for bytes that come in pieces; a whole file is one piece. Nothing is allocated by
// sizes in the header. A stream ends where it ends; a file must have what its header promises.
#include "media/media.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

#define HEAD_SIZE    12 // "RIFF" size "WAVE"
#define CHUNK_SIZE   8  // name size
#define FORMAT_MIN   16
#define FORMAT_MAX   40 // with the extension; what is longer is skipped
#define SIZES_SIZE   24 // of ds64: sizes of the file and of the data, number of samples
#define CHANNELS_MAX 64
#define BLOCK_MAX    (CHANNELS_MAX * 8)
#define VALUES       2048 // samples that are handed over together, of all channels
#define UNKNOWN_SIZE UINT32_MAX

#define TAG_PCM        1
#define TAG_FLOAT      3
#define TAG_ALAW       6
#define TAG_MULAW      7
#define TAG_EXTENSIBLE 0xFFFE

enum wav_encoding { WAV_U8, WAV_S16, WAV_S24, WAV_S32, WAV_F32, WAV_F64, WAV_ALAW, WAV_MULAW };

enum wav_state { WAV_HEAD, WAV_CHUNK, WAV_FORMAT, WAV_SIZES, WAV_DATA, WAV_DONE };

struct wav_stream {
    struct sound_sink *sink;
    struct media_budget *budget;
    enum wav_state state;
    uint64_t at;        // offset of the next byte in the file
    uint64_t skip;      // bytes to pass over first
    uint64_t file_size; // UINT64_MAX while it is still being written
    uint8_t pending[BLOCK_MAX];
    size_t n_pending;
    uint64_t chunk_size;
    uint64_t riff_end;       // where the header says that the file ends; 0: it does not say
    uint64_t long_data_size; // from ds64; 0: unknown
    bool has_format;
    bool is_other; // it failed because of its codec alone
    bool has_failed;
    enum wav_encoding encoding;
    uint32_t rate;
    uint32_t n_channels;
    size_t block;       // bytes of one sample of all channels
    uint64_t data_left; // UINT64_MAX: until the file ends
};

/* ------------------------------------------------------------------------------------ samples */

// ITU-T G.711, to 16 bits.
static float from_alaw(uint8_t code)
{
    code ^= 0x55;
    const int segment = (code & 0x70) >> 4;
    int value = ((code & 0x0F) << 4) + 8;
    if (segment > 0) {
        value = (value + 0x100) << (segment - 1);
    }
    return (float)(code & 0x80 ? value : -value) / 32768;
}

static float from_mulaw(uint8_t code)
{
    code = (uint8_t)~code;
    const int value = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84;
    return (float)(code & 0x80 ? -value : value) / 32768;
}

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float f32_at(const uint8_t *p)
{
    const uint32_t bits = u32_at(p);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static double f64_at(const uint8_t *p)
{
    const uint64_t bits = (uint64_t)u32_at(p) | (uint64_t)u32_at(p + 4) << 32;
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static void convert(float *out, const uint8_t *in, size_t n, enum wav_encoding encoding)
{
    switch (encoding) {
    case WAV_U8:
        for (size_t i = 0; i < n; i++) {
            out[i] = (float)(in[i] - 128) / 128;
        }
        break;
    case WAV_S16:
        for (size_t i = 0; i < n; i++) {
            out[i] = (float)(int16_t)(in[2 * i] | in[2 * i + 1] << 8) / 32768;
        }
        break;
    case WAV_S24:
        for (size_t i = 0; i < n; i++) {
            const uint8_t *p = in + 3 * i;
            const uint32_t high = (uint32_t)p[0] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 24;
            out[i] = (float)(int32_t)high / 2147483648.0F;
        }
        break;
    case WAV_S32:
        for (size_t i = 0; i < n; i++) {
            out[i] = (float)(int32_t)u32_at(in + 4 * i) / 2147483648.0F;
        }
        break;
    case WAV_F32:
        for (size_t i = 0; i < n; i++) {
            out[i] = f32_at(in + 4 * i);
        }
        break;
    case WAV_F64:
        for (size_t i = 0; i < n; i++) {
            out[i] = (float)f64_at(in + 8 * i);
        }
        break;
    case WAV_ALAW:
        for (size_t i = 0; i < n; i++) {
            out[i] = from_alaw(in[i]);
        }
        break;
    case WAV_MULAW:
        for (size_t i = 0; i < n; i++) {
            out[i] = from_mulaw(in[i]);
        }
        break;
    }
}

// Whole blocks to the sink.
static int give_blocks(struct wav_stream *w, const uint8_t *data, size_t n_blocks,
                       struct carat_error *err)
{
    float values[VALUES];
    const size_t piece = VALUES / w->n_channels;
    int rc = 0;
    for (size_t i = 0; i < n_blocks && !rc; i += piece) {
        const size_t n = n_blocks - i < piece ? n_blocks - i : piece;
        convert(values, data + i * w->block, n * w->n_channels, w->encoding);
        rc = w->sink->on_samples(w->sink, values, n, err);
    }
    return rc;
}

/* ------------------------------------------------------------------------------------- header */

static int bad(const struct wav_stream *w, struct carat_error *err, const char *expected,
               unsigned long long found)
{
    return fail(err, CARAT_E_FORMAT, "%s: WAV header before byte %llu: expected %s, found %llu",
                w->budget->name, (unsigned long long)w->at, expected, found);
}

// How many bytes a sample takes, or 0: the tag and the bits do not fit together.
static size_t encoding_of(enum wav_encoding *out, unsigned tag, unsigned bits, size_t width)
{
    static const enum wav_encoding pcm[] = {WAV_U8, WAV_S16, WAV_S24, WAV_S32};
    if (tag == TAG_PCM && width >= 1 && width <= 4 && bits > 8 * (width - 1) && bits <= 8 * width) {
        *out = pcm[width - 1];
        return width;
    }
    // 24 bits in 4 bytes: the upper ones.
    if (tag == TAG_PCM && width == 4 && bits == 24) {
        *out = WAV_S32;
        return width;
    }
    if (tag == TAG_FLOAT && (width == 4 || width == 8) && bits == 8 * width) {
        *out = width == 4 ? WAV_F32 : WAV_F64;
        return width;
    }
    if ((tag == TAG_ALAW || tag == TAG_MULAW) && width == 1) {
        *out = tag == TAG_ALAW ? WAV_ALAW : WAV_MULAW;
        return width;
    }
    return 0;
}

// The codec behind an extensible format, or a number that no codec has.
static unsigned tag_of_guid(const uint8_t *guid)
{
    static const uint8_t tail[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71};
    return memcmp(guid + 2, tail, sizeof(tail)) == 0 ? (unsigned)(guid[0] | guid[1] << 8)
                                                     : TAG_EXTENSIBLE;
}

static int read_format(struct wav_stream *w, struct carat_error *err)
{
    struct cursor c = cursor_make(w->pending, w->n_pending);
    unsigned tag = cursor_u16(&c);
    const unsigned n_channels = cursor_u16(&c);
    const uint32_t rate = cursor_u32(&c);
    cursor_skip(&c, 4); // bytes in a second: it follows from the others
    const unsigned block = cursor_u16(&c);
    const unsigned bits = cursor_u16(&c);
    if (tag == TAG_EXTENSIBLE && w->n_pending == FORMAT_MAX) {
        tag = tag_of_guid(w->pending + 24);
    }
    if (tag != TAG_PCM && tag != TAG_FLOAT && tag != TAG_ALAW && tag != TAG_MULAW) {
        w->is_other = true;
        return fail(err, CARAT_E_UNSUPPORTED,
                    "%s: WAV header before byte %llu: expected PCM, float, A-law or mu-law, found "
                    "codec 0x%04x",
                    w->budget->name, (unsigned long long)w->at, tag);
    }
    if (n_channels < 1 || n_channels > CHANNELS_MAX) {
        return bad(w, err, "1 to 64 channels", n_channels);
    }
    if (rate == 0) {
        return bad(w, err, "a sample rate above 0", rate);
    }
    if (block == 0 || block % n_channels != 0) {
        return bad(w, err, "a block that the channels share", block);
    }
    if (encoding_of(&w->encoding, tag, bits, block / n_channels) == 0) {
        return bad(w, err, "bits for each sample that fit the block", bits);
    }
    w->rate = rate;
    w->n_channels = n_channels;
    w->block = block;
    w->has_format = true;
    return 0;
}

static int read_head(struct wav_stream *w, struct carat_error *err)
{
    const struct media_input head = {w->pending, HEAD_SIZE, NULL};
    if (!wav_is(&head)) {
        return fail(err, CARAT_E_FORMAT, "%s: expected a WAV file, found other bytes at its start",
                    w->budget->name);
    }
    const uint32_t size = u32_at(w->pending + 4);
    w->riff_end = size == UNKNOWN_SIZE || size == 0 ? 0 : (uint64_t)size + CHUNK_SIZE;
    return 0;
}

// Passes over what is left of the chunk, of which `used` bytes were read, and its padding.
static void leave_chunk(struct wav_stream *w, uint64_t used)
{
    w->skip = w->chunk_size + w->chunk_size % 2 - used;
    w->state = WAV_CHUNK;
}

static int begin_data(struct wav_stream *w, struct carat_error *err)
{
    if (!w->has_format) {
        return fail(err, CARAT_E_FORMAT,
                    "%s: WAV header before byte %llu: expected the format before the data",
                    w->budget->name, (unsigned long long)w->at);
    }
    uint64_t size = w->chunk_size;
    if (size == UNKNOWN_SIZE) {
        size = w->long_data_size > 0 ? w->long_data_size : UINT64_MAX;
    } else if (size == 0 && w->riff_end <= w->at) {
        // Written before the length was known, unless more chunks are announced.
        size = UINT64_MAX;
    }
    w->data_left = size;
    w->state = size > 0 ? WAV_DATA : WAV_DONE;
    if (w->file_size != UINT64_MAX) {
        const uint64_t there = w->file_size - w->at;
        const uint64_t blocks = (size < there ? size : there) / w->block;
        const double seconds = (double)blocks / w->rate;
        int rc = media_check_seconds(w->budget, seconds, err);
        if (rc) {
            return rc;
        }
    }
    return w->sink->on_format(w->sink, w->rate, w->n_channels, "wav", err);
}

static int begin_chunk(struct wav_stream *w, struct carat_error *err)
{
    w->chunk_size = u32_at(w->pending + 4);
    if (memcmp(w->pending, "data", 4) == 0) {
        return begin_data(w, err);
    }
    if (memcmp(w->pending, "fmt ", 4) == 0) {
        if (w->chunk_size < FORMAT_MIN) {
            return bad(w, err, "at least 16 bytes of format", w->chunk_size);
        }
        w->state = WAV_FORMAT;
    } else if (memcmp(w->pending, "ds64", 4) == 0 && w->chunk_size >= SIZES_SIZE) {
        w->state = WAV_SIZES;
    } else {
        leave_chunk(w, 0);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------- stream */

// How many bytes the present step needs together.
static size_t needed(const struct wav_stream *w)
{
    switch (w->state) {
    case WAV_HEAD:
        return HEAD_SIZE;
    case WAV_CHUNK:
        return CHUNK_SIZE;
    case WAV_FORMAT:
        return w->chunk_size < FORMAT_MAX ? (size_t)w->chunk_size : FORMAT_MAX;
    case WAV_SIZES:
        return SIZES_SIZE;
    case WAV_DATA:
        return w->block;
    case WAV_DONE:
        break;
    }
    return 0;
}

// The present step, its bytes being together.
static int take_step(struct wav_stream *w, struct carat_error *err)
{
    int rc = 0;
    switch (w->state) {
    case WAV_HEAD:
        rc = read_head(w, err);
        w->state = WAV_CHUNK;
        break;
    case WAV_CHUNK:
        rc = begin_chunk(w, err);
        break;
    case WAV_FORMAT:
        rc = read_format(w, err);
        leave_chunk(w, w->n_pending);
        break;
    case WAV_SIZES:
        w->long_data_size = (uint64_t)u32_at(w->pending + 8) | (uint64_t)u32_at(w->pending + 12)
                                                                   << 32;
        leave_chunk(w, w->n_pending);
        break;
    case WAV_DATA:
        rc = give_blocks(w, w->pending, 1, err);
        w->data_left -= w->data_left != UINT64_MAX ? w->block : 0;
        break;
    case WAV_DONE:
        break;
    }
    w->n_pending = 0;
    return rc;
}

// Whole blocks straight from the caller's bytes. *used gets how many bytes.
static int take_blocks(struct wav_stream *w, const uint8_t *data, size_t size, size_t *used,
                       struct carat_error *err)
{
    const uint64_t most = size < w->data_left ? size : w->data_left;
    const size_t n_blocks = (size_t)most / w->block;
    *used = n_blocks * w->block;
    w->data_left -= w->data_left != UINT64_MAX ? *used : 0;
    return give_blocks(w, data, n_blocks, err);
}

static int push(struct wav_stream *w, const uint8_t *data, size_t size, struct carat_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < size && !rc && w->state != WAV_DONE;) {
        const size_t left = size - i;
        size_t used = 0;
        if (w->skip > 0) {
            used = left < w->skip ? left : (size_t)w->skip;
            w->skip -= used;
        } else if (w->state == WAV_DATA && w->data_left < w->block) {
            w->state = WAV_DONE;
        } else if (w->state == WAV_DATA && w->n_pending == 0 && left >= w->block) {
            rc = take_blocks(w, data + i, left, &used, err);
        } else {
            const size_t missing = needed(w) - w->n_pending;
            used = left < missing ? left : missing;
            memcpy(w->pending + w->n_pending, data + i, used);
            w->n_pending += used;
            // Messages name the byte behind what was read.
            w->at += used;
            rc = used == missing ? take_step(w, err) : 0;
            w->at -= used;
        }
        w->at += used;
        i += used;
    }
    return rc;
}

int wav_stream_new(struct wav_stream **out, struct sound_sink *sink, struct media_budget *b,
                   struct carat_error *err)
{
    struct wav_stream *w = mem_new(sizeof(*w), err);
    if (!w) {
        return CARAT_E_MEMORY;
    }
    w->sink = sink;
    w->budget = b;
    w->file_size = UINT64_MAX;
    *out = w;
    return 0;
}

int wav_stream_push(struct wav_stream *w, const void *data, size_t size, struct carat_error *err)
{
    if (w->has_failed) {
        return fail(err, CARAT_E_ARGUMENT, "%s: more bytes after an error", w->budget->name);
    }
    int rc = push(w, data, size, err);
    w->has_failed = rc != 0;
    return rc;
}

int wav_stream_finish(struct wav_stream *w, struct carat_error *err)
{
    if (w->state != WAV_DATA && w->state != WAV_DONE) {
        return fail(err, CARAT_E_FORMAT, "%s: ends at byte %llu, before the data of a WAV file",
                    w->budget->name, (unsigned long long)w->at);
    }
    return 0;
}

void wav_stream_free(struct wav_stream *w)
{
    mem_free(w);
}

// A recording that is being written ends where it ends; a file that lacks what its header promises
// was cut off, or lies.
static int check_whole(const struct wav_stream *w, struct carat_error *err)
{
    if (w->state == WAV_DONE || w->data_left == UINT64_MAX || w->data_left < w->block) {
        return 0;
    }
    return fail(err, CARAT_E_FORMAT,
                "%s: the file ends at byte %llu, %llu bytes before its sound does; what a recorder "
                "left unfinished can be read as a stream, through a pipe",
                w->budget->name, (unsigned long long)w->at,
                (unsigned long long)(w->data_left - w->n_pending));
}

bool wav_is(const struct media_input *in)
{
    return in->size >= HEAD_SIZE &&
           (memcmp(in->data, "RIFF", 4) == 0 || memcmp(in->data, "RF64", 4) == 0 ||
            memcmp(in->data, "BW64", 4) == 0) &&
           memcmp(in->data + 8, "WAVE", 4) == 0;
}

int wav_read(const struct media_input *in, struct sound_sink *sink, struct media_budget *b,
             bool *is_other, struct carat_error *err)
{
    struct wav_stream *w = NULL;
    int rc = wav_stream_new(&w, sink, b, err);
    if (rc) {
        return rc;
    }
    w->file_size = in->size;
    rc = wav_stream_push(w, in->data, in->size, err);
    *is_other = rc && w->is_other;
    if (*is_other) {
        rc = 0;
    } else if (!rc) {
        rc = wav_stream_finish(w, err);
        rc = rc ? rc : check_whole(w, err);
    }
    wav_stream_free(w);
    return rc;
}
