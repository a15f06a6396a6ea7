// SPDX-License-Identifier: Apache-2.0
// carat serve in a build without libmicrohttpd: says so.
#include "cli/options.h"

static int run_serve(const struct command_call *call)
{
    (void)call;
    say("serve: this build has no server: install libmicrohttpd (Debian: libmicrohttpd-dev), then "
        "set up and build again");
    return EXIT_FAILED;
}

const struct command command_serve = {
    .name = "serve",
    .summary = "HTTP server (not in this build: it needs libmicrohttpd)",
    .synopsis = "[MODEL]",
    .details = "This build was made without libmicrohttpd and has no server.",
    .examples = (const struct example[]){{"apt-get install libmicrohttpd-dev",
                                          "then set up and build again, for a carat that serves"},
                                         {.line = NULL}},
    .options_size = 1,
    .args_max = 1,
    .is_missing = true,
    .run = run_serve,
};
