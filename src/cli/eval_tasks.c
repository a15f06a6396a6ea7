// SPDX-License-Identifier: Apache-2.0
#include "cli/eval_tasks.h"

#include "base/error.h"

const struct option eval_task_rows[] = {{.name = NULL}};

bool eval_is_task_file(const char *path)
{
    (void)path;
    return false;
}

int eval_tasks_run(const struct eval_tasks_options *o, struct carat_error *err)
{
    return fail(err, CARAT_E_UNSUPPORTED, "%s: tasks are not scored yet", o->files[0]);
}
