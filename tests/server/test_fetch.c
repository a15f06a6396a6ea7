// SPDX-License-Identifier: Apache-2.0
// Fetching: which addresses are public, and what is taken from a server that answers this or that.
// The server is our own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/address.h"
#include "server/fetch.h"
#include "server/http.h"

struct case4 {
    uint8_t bytes[4];
    bool is_public;
};

static void test_address_4(void **state)
{
    (void)state;
    // The first and last of each closed range, and their neighbours outside.
    static const struct case4 cases[] = {
        {{0, 0, 0, 0}, false},         {{0, 255, 255, 255}, false},   {{1, 0, 0, 0}, true},
        {{9, 255, 255, 255}, true},    {{10, 0, 0, 0}, false},        {{10, 255, 255, 255}, false},
        {{11, 0, 0, 0}, true},         {{100, 63, 255, 255}, true},   {{100, 64, 0, 0}, false},
        {{100, 127, 255, 255}, false}, {{100, 128, 0, 0}, true},      {{127, 0, 0, 1}, false},
        {{127, 255, 255, 255}, false}, {{128, 0, 0, 0}, true},        {{169, 253, 255, 255}, true},
        {{169, 254, 169, 254}, false}, {{169, 255, 0, 0}, true},      {{172, 15, 255, 255}, true},
        {{172, 16, 0, 0}, false},      {{172, 31, 255, 255}, false},  {{172, 32, 0, 0}, true},
        {{192, 0, 0, 1}, false},       {{192, 0, 1, 0}, true},        {{192, 0, 2, 255}, false},
        {{192, 167, 255, 255}, true},  {{192, 168, 0, 0}, false},     {{192, 168, 255, 255}, false},
        {{192, 169, 0, 0}, true},      {{198, 17, 255, 255}, true},   {{198, 18, 0, 0}, false},
        {{198, 19, 255, 255}, false},  {{198, 20, 0, 0}, true},       {{198, 51, 100, 7}, false},
        {{203, 0, 113, 7}, false},     {{203, 0, 114, 0}, true},      {{223, 255, 255, 255}, true},
        {{224, 0, 0, 1}, false},       {{239, 255, 255, 255}, false}, {{240, 0, 0, 0}, false},
        {{255, 255, 255, 255}, false}, {{8, 8, 8, 8}, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const uint8_t *b = cases[i].bytes;
        if (address4_is_public(b) != cases[i].is_public) {
            fail_msg("%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
        }
    }
}

static void test_address_6(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[16];
        bool is_public;
    } cases[] = {
        {{0}, false},                                                 // ::
        {{[15] = 1}, false},                                          // ::1
        {{[10] = 0xff, 0xff, 8, 8, 8, 8}, false},                     // ::ffff:8.8.8.8
        {{[10] = 0xff, 0xff, 127, 0, 0, 1}, false},                   // ::ffff:127.0.0.1
        {{[12] = 127, 0, 0, 1}, false},                               // ::127.0.0.1
        {{0, 0x64, 0xff, 0x9b, [12] = 10, 0, 0, 1}, false},           // 64:ff9b::10.0.0.1
        {{1, 0, [15] = 1}, false},                                    // 100::1, discarded
        {{0x20, 0x01, 0, 0, 1, 2, 3, 4}, false},                      // Teredo
        {{0x20, 0x01, 0x01, 0xff}, false},                            // protocols
        {{0x20, 0x01, 0x02, 0x00, [15] = 1}, true},                   // behind them
        {{0x20, 0x01, 0x0d, 0xb8, [15] = 1}, false},                  // documentation
        {{0x20, 0x02, 127, 0, 0, 1}, false},                          // 6to4
        {{0x26, 0x06, 0x28, 0x00, 0x02, 0x20, 0, 1, [15] = 1}, true}, // 2606:2800:220:1::1
        {{0x2a, 0x00, 0x14, 0x50, [15] = 0x8a}, true},                // 2a00:1450::8a
        {{0x3f, 0xff, 0, 0, [15] = 1}, false},                        // documentation
        {{0x3f, 0xfe, 0, 0, [15] = 1}, true},                         // global, unused
        {{0xfc, 0, [15] = 1}, false},                                 // unique local
        {{0xfd, 0x12, [15] = 1}, false},                              // unique local
        {{0xfe, 0x80, [15] = 1}, false},                              // link-local
        {{0xfe, 0xc0, [15] = 1}, false},                              // site-local
        {{0xff, 0x02, [15] = 1}, false},                              // multicast
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (address6_is_public(cases[i].bytes) != cases[i].is_public) {
            fail_msg("case %zu", i);
        }
    }
}

/* -------------------------------------------------------------------------------- a server */

struct site {
    struct http *http;
    char base[64];
    unsigned n_requests;
    struct http_reply *waiting; // never answered but at the end
};

static bool on_check(void *user, struct http_request *request, struct http_reply *reply)
{
    (void)user;
    (void)request;
    (void)reply;
    return true;
}

static void on_refuse(void *user, struct http_request *request, struct http_reply *reply,
                      int status, const char *text)
{
    (void)user;
    (void)request;
    http_reply_all(reply, status, "text/plain", NULL, text, strlen(text));
}

static void redirect(struct http_reply *reply, const char *where)
{
    const char *const headers[] = {"Location", where, NULL};
    http_reply_all(reply, 302, NULL, headers, "", 0);
}

static void answer_large(struct http_reply *reply)
{
    static char zeros[65536];
    http_reply_begin(reply, 200, "image/png", NULL); // in chunks: the size is not told
    for (size_t i = 0; i < 32 && http_reply_send(reply, zeros, sizeof(zeros)); i++) {
    }
    http_reply_end(reply);
}

static void on_request(void *user, struct http_request *request, struct http_reply *reply)
{
    struct site *site = user;
    static char zeros[200000];
    site->n_requests++;
    if (strcmp(request->path, "/picture") == 0) {
        http_reply_all(reply, 200, "image/png", NULL, "bytes", 5);
    } else if (strcmp(request->path, "/moved") == 0) {
        redirect(reply, "/picture");
    } else if (strcmp(request->path, "/circle") == 0) {
        redirect(reply, "/circle");
    } else if (strcmp(request->path, "/file") == 0) {
        redirect(reply, "file:///etc/hostname");
    } else if (strcmp(request->path, "/large") == 0) {
        http_reply_all(reply, 200, "image/png", NULL, zeros, sizeof(zeros));
    } else if (strcmp(request->path, "/chunks") == 0) {
        answer_large(reply);
    } else if (strcmp(request->path, "/slow") == 0) {
        site->waiting = reply;
    } else {
        http_reply_all(reply, 404, "text/plain", NULL, "no", 2);
    }
}

static int open_site(void **state)
{
    static struct site site;
    struct carat_error err;
    site = (struct site){.waiting = NULL};
    struct http_options options = {
        .connections_max = 20,
        .header_size_max = 16384,
        .body_size_max = 1000,
        .header_seconds = 10,
        .body_seconds = 10,
        .idle_seconds = 10,
        .check = on_check,
        .refuse = on_refuse,
        .handle = on_request,
        .user = &site,
    };
    if (http_start(&site.http, &options, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    snprintf(site.base, sizeof(site.base), "http://127.0.0.1:%u", (unsigned)http_port(site.http));
    *state = &site;
    return 0;
}

static int close_site(void **state)
{
    struct site *site = *state;
    http_stop(site->http);
    if (site->waiting) {
        http_reply_all(site->waiting, 200, NULL, NULL, "", 0); // after the daemon has gone
    }
    return 0;
}

static int get(const struct site *site, const char *path, bool reaches_private, struct buf *out,
               struct carat_error *err)
{
    char url[200];
    const struct fetch_options options = {
        .size_max = 100000, .seconds_max = 2, .reaches_private = reaches_private};
    snprintf(url, sizeof(url), "%s%s", strchr(path, ':') ? "" : site->base, path);
    buf_clear(out);
    return fetch_url(out, url, &options, err);
}

static void test_fetch(void **state)
{
    const struct site *site = *state;
    struct carat_error err;
    struct buf out = {.max = 100000};
    if (!fetch_is_built()) {
        skip();
    }
    static const struct {
        const char *path;
        int status;
        const char *word; // of the content, or of the error
    } cases[] = {
        {"/picture", 0, "bytes"},
        {"/moved", 0, "bytes"},
        {"/nowhere", CARAT_E_ARGUMENT, "404"},
        {"/circle", CARAT_E_ARGUMENT, "redirect"},
        {"/file", CARAT_E_ARGUMENT, "could not be fetched"},
        {"/large", CARAT_E_FULL, "100000"},
        {"/chunks", CARAT_E_FULL, "100000"},
        {"/slow", CARAT_E_ARGUMENT, "could not be fetched"},
        {"file:///etc/hostname", CARAT_E_ARGUMENT, "could not be fetched"},
        {"ftp://127.0.0.1/x", CARAT_E_ARGUMENT, "could not be fetched"},
        {"http://name:word@127.0.0.1/x", CARAT_E_ARGUMENT, "could not be fetched"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int rc = get(site, cases[i].path, true, &out, &err);
        const char *text = rc ? err.text : buf_text(&out);
        if (rc != cases[i].status || !strstr(text, cases[i].word)) {
            fail_msg("%s: %d, %s", cases[i].path, rc, text);
        }
    }
    buf_release(&out);
}

static void test_fetch_stays_out(void **state)
{
    struct site *site = *state;
    struct carat_error err;
    struct buf out = {.max = 100000};
    if (!fetch_is_built()) {
        skip();
    }
    unsigned before = site->n_requests;
    static const char *const hosts[] = {
        "127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0", "127.1"};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        char url[100];
        snprintf(url, sizeof(url), "http://%s:%u/picture", hosts[i],
                 (unsigned)http_port(site->http));
        if (get(site, url, false, &out, &err) != CARAT_E_ARGUMENT ||
            !strstr(err.text, "not public")) {
            fail_msg("%s: %s", url, err.text);
        }
    }
    assert_int_equal(site->n_requests, before); // nobody knocked
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_4),
        cmocka_unit_test(test_address_6),
        cmocka_unit_test_setup_teardown(test_fetch, open_site, close_site),
        cmocka_unit_test_setup_teardown(test_fetch_stays_out, open_site, close_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
