// SPDX-License-Identifier: Apache-2.0
#include "server/fetch.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "server/address.h"

#define URL_MAX         2048
#define REDIRECTS_MAX   5L
#define CONNECT_SECONDS 10L

struct fetching {
    const struct fetch_options *options;
    struct buf *out;
    bool is_closed; // an address was refused
    bool is_full;
};

bool fetch_is_built(void)
{
    return true;
}

static bool is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in in;
        uint8_t bytes[4];
        memcpy(&in, address, sizeof(in));
        memcpy(bytes, &in.sin_addr, sizeof(bytes));
        return address4_is_public(bytes);
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, address, sizeof(in));
        return address6_is_public(in.sin6_addr.s6_addr);
    }
    return false;
}

// Called for every connection, with the address that was found for its name.
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct fetching *f = user;
    if (purpose != CURLSOCKTYPE_IPCXN ||
        (!f->options->reaches_private && !is_public(&address->addr))) {
        f->is_closed = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype, address->protocol);
}

static size_t take(char *data, size_t size, size_t n, void *user)
{
    struct fetching *f = user;
    buf_add(f->out, data, size * n); // size is always 1
    f->is_full = f->out->has_failed;
    return f->is_full ? 0 : size * n;
}

static void set_options(CURL *curl, struct fetching *f, const char *url, char *message)
{
    double seconds = f->options->seconds_max;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
    curl_easy_setopt(curl, CURLOPT_PROXY, ""); // a proxy would look the name up by itself
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, f);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)f->options->size_max);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(seconds * 1000));
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "carat/" CARAT_VERSION);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start_library(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

int fetch_url(struct buf *out, const char *url, const struct fetch_options *options,
              struct carat_error *err)
{
    char message[CURL_ERROR_SIZE] = "";
    struct fetching f = {.options = options, .out = out};
    if (strlen(url) > URL_MAX) {
        return fail(err, CARAT_E_ARGUMENT, "an address of more than %d bytes is not fetched",
                    URL_MAX);
    }
    pthread_once(&once, start_library);
    CURL *curl = curl_easy_init();
    if (!curl) {
        return fail(err, CARAT_E_MEMORY, "no memory to fetch %s", url);
    }
    out->max = options->size_max;
    set_options(curl, &f, url, message);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_cleanup(curl);
    if (code == CURLE_OK) {
        return 0;
    }
    if (f.is_closed) {
        return fail(err, CARAT_E_ARGUMENT,
                    "%.300s leads to an address that is not public: this server does not fetch "
                    "from private networks; send the content itself, as data:TYPE;base64,...",
                    url);
    }
    if (f.is_full || code == CURLE_FILESIZE_EXCEEDED) {
        return fail(err, CARAT_E_FULL, "%.300s is larger than the %zu bytes that are taken", url,
                    options->size_max);
    }
    return fail(err, CARAT_E_ARGUMENT, "%.300s could not be fetched: %s", url,
                message[0] ? message : curl_easy_strerror(code));
}
