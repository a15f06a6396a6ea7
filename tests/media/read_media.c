// SPDX-License-Identifier: Apache-2.0
// Reads one file as a medium with the default limits, as make_bombs.py wants it: says what came of
// it in one line. Exit code 0: it was read, 1: it was refused.
#include <stdio.h>
#include <string.h>

#include "carat.h"

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: read_media image|audio|video FILE\n");
        return 2;
    }
    struct carat_media_source source = {
        .type = strcmp(argv[1], "image") == 0   ? CARAT_MEDIA_IMAGE
                : strcmp(argv[1], "audio") == 0 ? CARAT_MEDIA_AUDIO
                                                : CARAT_MEDIA_VIDEO,
        .path = argv[2],
    };
    struct carat_media *media = NULL;
    struct carat_error err;
    int rc = carat_media_new(&media, &source, &err);
    if (rc) {
        printf("%d %s\n", rc, err.text);
        return 1;
    }
    const struct carat_media_info *info = carat_media_info(media);
    printf("0 %s, %u x %u, %zu frames, %zu samples\n", info->format, info->width, info->height,
           info->n_frames, info->n_samples);
    carat_media_free(media);
    return 0;
}
