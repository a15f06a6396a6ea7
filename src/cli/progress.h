// SPDX-License-Identifier: Apache-2.0
// A bar on standard error for what takes more than a second, and the way Ctrl-C reaches the
// library.
#ifndef CARAT_CLI_PROGRESS_H
#define CARAT_CLI_PROGRESS_H

#include "cli/output.h"

struct progress {
    bool is_visible;  // standard error is a terminal and nobody asked for quiet
    bool is_bytes;    // else tokens,
    bool is_share;    // or something whose speed means nothing to anybody
    const char *what; // of the last report; a new one starts a new bar
    double started, drawn;
    uint64_t first; // done at the first report
    bool is_drawn;  // something stands on the terminal's line
    // What else has to be done from time to time while the library works; may be NULL.
    void (*meanwhile)(void *user);
    void *user;
};

// For carat_engine_options and carat_session_options; user is a struct progress. Stops the work
// once Ctrl-C was pressed.
bool progress_report(void *user, const char *what, uint64_t done, uint64_t total);
// Takes the bar away.
void progress_end(struct progress *p);

#endif
