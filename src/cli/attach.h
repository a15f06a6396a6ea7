// SPDX-License-Identifier: Apache-2.0
// Pictures, sounds and films that go with a message: the options that name them, and the way from
// a file, standard input or a data: URL to a medium that the model can take.
#ifndef CARAT_CLI_ATTACH_H
#define CARAT_CLI_ATTACH_H

#include "cli/options.h"
#include "cli/progress.h"

// How a medium is read; zeroed memory is the default. As in struct carat_media_source.
struct media_how {
    uint32_t image_tokens;
    size_t n_frames;
    double frames_per_second;
    bool drops_sound;
    double segment_seconds;
};

struct attachment {
    enum carat_media_type type;
    const char *source; // a path, "-" or a data: URL; borrowed
    struct media_how how;
    size_t n_args_before;      // on the command line
    bool is_listened_to;       // opened by a listener
    struct carat_media *media; // owned; NULL until it is opened
    struct carat_part *part;   // where it stands in a conversation, or NULL
};

struct media_settings {
    struct option_words words;
    bool sound_first, sound_sees_ahead;
};
extern const struct option media_setting_rows[];

struct media_list {
    struct attachment items[OPTION_WORDS_MAX];
    size_t n;
    struct media_how how; // for what is attached later
};
// From the options to what they attach, in order. Unless more is attached later (takes_later), an
// option that no file follows is an error: it was meant for the files before it.
int media_list_read(struct media_list *out, const struct media_settings *settings, bool takes_later,
                    struct carat_error *err);

// What the name of a file says that it is; false when it is no medium's.
bool media_type_of_name(const char *name, enum carat_media_type *out);
// Appends the path that a file:// URL stands for.
void add_path_of_url(struct buf *out, struct slice url);
// What messages call it: the path, "standard input", "the data: URL".
const char *attachment_name(const struct attachment *a);
// Whether the file is there; what is no file is.
int attachment_check(const struct attachment *a, struct carat_error *err);
// Whether the model can take it.
int attachment_check_model(const struct attachment *a, const struct carat_engine *engine,
                           struct carat_error *err);
// How this model takes it: everything but where it comes from.
void attachment_source(struct carat_media_source *out, const struct attachment *a,
                       const struct carat_engine *engine, struct progress *progress);
// Decodes it, and says on standard error what its user should know.
int attachment_open(struct attachment *a, const struct carat_engine *engine,
                    struct progress *progress, struct carat_error *err);
void attachment_say_notes(const struct attachment *a);
// "640 x 480 pixels, 130 tokens"
void attachment_describe(const struct attachment *a, struct buf *out);
void attachment_close(struct attachment *a);

#endif
