// SPDX-License-Identifier: Apache-2.0
#include "server/api_info.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "server/api_gemini.h"
#include "server/guard.h"

static void answer_json(struct http_reply *reply, int status, http_headers headers, struct buf *out)
{
    http_reply_all(reply, status, "application/json", headers, buf_text(out), out->size);
    buf_release(out);
}

// For balancers and supervisors: not well as soon as nothing new is taken.
void info_health(struct server *s, struct http_request *request, struct http_reply *reply)
{
    struct buf out = {.max = 4096};
    bool is_well = !atomic_load(&s->is_draining);
    (void)request;
    buf_addf(&out, "{\"status\":\"%s\",\"model\":", is_well ? "ok" : "stopping");
    buf_add_json(&out, s->model_id, strlen(s->model_id));
    buf_adds(&out, "}");
    answer_json(reply, is_well ? 200 : 503, NULL, &out);
}

void info_metrics(struct server *s, struct http_request *request, struct http_reply *reply)
{
    struct buf out = {.max = 1 << 20};
    (void)request;
    metrics_write(s, &out);
    http_reply_all(reply, 200, "text/plain; version=0.0.4; charset=utf-8", NULL, buf_text(&out),
                   out.size);
    buf_release(&out);
}

void info_version(struct server *s, struct http_request *request, struct http_reply *reply)
{
    struct buf out = {.max = 4096};
    (void)s;
    (void)request;
    buf_addf(&out, "{\"version\":\"%s\"}", carat_version());
    answer_json(reply, 200, NULL, &out);
}

// What the clients of OpenAI, Anthropic and vLLM look for, in one object.
static void add_model(const struct server *s, struct buf *out)
{
    const struct carat_model_info *info = carat_engine_info(s->engine);
    size_t context = s->options->session.context_max;
    char when[32] = "";
    time_t created = (time_t)s->started;
    struct tm utc;
    if (gmtime_r(&created, &utc)) {
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    buf_adds(out, "{\"id\":");
    buf_add_json(out, s->model_id, strlen(s->model_id));
    buf_addf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"carat\"",
             (long long)s->started);
    buf_addf(out, ",\"max_model_len\":%zu,\"type\":\"model\",\"display_name\":", context);
    buf_add_json(out, info->name, strlen(info->name));
    buf_addf(out, ",\"created_at\":\"%s\"", when);
    buf_addf(out,
             ",\"architecture\":{\"input_modalities\":[\"text\"%s%s],\"output_modalities\":"
             "[\"text\"]}}",
             info->sees ? ",\"image\",\"video\"" : "", info->hears ? ",\"audio\"" : "");
}

void info_models(struct server *s, struct http_request *request, struct http_reply *reply)
{
    if (gemini_is_client(request)) {
        gemini_models(s, request, reply);
        return;
    }
    struct buf out = {.max = 65536};
    buf_adds(&out, "{\"object\":\"list\",\"data\":[");
    add_model(s, &out);
    buf_adds(&out, "],\"has_more\":false,\"first_id\":");
    buf_add_json(&out, s->model_id, strlen(s->model_id));
    buf_adds(&out, ",\"last_id\":");
    buf_add_json(&out, s->model_id, strlen(s->model_id));
    buf_adds(&out, "}");
    answer_json(reply, 200, NULL, &out);
}

void info_model(struct server *s, struct http_request *request, struct http_reply *reply)
{
    if (gemini_is_client(request)) {
        gemini_model(s, request, reply);
        return;
    }
    struct buf out = {.max = 65536};
    const char *id = request->path + strlen("/v1/models/");
    if (strcmp(id, s->model_id) != 0) {
        guard_refuse(s, request, reply, 404, NULL, "there is no model '%.200s' here, only '%s'", id,
                     s->model_id);
        return;
    }
    add_model(s, &out);
    answer_json(reply, 200, NULL, &out);
}
