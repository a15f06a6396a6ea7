// SPDX-License-Identifier: Apache-2.0
#include "cli/pull_http.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/os.h"
#include "cli/output.h"

#define HOPS_MAX     5
#define URL_MAX      8192
#define SPARE_MAX    65536                // bytes of an answer that nobody wants
#define ENOUGH       65536                // bytes that show that it goes on after a failure
#define CHUNK_MIN    ((uint64_t)1 << 20)  // of a range
#define CHUNK_MAX    ((uint64_t)32 << 20) // ditto
#define PAUSE_MAX_S  30.0                 // before another try, unless
#define BUSY_MAX_S   300.0                // the server says when to come again
#define GET_TRIES    4
#define SLOWEST_RATE 100L // bytes per second

enum refusal { REFUSAL_NONE, REFUSAL_IGNORES_RANGE, REFUSAL_SIZE, REFUSAL_LONGER, REFUSAL_OURS };

// One transfer of one range.
struct request {
    struct http *http;
    CURL *easy;
    struct curl_slist *headers;
    char *url; // where it goes now
    size_t n_hops;
    bool is_whole;     // asks for everything, without naming a range
    struct range part; // asked for
    uint64_t at;       // next byte
    uint64_t size;     // of the whole, UINT64_MAX: not known
    size_t n_spare;
    bool is_busy;    // in the multi handle
    bool is_settled; // it ended and was not looked at yet
    bool is_head_seen;
    CURLcode code;
    enum refusal refusal;
    uint64_t size_said;
    struct carat_error own; // of put
    int (*put)(void *user, uint64_t at, const void *data, size_t size, struct carat_error *err);
    void *user;
    char message[CURL_ERROR_SIZE];
};

struct http {
    CURLM *multi;
    struct http_options options;
    char *token;
    char *origin;     // of the hub
    bool token_is_ok; // it may travel there
};

// Failures in a row.
struct trouble {
    size_t n, n_max;
    double not_before; // on os_seconds' clock
    uint64_t moved;    // bytes since the last one
    struct carat_error last;
};

bool http_is_built(void)
{
    return true;
}

// --------------------------------------------------------------------------------------- origins

// "https://host:443" of an address; false when it is no such address.
static bool find_origin(struct buf *out, const char *url, bool *is_safe)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool is_ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                 curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                 curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                 curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
    if (is_ok) {
        bool is_https = strcmp(scheme, "https") == 0;
        is_ok = is_https || strcmp(scheme, "http") == 0;
        bool is_here = strcmp(host, "localhost") == 0 || strcmp(host, "127.0.0.1") == 0 ||
                       strcmp(host, "[::1]") == 0;
        *is_safe = is_https || is_here;
        buf_addf(out, "%s://", scheme);
        for (const char *c = host; *c; c++) {
            buf_addc(out, *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c);
        }
        buf_addf(out, ":%s", port);
        is_ok = is_ok && !out->has_failed;
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return is_ok;
}

static bool is_of_hub(const struct http *h, const char *url)
{
    struct buf origin = {.max = URL_MAX};
    bool is_safe = false;
    bool is_same = find_origin(&origin, url, &is_safe) && strcmp(buf_text(&origin), h->origin) == 0;
    buf_release(&origin);
    return is_same;
}

// What is behind the question mark may be a key to what is stored there: not for messages.
static int url_size(const char *url)
{
    size_t size = strcspn(url, "?#");
    return size > 300 ? 300 : (int)size;
}

// -------------------------------------------------------------------------------------- requests

static long status_of(const struct request *r)
{
    long status = 0;
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static const char *header_of(const struct request *r, const char *name)
{
    struct curl_header *header = NULL;
    CURLHcode code = curl_easy_header(r->easy, name, 0, CURLH_HEADER, -1, &header);
    return code == CURLHE_OK ? header->value : NULL;
}

// "bytes 0-9/100": what is sent, and of how much.
static bool read_content_range(const char *text, struct range *part, uint64_t *size)
{
    uint64_t begin = 0, last = 0;
    char total[24] = "";
    if (!text ||
        sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%20[0-9*]", &begin, &last, total) != 3 ||
        last == UINT64_MAX) {
        return false;
    }
    *part = (struct range){.begin = begin, .end = last + 1};
    *size = UINT64_MAX;
    return strcmp(total, "*") == 0 || sscanf(total, "%" SCNu64, size) == 1;
}

// Nothing is taken before the server has said that it sends what was asked for.
static enum refusal check_head(struct request *r)
{
    struct range sent = {0};
    uint64_t size = UINT64_MAX;
    if (status_of(r) == 206) {
        if (r->is_whole || !read_content_range(header_of(r, "Content-Range"), &sent, &size) ||
            sent.begin != r->part.begin || sent.end > r->part.end || sent.end <= sent.begin) {
            return REFUSAL_IGNORES_RANGE;
        }
    } else {
        curl_off_t length = -1;
        curl_easy_getinfo(r->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        size = length < 0 ? UINT64_MAX : (uint64_t)length;
        if (!r->is_whole && (r->part.begin > 0 || r->part.end < r->size)) {
            return REFUSAL_IGNORES_RANGE;
        }
    }
    r->size_said = size;
    return size != UINT64_MAX && r->size != UINT64_MAX && size != r->size ? REFUSAL_SIZE
                                                                          : REFUSAL_NONE;
}

static size_t on_body(char *data, size_t one, size_t n, void *user)
{
    struct request *r = user;
    long status = status_of(r);
    (void)one; // always 1
    if (status != 200 && status != 206) {
        r->n_spare += n;
        return r->n_spare > SPARE_MAX ? 0 : n;
    }
    if (!r->is_head_seen) {
        r->is_head_seen = true;
        r->refusal = check_head(r);
        if (r->refusal) {
            return 0;
        }
    }
    if (n > r->part.end - r->at) {
        r->refusal = REFUSAL_LONGER;
        return 0;
    }
    if (r->put(r->user, r->at, data, n, &r->own)) {
        r->refusal = REFUSAL_OURS;
        return 0;
    }
    r->at += n;
    return n;
}

static void set_limits(struct request *r)
{
    const struct http_options *o = &r->http->options;
    long patience = (long)o->patience_s;
    CURL *easy = r->easy;
    // The library itself looks for its own file only; these are what curl and Python ask.
    const char *certificates = os_env("CURL_CA_BUNDLE");
    certificates = certificates ? certificates : os_env("SSL_CERT_FILE");
    if (certificates) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, certificates);
    }
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, patience);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, SLOWEST_RATE);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, patience);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L * 1024);
    // A connection for each range is what makes several of them faster than one.
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE); // none for a proxy
}

static int add_token(struct request *r, struct carat_error *err)
{
    const struct http *h = r->http;
    if (!h->token || !h->token_is_ok || !is_of_hub(h, r->url)) {
        return 0;
    }
    struct buf line = {.max = URL_MAX};
    buf_addf(&line, "Authorization: Bearer %s", h->token);
    int rc = buf_status(&line, err);
    struct curl_slist *headers = rc ? NULL : curl_slist_append(NULL, buf_text(&line));
    buf_release(&line);
    if (!headers) {
        return fail(err, CARAT_E_MEMORY, "no memory for a request");
    }
    r->headers = headers;
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, headers);
    return 0;
}

static void request_stop(struct request *r)
{
    if (r->easy) {
        if (r->is_busy) {
            curl_multi_remove_handle(r->http->multi, r->easy);
        }
        curl_easy_cleanup(r->easy);
    }
    curl_slist_free_all(r->headers);
    mem_free(r->url);
    r->easy = NULL;
    r->headers = NULL;
    r->url = NULL;
    r->is_busy = r->is_settled = false;
}

// Goes on from r->at; http, part, size, put and user are set.
static int request_start(struct request *r, const char *url, struct carat_error *err)
{
    char *copy = mem_strdup(url, err); // url may be the request's own
    request_stop(r);
    r->url = copy;
    r->easy = copy ? curl_easy_init() : NULL;
    if (!r->easy) {
        return fail(err, CARAT_E_MEMORY, "no memory for a request");
    }
    r->refusal = REFUSAL_NONE;
    r->is_head_seen = false;
    r->n_spare = 0;
    r->message[0] = '\0';
    set_limits(r);
    curl_easy_setopt(r->easy, CURLOPT_URL, r->url);
    curl_easy_setopt(r->easy, CURLOPT_USERAGENT, "carat/" CARAT_VERSION);
    curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
    curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->message);
    if (!r->is_whole) {
        char range[48];
        r->part.begin = r->at;
        snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, r->at, r->part.end - 1);
        curl_easy_setopt(r->easy, CURLOPT_RANGE, range);
    }
    int rc = add_token(r, err);
    if (rc == 0 && curl_multi_add_handle(r->http->multi, r->easy) != CURLM_OK) {
        rc = fail(err, CARAT_E_MEMORY, "no memory for a request");
    }
    r->is_busy = rc == 0;
    return rc;
}

// Lets the transfers go on for a moment. Those that ended become settled.
static int pump(struct http *h, struct carat_error *err)
{
    int n_running = 0, n_left = 0;
    bool has_news = false;
    CURLMcode code = curl_multi_perform(h->multi, &n_running);
    for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &n_left));) {
        if (m->msg == CURLMSG_DONE) {
            struct request *r = NULL;
            CURL *easy = m->easy_handle;
            CURLcode result = m->data.result; // the message goes with the handle
            curl_easy_getinfo(easy, CURLINFO_PRIVATE, &r);
            curl_multi_remove_handle(h->multi, easy);
            r->code = result;
            r->is_busy = false;
            r->is_settled = true;
            has_news = true;
        }
    }
    if (code == CURLM_OK && !has_news) {
        code = curl_multi_poll(h->multi, NULL, 0, 100, NULL);
    }
    if (code != CURLM_OK) {
        return fail(err, CARAT_E_IO, "the HTTP client failed: %s", curl_multi_strerror(code));
    }
    return os_interrupted() ? fail(err, CARAT_E_STOPPED, "interrupted") : 0;
}

// -------------------------------------------------------------------------------------- outcomes

enum outcome {
    OUTCOME_DONE,
    OUTCOME_ELSEWHERE, // a redirect
    OUTCOME_AGAIN,     // it may go well later
    OUTCOME_WHOLE,     // only in one piece
    OUTCOME_NEVER,
};

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool is_passing(long status)
{
    return status == 408 || status == 425 || status == 429 || status >= 500 || status == 416;
}

static bool is_hopeless(CURLcode code)
{
    return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL ||
           code == CURLE_SSL_ISSUER_ERROR || code == CURLE_OUT_OF_MEMORY ||
           code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_LOGIN_DENIED;
}

static enum outcome judge_refusal(const struct request *r, struct carat_error *err)
{
    int n = url_size(r->url);
    switch (r->refusal) {
    case REFUSAL_OURS:
        *err = r->own;
        return OUTCOME_NEVER;
    case REFUSAL_IGNORES_RANGE:
        fail(err, CARAT_E_IO, "%.*s: the server sends another part than was asked for", n, r->url);
        return r->is_whole ? OUTCOME_AGAIN : OUTCOME_WHOLE;
    case REFUSAL_SIZE:
        fail(err, CARAT_E_IO,
             "%.*s: expected %" PRIu64 " bytes, as the hub lists it; the server says %" PRIu64, n,
             r->url, r->size, r->size_said);
        return OUTCOME_AGAIN;
    default:
        if (r->size == UINT64_MAX) {
            fail(err, CARAT_E_FULL, "%.*s: the answer is larger than expected", n, r->url);
            return OUTCOME_NEVER;
        }
        fail(err, CARAT_E_IO, "%.*s: the server sends more than was asked for", n, r->url);
        return OUTCOME_AGAIN;
    }
}

static enum outcome judge_status(const struct request *r, long status, struct http_answer *answer,
                                 struct carat_error *err)
{
    const char *code = header_of(r, "X-Error-Code");
    bool is_hub = is_of_hub(r->http, r->url);
    if (is_hub) {
        answer->status = status;
        snprintf(answer->code, sizeof(answer->code), "%s", code ? code : "");
    }
    fail(err, CARAT_E_IO, "%.*s: the server answers %ld", url_size(r->url), r->url, status);
    // Elsewhere than at the hub, an address that was given out may have become too old.
    return is_passing(status) || !is_hub ? OUTCOME_AGAIN : OUTCOME_NEVER;
}

// What a transfer that ended has come to; err says what is wrong.
static enum outcome judge(const struct request *r, struct http_answer *answer,
                          struct carat_error *err)
{
    long status = status_of(r);
    if (r->refusal) {
        return judge_refusal(r, err);
    }
    if (is_redirect(status)) {
        return OUTCOME_ELSEWHERE;
    }
    if (r->code != CURLE_OK && (status < 300 || r->n_spare <= SPARE_MAX)) {
        fail(err, CARAT_E_IO, "%.*s: %s", url_size(r->url), r->url,
             r->message[0] ? r->message : curl_easy_strerror(r->code));
        return is_hopeless(r->code) ? OUTCOME_NEVER : OUTCOME_AGAIN;
    }
    if (status != 200 && status != 206) {
        return judge_status(r, status, answer, err);
    }
    bool is_short = r->at < r->part.end && (!r->is_whole || r->size != UINT64_MAX);
    if (is_short) {
        fail(err, CARAT_E_IO, "%.*s: the server ended after %" PRIu64 " of %" PRIu64 " bytes",
             url_size(r->url), r->url, r->at - r->part.begin, r->part.end - r->part.begin);
        return OUTCOME_AGAIN;
    }
    return OUTCOME_DONE;
}

static int follow(struct request *r, struct carat_error *err)
{
    char *next = NULL;
    curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &next);
    int n = url_size(r->url);
    if (!next || strlen(next) > URL_MAX) {
        return fail(err, CARAT_E_IO, "%.*s: the server redirects to no address", n, r->url);
    }
    if (++r->n_hops > HOPS_MAX) {
        return fail(err, CARAT_E_IO, "%.*s: more than %d redirects", n, r->url, HOPS_MAX);
    }
    bool was_safe = strncmp(r->url, "https:", 6) == 0;
    if (strncmp(next, "https:", 6) != 0 && (was_safe || strncmp(next, "http:", 5) != 0)) {
        return fail(err, CARAT_E_IO, "%.*s: the server redirects to %.*s, which is not encrypted",
                    n, r->url, url_size(next), next);
    }
    r->at = r->part.begin; // nothing of a redirect's body was taken
    return request_start(r, next, err);
}

// Counts a failure; an error when there were too many. Those that come together count as one.
static int trouble_add(struct trouble *t, const struct request *r, const struct carat_error *why,
                       struct carat_error *err)
{
    double now = os_seconds();
    if (t->moved >= ENOUGH) {
        t->n = 0;
    }
    t->moved = 0;
    t->last = *why;
    if (now < t->not_before) {
        return 0;
    }
    if (++t->n >= t->n_max) {
        return t->n == 1 ? fail(err, why->status, "%s", why->text)
                         : fail(err, why->status, "%s (tried %zu times)", why->text, t->n);
    }
    double pause = t->n > 8 ? PAUSE_MAX_S : 0.1 * (double)(1u << (t->n - 1));
    pause = pause > PAUSE_MAX_S ? PAUSE_MAX_S : pause;
    curl_off_t later = 0;
    curl_easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &later);
    if (later > 0) {
        double asked = later > (curl_off_t)BUSY_MAX_S ? BUSY_MAX_S : (double)later;
        pause = asked > pause ? asked : pause;
    }
    if (pause >= 2) {
        say("%s; trying again in %.0f s", why->text, pause);
    }
    t->not_before = now + pause;
    return 0;
}

static int wait_until(struct http *h, double when, struct carat_error *err)
{
    int rc = 0;
    while (rc == 0 && os_seconds() < when) {
        rc = pump(h, err);
    }
    return rc;
}

// ------------------------------------------------------------------------------------ one answer

static int put_in_buf(void *user, uint64_t at, const void *data, size_t size,
                      struct carat_error *err)
{
    struct buf *out = user;
    (void)at;
    buf_add(out, data, size);
    return buf_status(out, err);
}

int http_get(struct http *h, const char *url, const struct range *part, struct buf *out,
             struct http_answer *answer, struct carat_error *err)
{
    struct request r = {.http = h, .put = put_in_buf, .user = out, .size = UINT64_MAX};
    size_t n_tries = h->options.n_tries < GET_TRIES ? h->options.n_tries : GET_TRIES;
    struct trouble trouble = {.n_max = n_tries};
    enum outcome outcome = OUTCOME_AGAIN;
    int rc = 0;
    r.is_whole = !part;
    while (rc == 0 && outcome == OUTCOME_AGAIN) {
        struct carat_error why = {.status = CARAT_E_IO};
        *answer = (struct http_answer){0};
        buf_clear(out);
        r.part = part ? *part : (struct range){.end = UINT64_MAX};
        r.at = r.part.begin;
        r.n_hops = 0;
        rc = request_start(&r, url, err);
        do {
            while (rc == 0 && r.is_busy) {
                rc = pump(h, err);
            }
            outcome = rc ? OUTCOME_NEVER : judge(&r, answer, &why);
            if (outcome == OUTCOME_ELSEWHERE) {
                rc = follow(&r, err);
            }
        } while (rc == 0 && outcome == OUTCOME_ELSEWHERE);
        if (rc == 0 && outcome == OUTCOME_AGAIN) {
            rc = trouble_add(&trouble, &r, &why, err);
            rc = rc ? rc : wait_until(h, trouble.not_before, err);
        } else if (rc == 0 && outcome != OUTCOME_DONE) {
            rc = fail(err, why.status, "%s", why.text);
        }
    }
    request_stop(&r);
    return rc;
}

// ---------------------------------------------------------------------------------- a large file

struct download {
    struct http *http;
    const struct http_download *what;
    struct request slots[HTTP_PARALLEL_MAX];
    size_t n_slots;
    char *found; // the address that the hub's led to; NULL: not known
    bool is_whole;
    uint64_t chunk;
    struct trouble trouble;
};

static int put_and_count(void *user, uint64_t at, const void *data, size_t size,
                         struct carat_error *err)
{
    struct download *d = user;
    d->trouble.moved += size;
    return d->what->put(d->what->user, at, data, size, err);
}

static size_t count_busy(const struct download *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_slots; i++) {
        n += d->slots[i].is_busy || d->slots[i].is_settled;
    }
    return n;
}

// The next bytes that are neither there nor on their way.
static bool find_work(const struct download *d, struct range *out)
{
    struct range gap;
    for (uint64_t from = 0; ranges_gap(d->what->done, from, d->what->size, &gap);) {
        bool is_taken = false;
        for (size_t i = 0; i < d->n_slots; i++) {
            const struct request *r = &d->slots[i];
            if (!r->is_busy && !r->is_settled) {
                continue;
            }
            if (r->at <= gap.begin && gap.begin < r->part.end) {
                from = r->part.end;
                is_taken = true;
            } else if (r->at > gap.begin && r->at < gap.end) {
                gap.end = r->at;
            }
        }
        if (!is_taken) {
            gap.end =
                !d->is_whole && gap.end - gap.begin > d->chunk ? gap.begin + d->chunk : gap.end;
            *out = gap;
            return true;
        }
    }
    return false;
}

static int start_slot(struct download *d, struct range work, struct carat_error *err)
{
    size_t i = 0;
    while (d->slots[i].is_busy || d->slots[i].is_settled) {
        i++;
    }
    struct request *r = &d->slots[i];
    request_stop(r);
    *r = (struct request){.http = d->http,
                          .put = put_and_count,
                          .user = d,
                          .size = d->what->size,
                          .part = work,
                          .at = work.begin,
                          .is_whole = d->is_whole};
    return request_start(r, d->found ? d->found : d->what->url, err);
}

// A part that is on its way shows where the file is, and that it can be had in parts.
static int learn_address(struct download *d, struct carat_error *err)
{
    for (size_t i = 0; i < d->n_slots && !d->found; i++) {
        const struct request *r = &d->slots[i];
        if (r->is_busy && r->is_head_seen && !r->refusal && r->at > r->part.begin) {
            d->found = mem_strdup(r->url, err);
            return d->found ? 0 : CARAT_E_MEMORY;
        }
    }
    return 0;
}

// One request until that is known.
static int start_slots(struct download *d, struct carat_error *err)
{
    size_t n_allowed = d->found && !d->is_whole ? d->n_slots : 1;
    struct range work;
    int rc = 0;
    while (rc == 0 && count_busy(d) < n_allowed && os_seconds() >= d->trouble.not_before &&
           find_work(d, &work)) {
        if (d->is_whole && (work.begin > 0 || work.end < d->what->size)) {
            rc = d->what->restart(d->what->user, err);
            work = (struct range){.end = d->what->size};
        }
        rc = rc ? rc : start_slot(d, work, err);
    }
    return rc;
}

static void stop_all(struct download *d)
{
    for (size_t i = 0; i < d->n_slots; i++) {
        request_stop(&d->slots[i]);
    }
}

static void forget_address(struct download *d)
{
    mem_free(d->found);
    d->found = NULL;
}

static int settle(struct download *d, struct request *r, struct http_answer *answer,
                  struct carat_error *err)
{
    struct carat_error why = {.status = CARAT_E_IO};
    int rc = 0;
    enum outcome outcome = judge(r, answer, &why);
    r->is_settled = false;
    switch (outcome) {
    case OUTCOME_ELSEWHERE:
        return follow(r, err);
    case OUTCOME_DONE:
        if (!d->found) {
            d->found = mem_strdup(r->url, err);
            rc = d->found ? 0 : CARAT_E_MEMORY;
        }
        return rc;
    case OUTCOME_WHOLE:
        if (status_of(r) != 200) { // a part that nobody asked for
            rc = trouble_add(&d->trouble, r, &why, err);
            forget_address(d);
            return rc;
        }
        d->is_whole = true;
        stop_all(d);
        return d->what->restart(d->what->user, err);
    case OUTCOME_AGAIN:
        d->trouble.moved = d->is_whole ? 0 : d->trouble.moved;
        rc = trouble_add(&d->trouble, r, &why, err);
        if (status_of(r) >= 300) {
            forget_address(d);
        }
        return rc;
    case OUTCOME_NEVER:
        break;
    }
    return fail(err, why.status, "%s", why.text);
}

static int run_download(struct download *d, struct http_answer *answer, struct carat_error *err)
{
    int rc = 0;
    struct range work;
    while (rc == 0) {
        rc = learn_address(d, err);
        rc = rc ? rc : start_slots(d, err);
        if (rc || (count_busy(d) == 0 && !find_work(d, &work))) {
            break;
        }
        rc = pump(d->http, err);
        for (size_t i = 0; i < d->n_slots && rc == 0; i++) {
            if (d->slots[i].is_settled) {
                rc = settle(d, &d->slots[i], answer, err);
            }
        }
        rc = rc ? rc : d->what->tick(d->what->user, err);
    }
    return rc;
}

int http_download(struct http *h, const struct http_download *what, struct http_answer *answer,
                  struct carat_error *err)
{
    size_t n = what->n_parallel < 1 ? 1 : what->n_parallel;
    uint64_t chunk = 0;
    struct download *d = mem_new(sizeof(*d), err);
    if (!d) {
        return CARAT_E_MEMORY;
    }
    d->http = h;
    d->what = what;
    d->n_slots = n > HTTP_PARALLEL_MAX ? HTTP_PARALLEL_MAX : n;
    d->trouble.n_max = h->options.n_tries;
    chunk = what->size / (d->n_slots * 4);
    d->chunk = chunk < CHUNK_MIN ? CHUNK_MIN : chunk > CHUNK_MAX ? CHUNK_MAX : chunk;
    *answer = (struct http_answer){0};
    int rc = run_download(d, answer, err);
    stop_all(d);
    forget_address(d);
    mem_free(d);
    return rc;
}

// --------------------------------------------------------------------------------------- opening

int http_open(struct http **out, const struct http_options *options, struct carat_error *err)
{
    struct buf origin = {.max = URL_MAX};
    struct http *h = mem_new(sizeof(*h), err);
    int rc = h ? 0 : CARAT_E_MEMORY;
    if (rc == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        rc = fail(err, CARAT_E_IO, "the HTTP client cannot be started");
    }
    if (rc == 0) {
        h->options = *options;
        h->multi = curl_multi_init();
        rc = h->multi ? 0 : fail(err, CARAT_E_MEMORY, "no memory for the HTTP client");
    }
    if (rc == 0) {
        curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
        rc = find_origin(&origin, options->endpoint, &h->token_is_ok)
                 ? 0
                 : fail(err, CARAT_E_ARGUMENT,
                        "HF_ENDPOINT: expected an address like https://huggingface.co, found "
                        "'%.200s'",
                        options->endpoint);
    }
    if (rc == 0) {
        h->origin = buf_take(&origin);
        h->token = options->token ? mem_strdup(options->token, err) : NULL;
        rc = options->token && !h->token ? CARAT_E_MEMORY : 0;
    }
    buf_release(&origin);
    if (rc == 0 && h->token && !h->token_is_ok) {
        say("warning: the token is not sent to %s, because it is not encrypted", h->origin);
    }
    if (rc) {
        http_close(h);
        return rc;
    }
    *out = h;
    return 0;
}

void http_close(struct http *h)
{
    if (h) {
        if (h->multi) {
            curl_multi_cleanup(h->multi);
        }
        mem_free(h->token);
        mem_free(h->origin);
        mem_free(h);
    }
}
