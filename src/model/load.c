// SPDX-License-Identifier: Apache-2.0
#include "model/load.h"

#include "base/error.h"

// Read, packed and dropped together: the most of a file that is in memory beside its copy.
#define SLICE_SIZE ((size_t)32 << 20)

// Calls visit for every matrix until one fails. The head may be the embedding itself.
typedef int (*visit_matrix)(void *context, struct weight *w, struct carat_error *err);

static bool is_tied(const struct weights *w)
{
    return w->head.data == w->embed.data;
}

static int each_of_weights(struct weights *w, visit_matrix visit, void *context,
                           struct carat_error *err)
{
    int rc = visit(context, &w->embed, err);
    for (size_t i = 0; rc == 0 && i < w->n_layers; i++) {
        for (size_t role = 0; rc == 0 && role < ROLE_COUNT; role++) {
            if (w->layers[i].matrix[role].columns > 0) {
                rc = visit(context, &w->layers[i].matrix[role], err);
            }
        }
    }
    if (rc == 0 && !is_tied(w)) {
        rc = visit(context, &w->head, err);
    }
    return rc;
}

static int each_of_projector(struct projector *p, visit_matrix visit, void *context,
                             struct carat_error *err)
{
    struct weight *const all[] = {&p->patch_dense, &p->positions, &p->vision_projection,
                                  &p->audio_projection};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i]->columns > 0) {
            rc = visit(context, all[i], err);
        }
    }
    return rc;
}

static int add_size(void *context, struct weight *w, struct carat_error *err)
{
    (void)err;
    *(uint64_t *)context += (uint64_t)w->rows * w->row_size;
    return 0;
}

uint64_t weights_load_size(const struct weights *w)
{
    struct weights copy = *w;
    uint64_t size = 0;
    each_of_weights(&copy, add_size, &size, NULL);
    return size;
}

uint64_t projector_load_size(const struct projector *p)
{
    struct projector copy = *p;
    uint64_t size = 0;
    each_of_projector(&copy, add_size, &size, NULL);
    return size;
}

struct loading {
    struct load *load;
    const struct source *source;
};

static int load_matrix(void *context, struct weight *w, struct carat_error *err)
{
    const struct loading *l = context;
    struct load *load = l->load;
    int rc = device_new_weight(load->device, w, err);
    if (rc) {
        return rc;
    }
    size_t step = SLICE_SIZE / w->row_size / DEVICE_WEIGHT_ROWS * DEVICE_WEIGHT_ROWS;
    step = step > 0 ? step : DEVICE_WEIGHT_ROWS;
    for (size_t row = 0; row < w->rows; row += step) {
        const size_t n = w->rows - row < step ? w->rows - row : step;
        const uint8_t *slice = w->data + row * w->row_size;
        source_will_need(l->source, slice, n * w->row_size);
        device_fill_weight(load->device, w, row, n);
        source_drop(l->source, slice, n * w->row_size);
        load->done += n * w->row_size;
        if (load->on_progress &&
            !load->on_progress(load->user, "loading", load->done, load->total)) {
            return fail(err, CARAT_E_STOPPED, "loading was stopped");
        }
    }
    return 0;
}

int load_weights(struct load *l, struct weights *w, const struct source *source,
                 struct carat_error *err)
{
    struct loading loading = {l, source};
    int rc = each_of_weights(w, load_matrix, &loading, err);
    if (rc == 0 && is_tied(w)) {
        w->head = w->embed;
    }
    return rc;
}

int load_projector(struct load *l, struct projector *p, const struct source *source,
                   struct carat_error *err)
{
    struct loading loading = {l, source};
    return each_of_projector(p, load_matrix, &loading, err);
}

static int free_matrix(void *context, struct weight *w, struct carat_error *err)
{
    (void)err;
    device_free_weight(context, w);
    return 0;
}

void unload_weights(struct device *dev, struct weights *w)
{
    each_of_weights(w, free_matrix, dev, NULL);
}

void unload_projector(struct device *dev, struct projector *p)
{
    each_of_projector(p, free_matrix, dev, NULL);
}
