// SPDX-License-Identifier: Apache-2.0
// The boxes of an ISO base media file (ISO/IEC 14496-12: MP4, MOV, HEIC, AVIF), walked before a
// library builds tables from them: a few bytes of such a table can stand for gigabytes.
#include <string.h>

#include "base/error.h"
#include "media/decode.h"

#define DEPTH_MAX       10
#define SAMPLES_MAX     ((uint64_t)4 << 20)  // of a track: 19 hours at 60 a second
#define EDITED_MAX      ((uint64_t)16 << 20) // edits * samples: each edit walks over the track
#define TILES_MAX       1024                 // of a picture
#define BOXES_PER_TICK  65536
#define DURATION_NONE32 0xffffffffu
#define DURATION_NONE64 UINT64_MAX

struct box {
    uint32_t type;
    const uint8_t *body;
    size_t size; // of the body
};

// What the tables of the track at hand say.
struct track {
    uint64_t n_samples;
    uint64_t n_edits;
    uint64_t n_chunks;
    struct box sample_to_chunk;
    bool has_one_size;       // all samples have the same size, so that there is no table of sizes
    bool has_unit_durations; // each lasts one unit: plain samples of sound
};

struct walk {
    const struct media_input *in;
    struct media_budget *budget;
    size_t end[DEPTH_MAX + 1]; // where the open boxes end
    uint32_t type[DEPTH_MAX + 1];
    size_t depth; // 0: the file
    size_t at;
    uint64_t n_boxes;
    unsigned n_tracks;
    uint64_t n_run_samples; // of all fragments
    bool has_moov;
    bool has_mdat;
    uint64_t n_tiles;
    struct track track;
};

#define BOX(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))
enum {
    BOX_MOOV = BOX('m', 'o', 'o', 'v'),
    BOX_TRAK = BOX('t', 'r', 'a', 'k'),
    BOX_MDIA = BOX('m', 'd', 'i', 'a'),
    BOX_MINF = BOX('m', 'i', 'n', 'f'),
    BOX_STBL = BOX('s', 't', 'b', 'l'),
    BOX_EDTS = BOX('e', 'd', 't', 's'),
    BOX_MOOF = BOX('m', 'o', 'o', 'f'),
    BOX_TRAF = BOX('t', 'r', 'a', 'f'),
    BOX_MVEX = BOX('m', 'v', 'e', 'x'),
    BOX_UDTA = BOX('u', 'd', 't', 'a'),
    BOX_META = BOX('m', 'e', 't', 'a'),
    BOX_HDLR = BOX('h', 'd', 'l', 'r'),
    BOX_IREF = BOX('i', 'r', 'e', 'f'),
    BOX_DIMG = BOX('d', 'i', 'm', 'g'),
    BOX_CMOV = BOX('c', 'm', 'o', 'v'),
    BOX_MVHD = BOX('m', 'v', 'h', 'd'),
    BOX_MDHD = BOX('m', 'd', 'h', 'd'),
    BOX_STSZ = BOX('s', 't', 's', 'z'),
    BOX_STZ2 = BOX('s', 't', 'z', '2'),
    BOX_STSC = BOX('s', 't', 's', 'c'),
    BOX_STCO = BOX('s', 't', 'c', 'o'),
    BOX_CO64 = BOX('c', 'o', '6', '4'),
    BOX_STTS = BOX('s', 't', 't', 's'),
    BOX_CTTS = BOX('c', 't', 't', 's'),
    BOX_STSS = BOX('s', 't', 's', 's'),
    BOX_STSD = BOX('s', 't', 's', 'd'),
    BOX_ELST = BOX('e', 'l', 's', 't'),
    BOX_TRUN = BOX('t', 'r', 'u', 'n'),
    BOX_MDAT = BOX('m', 'd', 'a', 't'),
    BOX_KEYS = BOX('k', 'e', 'y', 's'),
};

static const uint32_t containers[] = {
    BOX_MOOV,
    BOX_TRAK,
    BOX_MDIA,
    BOX_MINF,
    BOX_STBL,
    BOX_EDTS,
    BOX_MOOF,
    BOX_TRAF,
    BOX_MVEX,
    BOX_UDTA,
    BOX_META,
    BOX_IREF,
    BOX('d', 'i', 'n', 'f'),
    BOX('t', 'r', 'e', 'f'),
    BOX('w', 'a', 'v', 'e'),
    BOX('i', 'l', 's', 't'),
    BOX('s', 'i', 'n', 'f'),
    BOX('s', 'c', 'h', 'i'),
    BOX('g', 'm', 'h', 'd'),
    BOX('r', 'm', 'r', 'a'),
    BOX('r', 'm', 'd', 'a'),
    BOX('m', 'f', 'r', 'a'),
};

// Tables, and the only box each may lie in: elsewhere a library would put them to some other track.
static const struct {
    uint32_t type;
    uint32_t parent;
} homes[] = {
    {BOX_TRAK, BOX_MOOV}, {BOX_MDHD, BOX_MDIA}, {BOX_STSZ, BOX_STBL}, {BOX_STZ2, BOX_STBL},
    {BOX_STSC, BOX_STBL}, {BOX_STCO, BOX_STBL}, {BOX_CO64, BOX_STBL}, {BOX_STTS, BOX_STBL},
    {BOX_CTTS, BOX_STBL}, {BOX_STSS, BOX_STBL}, {BOX_STSD, BOX_STBL}, {BOX_ELST, BOX_EDTS},
    {BOX_TRUN, BOX_TRAF}, {BOX_STBL, BOX_MINF}, {BOX_MINF, BOX_MDIA}, {BOX_MDIA, BOX_TRAK},
};

static bool is_container(uint32_t type)
{
    for (size_t i = 0; i < sizeof(containers) / sizeof(containers[0]); i++) {
        if (containers[i] == type) {
            return true;
        }
    }
    return false;
}

static void type_text(char out[5], uint32_t type)
{
    for (int i = 0; i < 4; i++) {
        uint8_t c = (uint8_t)(type >> (24 - 8 * i));
        out[i] = (char)(c >= 32 && c < 127 ? c : '?');
    }
    out[4] = 0;
}

static int fail_table(const struct walk *w, uint32_t type, const char *what,
                      struct carat_error *err)
{
    char name[5];
    type_text(name, type);
    return fail(err, CARAT_E_FORMAT, "%s: box '%s' before byte %zu: %s", w->in->name, name, w->at,
                what);
}

// --------------------------------------------------------------------------------- tables

// Bytes from offset on that are there.
static bool has_body(const struct box *b, uint64_t offset, uint64_t bytes)
{
    return b->size >= offset && bytes <= b->size - offset;
}

// mvhd and mdhd: version, times, then the units of a second and the duration in them
static int check_duration(struct walk *w, const struct box *b, struct carat_error *err)
{
    bool is_long = b->size > 0 && b->body[0] == 1;
    size_t at = is_long ? 20 : 12;
    if (!has_body(b, at, is_long ? 12 : 8)) {
        return fail_table(w, b->type, "too short", err);
    }
    uint32_t units = big_u32(b->body + at);
    uint64_t duration = is_long ? big_u64(b->body + at + 4) : big_u32(b->body + at + 4);
    bool is_unknown = duration == (is_long ? DURATION_NONE64 : DURATION_NONE32);
    if (units == 0 || is_unknown) {
        return 0;
    }
    return media_check_seconds(w->budget, (double)duration / units, err);
}

static int read_sizes(struct walk *w, const struct box *b, struct carat_error *err)
{
    if (!has_body(b, 0, 12)) {
        return fail_table(w, b->type, "too short", err);
    }
    bool is_small = b->type == BOX_STZ2;
    uint64_t one_size = is_small ? 0 : big_u32(b->body + 4);
    uint64_t bits = is_small ? b->body[7] : 32;
    uint64_t n = big_u32(b->body + 8);
    bool fits = one_size > 0 ? n * one_size <= w->in->size : has_body(b, 12, (n * bits + 7) / 8);
    if (!fits) {
        return fail_table(w, b->type, "promises more samples than the file has bytes for", err);
    }
    w->track.n_samples = n;
    w->track.has_one_size = one_size > 0;
    return 0;
}

static int read_count(struct walk *w, const struct box *b, uint64_t entry_size, uint64_t *n,
                      struct carat_error *err)
{
    if (!has_body(b, 0, 8) || !has_body(b, 8, big_u32(b->body + 4) * entry_size)) {
        return fail_table(w, b->type, "has more entries than bytes", err);
    }
    *n = big_u32(b->body + 4);
    return 0;
}

// Chunks run from 1; an entry counts for the chunks up to the next entry's.
static int sum_chunks(struct walk *w, struct carat_error *err)
{
    struct track *t = &w->track;
    const struct box *b = &t->sample_to_chunk;
    uint64_t n = b->body ? big_u32(b->body + 4) : 0;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *entry = b->body + 8 + i * 12;
        uint64_t first = big_u32(entry);
        uint64_t next = i + 1 < n ? big_u32(entry + 12) : t->n_chunks + 1;
        if (next > t->n_chunks + 1) {
            next = t->n_chunks + 1;
        }
        sum += first < next ? (next - first) * big_u32(entry + 4) : 0;
        if (sum > (uint64_t)w->in->size * 8) {
            return fail_table(w, b->type, "promises more samples than the file has bits", err);
        }
    }
    return 0;
}

static int finish_track(struct walk *w, struct carat_error *err)
{
    struct track *t = &w->track;
    bool is_plain_sound = t->has_one_size && t->has_unit_durations;
    if (t->n_samples > SAMPLES_MAX && !is_plain_sound) {
        return fail(err, CARAT_E_FULL, "%s: a track of %llu samples, the limit is %llu",
                    w->in->name, (unsigned long long)t->n_samples, (unsigned long long)SAMPLES_MAX);
    }
    if (t->n_edits > 0 && t->n_samples > EDITED_MAX / t->n_edits) {
        return fail(err, CARAT_E_FULL,
                    "%s: a track of %llu samples in %llu edits is over the limit", w->in->name,
                    (unsigned long long)t->n_samples, (unsigned long long)t->n_edits);
    }
    return sum_chunks(w, err);
}

// A table hidden among the descriptions of samples would be read as one of the track's.
static int check_descriptions(struct walk *w, const struct box *b, struct carat_error *err)
{
    for (size_t at = 0; at + 4 <= b->size; at++) {
        uint32_t type = big_u32(b->body + at);
        for (size_t i = 0; i < sizeof(homes) / sizeof(homes[0]); i++) {
            if (type == homes[i].type) {
                return fail_table(w, b->type, "has a table in it that does not belong there", err);
            }
        }
    }
    return 0;
}

static int read_run(struct walk *w, const struct box *b, struct carat_error *err)
{
    if (!has_body(b, 0, 8)) {
        return fail_table(w, b->type, "too short", err);
    }
    w->n_run_samples += big_u32(b->body + 4);
    if (w->n_run_samples > SAMPLES_MAX) {
        return fail(err, CARAT_E_FULL,
                    "%s: fragments of more than %llu samples, which is the limit", w->in->name,
                    (unsigned long long)SAMPLES_MAX);
    }
    return 0;
}

// A reference "derived from": the parts of a picture that is put together.
static int read_tiles(struct walk *w, const struct box *b, struct carat_error *err)
{
    size_t wide = b->size >= 6 && big_u16(b->body + 2) == 0 ? 4 : 2; // numbers of 2 or 4 bytes
    uint32_t n = has_body(b, wide, 2) ? big_u16(b->body + wide) : 0;
    uint32_t narrow = has_body(b, 2, 2) ? big_u16(b->body + 2) : 0;
    w->n_tiles += n > narrow ? n : narrow;
    if (w->n_tiles > TILES_MAX) {
        return fail(err, CARAT_E_FULL, "%s: a picture of more than %d tiles, which is the limit",
                    w->in->name, TILES_MAX);
    }
    return 0;
}

static int read_table(struct walk *w, const struct box *b, struct carat_error *err)
{
    struct track *t = &w->track;
    uint64_t n = 0;
    int rc = 0;
    switch (b->type) {
    case BOX_MVHD:
    case BOX_MDHD:
        return check_duration(w, b, err);
    case BOX_STSZ:
    case BOX_STZ2:
        return read_sizes(w, b, err);
    case BOX_STSC:
        rc = read_count(w, b, 12, &n, err);
        if (rc == 0) {
            t->sample_to_chunk = *b;
        }
        return rc;
    case BOX_STCO:
        return read_count(w, b, 4, &t->n_chunks, err);
    case BOX_CO64:
        return read_count(w, b, 8, &t->n_chunks, err);
    case BOX_STTS:
        rc = read_count(w, b, 8, &n, err);
        t->has_unit_durations = rc == 0 && n == 1 && big_u32(b->body + 12) == 1;
        return rc;
    case BOX_CTTS:
    case BOX_KEYS:
        return read_count(w, b, 8, &n, err);
    case BOX_STSS:
        return read_count(w, b, 4, &n, err);
    case BOX_ELST:
        return read_count(w, b, b->size > 0 && b->body[0] == 1 ? 20 : 12, &t->n_edits, err);
    case BOX_TRUN:
        return read_run(w, b, err);
    case BOX_DIMG:
        return read_tiles(w, b, err);
    case BOX_STSD:
        return check_descriptions(w, b, err);
    case BOX_CMOV:
        return fail(err, CARAT_E_UNSUPPORTED, "%s: a packed header ('cmov') is not read",
                    w->in->name);
    default:
        return 0;
    }
}

// ----------------------------------------------------------------------------------- walk

static int check_home(const struct walk *w, uint32_t type, struct carat_error *err)
{
    for (size_t i = 0; i < sizeof(homes) / sizeof(homes[0]); i++) {
        if (homes[i].type == type && homes[i].parent != w->type[w->depth]) {
            return fail_table(w, type, "does not belong where it is", err);
        }
    }
    return 0;
}

// "meta" has a version in front of its boxes, in QuickTime it has none. FFmpeg looks for the
// handler, which has to be the first, and so do we: it must not see other boxes than we do.
static size_t meta_start(const struct box *b, const uint8_t *data)
{
    size_t start = (size_t)(b->body - data);
    for (size_t at = 4; at + 4 <= b->size; at += 4) {
        if (big_u32(b->body + at) == BOX_HDLR) {
            return start + at - 4;
        }
    }
    return start + b->size;
}

static int enter(struct walk *w, const struct box *b, size_t end, struct carat_error *err)
{
    if (w->depth == DEPTH_MAX) {
        return fail_table(w, b->type, "boxes within boxes, too deeply", err);
    }
    if (b->type == BOX_TRAK) {
        w->track = (struct track){0};
        if (++w->n_tracks > TRACKS_MAX) {
            return fail(err, CARAT_E_FULL, "%s: more than %d tracks, which is the limit",
                        w->in->name, TRACKS_MAX);
        }
    }
    w->depth++;
    w->end[w->depth] = end;
    w->type[w->depth] = b->type;
    w->at = (size_t)(b->body - w->in->data);
    if (b->type == BOX_IREF) {
        w->at += b->size < 4 ? b->size : 4; // a version comes first
    } else if (b->type == BOX_META) {
        w->at = meta_start(b, w->in->data);
    }
    return 0;
}

static int leave(struct walk *w, struct carat_error *err)
{
    int rc = w->type[w->depth] == BOX_TRAK ? finish_track(w, err) : 0;
    w->at = w->end[w->depth];
    w->depth--;
    return rc;
}

// Whether what stands at the top can still be a box once there is everything that a file needs:
// some programs append notes of their own.
static bool is_note(const struct walk *w, uint32_t type)
{
    return w->depth == 0 && w->has_moov && w->has_mdat && type != BOX_MOOV && type != BOX_MDAT &&
           type != BOX_MOOF;
}

// The header of the box at w->at; *end is behind the box, and 0 when no box can be made out. Within
// others a box without size, or with too much of it, goes to their end: so do libraries take it.
static int read_header(const struct walk *w, struct box *b, size_t *end, struct carat_error *err)
{
    const uint8_t *d = w->in->data + w->at;
    size_t left = w->end[w->depth] - w->at;
    uint64_t size = big_u32(d);
    size_t header = 8;
    b->type = big_u32(d + 4);
    *end = 0;
    if (size == 1 && left >= 16) {
        size = big_u64(d + 8);
        header = 16;
    }
    if (size == 0 || (size > left && w->depth > 0)) {
        size = left;
    }
    if (size > left && !is_note(w, b->type)) {
        return fail_cut(w->in, "inside a box of an MP4", err);
    }
    if (size < header && (header == 16 || w->depth == 0) && !is_note(w, b->type)) {
        return fail_table(w, b->type, "is shorter than its own header", err);
    }
    if (size >= header && size <= left) {
        b->body = d + header;
        b->size = (size_t)size - header;
        *end = w->at + (size_t)size;
    }
    return 0;
}

static int step(struct walk *w, struct carat_error *err)
{
    struct box b = {0};
    size_t end = 0;
    int rc = ++w->n_boxes % BOXES_PER_TICK == 0 ? media_budget_tick(w->budget, 0, 0, err) : 0;
    if (rc == 0 && w->end[w->depth] - w->at >= 8) {
        rc = read_header(w, &b, &end, err);
    }
    if (rc == 0 && end == 0) { // nothing more here
        w->at = w->end[w->depth];
        return w->depth > 0 ? leave(w, err) : 0;
    }
    rc = rc ? rc : check_home(w, b.type, err);
    rc = rc ? rc : read_table(w, &b, err);
    if (rc) {
        return rc;
    }
    w->has_moov = w->has_moov || b.type == BOX_MOOV;
    w->has_mdat = w->has_mdat || b.type == BOX_MDAT;
    if (is_container(b.type)) {
        return enter(w, &b, end, err);
    }
    w->at = end;
    return 0;
}

int iso_check(const struct media_input *in, struct media_budget *b, struct carat_error *err)
{
    struct walk w = {.in = in, .budget = b};
    w.end[0] = in->size;
    while (w.at < w.end[0] || w.depth > 0) {
        int rc = step(&w, err);
        if (rc) {
            return rc;
        }
    }
    return 0;
}
