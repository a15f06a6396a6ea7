// SPDX-License-Identifier: Apache-2.0
// Which hub, as whom, and whether at all: the settings that users of model hubs have already.
#ifndef CARAT_CLI_PULL_ACCOUNT_H
#define CARAT_CLI_PULL_ACCOUNT_H

#include "base/str.h"

struct pull_account {
    char *endpoint;  // HF_ENDPOINT, or https://huggingface.co; no slash at its end
    char *token;     // HF_TOKEN, or of the file that the hub's own programs keep; NULL: none
    bool is_offline; // HF_HUB_OFFLINE
};
int pull_account_find(struct pull_account *out, struct carat_error *err);
void pull_account_release(struct pull_account *a);

#endif
