// SPDX-License-Identifier: Apache-2.0
// What a hub answers: refused with a message, or files whose names and checksums are safe to use,
// and every choice among them is made of these.
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "cli/pull_hub.h"
#include "cli/pull_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// By rules of its own: nothing that leads out of a folder, or ends a line.
static void check_name(const char *name, size_t size)
{
    require(size > 0 && name[0] != '/' && name[size - 1] != '/');
    for (size_t at = 0, begin = 0; at <= size; at++) {
        if (at < size && name[at] != '/') {
            require((unsigned char)name[at] >= 0x20 && name[at] != '\\' && name[at] != 0x7F);
            continue;
        }
        size_t n = at - begin;
        require(n > 0 && !(n == 1 && name[begin] == '.') &&
                !(n == 2 && name[begin] == '.' && name[begin + 1] == '.'));
        begin = at + 1;
    }
}

static void check_files(const struct hub_repo *repo)
{
    const struct hub hub = {.endpoint = "https://hub", .repo = "a/b", .revision = "main"};
    require(strlen(repo->commit) == 40);
    for (size_t i = 0; i < repo->n_files; i++) {
        const struct hub_file *f = &repo->files[i];
        struct buf url = {.max = 8000};
        check_name(f->path.data, f->path.size);
        require(store_is_id(slice_of(f->id)) && strlen(f->digest) >= 40);
        require(f->size <= (uint64_t)1 << 46);
        if (hub_file_url(&url, &hub, repo, f->path, NULL) == 0) {
            require(strncmp(url.data, "https://hub/a/b/resolve/", 24) == 0);
            for (size_t k = 0; k < url.size; k++) {
                require(url.data[k] > ' ' && url.data[k] < 0x7F && url.data[k] != '?' &&
                        url.data[k] != '#');
            }
        }
        buf_release(&url);
    }
}

static void check_plan(const struct hub_repo *repo, const struct plan_options *options)
{
    struct plan plan = {.n_files = 0};
    struct carat_error err = {0};
    uint64_t total = 0;
    if (plan_make(&plan, "owner/repo", repo, options, &err)) {
        require(err.text[0] != 0);
        return;
    }
    require(plan.n_files > 0 && plan.n_files <= repo->n_files);
    require(store_is_part(slice_of(plan.type)));
    for (size_t i = 0; i < plan.n_files; i++) {
        const struct plan_file *f = &plan.files[i];
        require(f->file >= repo->files && f->file < repo->files + repo->n_files);
        check_name(f->name, strlen(f->name));
        for (size_t k = 0; k < i; k++) {
            require(strcmp(f->name, plan.files[k].name) != 0);
        }
        total += f->file->size;
    }
    require(total == plan.size);
    plan_release(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct plan_options options[] = {
        {.memory = 0},
        {.memory = (uint64_t)8 << 30},
        {.type = "Q4_K_M"},
        {.type = "safetensors", .no_projector = true, .no_drafter = true},
    };
    struct hub_repo repo = {.n_files = 0};
    struct carat_error err = {0};
    int rc = hub_parse(&repo, (const char *)data, size, &err);
    require(rc == 0 || err.text[0] != 0);
    if (rc == 0) {
        check_files(&repo);
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
            check_plan(&repo, &options[i]);
        }
    }
    hub_release(&repo);
    return 0;
}
