// SPDX-License-Identifier: Apache-2.0
// SipHash-2-4-128 against its authors' vectors, in pieces of every size.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"

// vectors_sip128 of the reference repository: key 00 01 .. 0f, message 00 01 .. of length i.
static const char *const vectors[] = {
    "a3817f04ba25a8e66df67214c7550293", "da87c1d86b99af44347659119b22fc45",
    "8177228da4a45dc7fca38bdef60affe4", "9c70b60c5267a94e5f33b6b02985ed51",
    "f88164c12d9c8faf7d0f6e7c7bcd5579", "1368875980776f8854527a07690e9627",
    "14eeca338b208613485ea0308fd7a15e", "a1f1ebbed8dbc153c0b84aa61ff08239",
    "3b62a9ba6258f5610f83e264f31497b4", "264499060ad9baabc47f8b02bb6d71ed",
    "00110dc378146956c95447d3f3d0fbba", "0151c568386b6677a2b4dc6f81e5dc18",
    "d626b266905ef35882634df68532c125", "9869e247e9c08b10d029934fc4b952f7",
    "31fcefac66d7de9c7ec7485fe4494902", "5493e99933b0a8117e08ec0f97cfc3d9",
    "6ee2a4ca67b054bbfd3315bf85230577", "473d06e8738db89854c066c47ae47740",
};

static void digest_text(char out[33], const struct hash *h)
{
    uint8_t digest[HASH_SIZE];
    hash_digest(h, digest);
    for (size_t i = 0; i < HASH_SIZE; i++) {
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    }
}

static void test_published_vectors_in_any_pieces(void **state)
{
    (void)state;
    uint8_t key[HASH_SIZE];
    uint8_t message[64];
    char text[33];
    for (size_t i = 0; i < sizeof(message); i++) {
        message[i] = (uint8_t)i;
    }
    memcpy(key, message, sizeof(key));
    for (size_t size = 0; size < sizeof(vectors) / sizeof(vectors[0]); size++) {
        for (size_t piece = 1; piece <= 18; piece++) {
            struct hash h;
            hash_init(&h, key);
            for (size_t at = 0; at < size; at += piece) {
                hash_add(&h, message + at, size - at < piece ? size - at : piece);
                hash_add(&h, NULL, 0);
            }
            digest_text(text, &h);
            assert_string_equal(text, vectors[size]);
            digest_text(text, &h); // asking changes nothing
            assert_string_equal(text, vectors[size]);
        }
    }
}

static void test_goes_on_after_a_digest_and_a_copy(void **state)
{
    (void)state;
    uint8_t key[HASH_SIZE];
    char text[33];
    struct hash h;
    for (size_t i = 0; i < HASH_SIZE; i++) {
        key[i] = (uint8_t)i;
    }
    hash_init(&h, key);
    hash_add(&h, "\0\1\2", 3);
    digest_text(text, &h);
    struct hash copy = h;
    hash_add(&copy, "\3\4", 2);
    digest_text(text, &copy);
    assert_string_equal(text, vectors[5]);
    digest_text(text, &h);
    assert_string_equal(text, vectors[3]);
}

static void test_numbers(void **state)
{
    (void)state;
    struct hash a;
    struct hash b;
    uint8_t zeros[HASH_SIZE] = {0};
    uint8_t digest[HASH_SIZE];
    hash_init(&a, NULL);
    hash_init(&b, zeros);
    hash_add_u64(&a, 0x0807060504030201u);
    hash_add(&b, "\1\2\3\4\5\6\7\10", 8);
    assert_true(hash_u64(&a) == hash_u64(&b));
    hash_digest(&a, digest);
    assert_int_equal(hash_u64(&a) & 0xff, digest[0]);
    assert_int_equal(hash_u64(&a) >> 56, digest[7]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_vectors_in_any_pieces),
        cmocka_unit_test(test_goes_on_after_a_digest_and_a_copy),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
