// SPDX-License-Identifier: Apache-2.0
// Which model a command is about.
#ifndef CARAT_CLI_MODEL_PATH_H
#define CARAT_CLI_MODEL_PATH_H

#include "base/str.h"

// The file name of the demonstration model, in the source tree's demo/ and in share/carat/.
#define DEMO_MODEL_NAME "carat-demo.gguf"

// The path of the model: `named` when it is not NULL, else what the environment says: a path, or a
// name that carat pull stored. With neither: the newest that was pulled, else the demonstration
// model beside the program. What is not there is an error.
int model_path_find(struct buf *out, const char *named, struct carat_error *err);
// Whether a word that is not a file must have been meant as a model: a.gguf, some/where, or the
// name of a pulled one.
bool model_path_is_meant(const char *word);

#endif
