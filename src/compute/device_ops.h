// SPDX-License-Identifier: Apache-2.0
// What a device has to bring: one function per operation of device.h. Private to the room.
#ifndef CARAT_COMPUTE_DEVICE_OPS_H
#define CARAT_COMPUTE_DEVICE_OPS_H

#include "compute/device.h"

// Each function is the operation of the same name in device.h, with shapes already checked.
struct device_ops {
    void (*free)(struct device *dev);
    const char *(*level)(const struct device *dev);
    size_t (*threads)(const struct device *dev);
    bool (*multiplies_int8)(const struct device *dev, enum dtype type);
    int (*wait)(struct device *dev, struct carat_error *err);
    int (*reserve)(struct device *dev, const struct device_limits *limits, struct carat_error *err);
    void *(*alloc)(struct device *dev, size_t size, struct carat_error *err);
    void (*release)(struct device *dev, void *block);
    int (*new_weight)(struct device *dev, struct weight *w, struct carat_error *err);
    void (*fill_weight)(struct device *dev, const struct weight *w, size_t first, size_t n);
    void (*free_weight)(struct device *dev, struct weight *w);

    void (*embed)(struct device *dev, struct tensor out, const struct weight *w,
                  const int32_t *tokens, float scale);
    void (*norm)(struct device *dev, struct tensor out, struct tensor x, const float *w,
                 size_t group, float eps);
    void (*layer_norm)(struct device *dev, struct tensor out, struct tensor x, const float *w,
                       const float *b, float eps);
    void (*linear)(struct device *dev, const struct tensor *outs, struct tensor x,
                   const struct weight *const *weights, size_t n);
    void (*rope_table)(struct device *dev, float *table, const float *inv_freq, size_t n_pairs,
                       size_t first, size_t n);
    void (*rope)(struct device *dev, struct tensor x, size_t head_dim, const float *table,
                 size_t n_pairs);
    void (*kv_store)(struct device *dev, const struct kv_view *kv, struct tensor k, struct tensor v,
                     size_t first);
    void (*kv_commit)(struct device *dev, const struct kv_view *kv, size_t first, size_t n);
    void (*attend)(struct device *dev, struct tensor out, struct tensor q, const struct kv_view *kv,
                   size_t n_query_heads, size_t first, const size_t *ends);
    void (*geglu)(struct device *dev, struct tensor out, struct tensor gate, struct tensor up);
    void (*add)(struct device *dev, struct tensor out, struct tensor a, struct tensor b,
                float scale);
    void (*add_row)(struct device *dev, struct tensor x, const float *row);
    void (*scale)(struct device *dev, struct tensor x, float factor);
    void (*softcap)(struct device *dev, struct tensor x, float cap);
};

// A device's own struct begins with this one.
struct device {
    const struct device_ops *ops;
};

#endif
