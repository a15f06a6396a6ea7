// SPDX-License-Identifier: Apache-2.0
// A name for what a timeline's rows depend on besides its tokens: the model, the projections of
// pictures and sound, the arithmetic. Tensors are named by what the file says of them and by a few
// of their bytes: reading all of them would take as long as loading the model.
#include "engine/engine.h"

#include "base/hash.h"

#define SAMPLE_SIZE 64 // bytes at each of these places in a tensor
#define N_SAMPLES   4

static void add_f64(struct hash *h, double value)
{
    hash_add(h, &value, sizeof(value));
}

static void add_config(struct hash *h, const struct model_config *c)
{
    const uint32_t numbers[] = {c->is_unified, c->n_layers, c->hidden_size,       c->n_heads,
                                c->window,     c->n_vocab,  c->pictures_see_ahead};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        hash_add_u64(h, numbers[i]);
    }
    add_f64(h, (double)c->norm_eps);
    add_f64(h, (double)c->softcap);
    add_f64(h, c->rope_theta_full);
    add_f64(h, c->rope_theta_sliding);
    add_f64(h, c->rope_rotated);
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const struct layer_config *l = &c->layers[i];
        hash_add_u64(h, l->is_sliding);
        hash_add_u64(h, l->has_shared_kv_vector);
        hash_add_u64(h, l->head_dim);
        hash_add_u64(h, l->n_kv_heads);
        hash_add_u64(h, l->ffn_size);
    }
}

static void add_tensor(struct hash *h, const struct source *source, const struct source_tensor *t)
{
    hash_add(h, t->name.data, t->name.size);
    hash_add_u64(h, t->name.size);
    hash_add_u64(h, t->type);
    hash_add(h, t->dims, sizeof(t->dims));
    hash_add_u64(h, t->size);
    uint64_t size = t->size < SAMPLE_SIZE ? t->size : SAMPLE_SIZE;
    for (uint64_t i = 0; i < N_SAMPLES && size > 0; i++) {
        const uint8_t *sample = t->data + (t->size - size) / (N_SAMPLES - 1) * i;
        hash_add(h, sample, (size_t)size);
    }
    source_drop(source, t->data, (size_t)t->size);
}

static void add_source(struct hash *h, const struct source *source)
{
    hash_add_u64(h, source_n_tensors(source));
    for (size_t i = 0; i < source_n_tensors(source); i++) {
        add_tensor(h, source, source_tensor_at(source, i));
    }
}

static void make_identity(struct carat_engine *e)
{
    pthread_mutex_lock(&e->lock);
    if (!atomic_load(&e->has_identity)) {
        struct hash h;
        hash_init(&h, NULL);
        add_config(&h, &e->config);
        for (int type = 0; type < DTYPE_COUNT_COMPUTE; type++) {
            hash_add_u64(&h, device_multiplies_int8(e->device, (enum dtype)type));
        }
        add_source(&h, e->source);
        if (e->projector_source) {
            add_source(&h, e->projector_source);
        }
        hash_digest(&h, e->identity);
        atomic_store(&e->has_identity, true);
    }
    pthread_mutex_unlock(&e->lock);
}

void engine_identity(struct carat_engine *e, uint8_t out[HASH_SIZE])
{
    if (!atomic_load(&e->has_identity)) {
        make_identity(e);
    }
    for (size_t i = 0; i < HASH_SIZE; i++) {
        out[i] = e->identity[i];
    }
}
