// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "cli/eval.h"

int eval_texts_run(const struct eval_options *o, const struct eval_words *words, struct output *out,
                   struct carat_error *err)
{
    (void)o;
    (void)out;
    return fail(err, CARAT_E_UNSUPPORTED, "%s: texts are not measured yet", words->texts[0]);
}
