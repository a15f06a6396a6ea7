// SPDX-License-Identifier: Apache-2.0
// Which addresses are public: the IANA registries of special-purpose IPv4 and IPv6 addresses (RFC
// 6890 and its updates), as of 2025.
#include "server/address.h"

#include <string.h>

struct range4 {
    uint32_t address;
    unsigned bits;
};

// clang-format off
static const struct range4 closed4[] = {
    {0x00000000, 8},  // this network
    {0x0a000000, 8},  // private
    {0x64400000, 10}, // shared, behind a carrier's NAT
    {0x7f000000, 8},  // loopback
    {0xa9fe0000, 16}, // link-local, with the metadata services of clouds
    {0xac100000, 12}, // private
    {0xc0000000, 24}, // protocol assignments
    {0xc0000200, 24}, // documentation
    {0xc0586300, 24}, // 6to4 relays
    {0xc0a80000, 16}, // private
    {0xc6120000, 15}, // benchmarks
    {0xc6336400, 24}, // documentation
    {0xcb007100, 24}, // documentation
    {0xe0000000, 4},  // multicast
    {0xf0000000, 4},  // reserved, broadcast
};
// clang-format on

static bool is_within(const uint8_t *address, const uint8_t *prefix, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(address, prefix, whole) != 0) {
        return false;
    }
    return rest == 0 || (address[whole] ^ prefix[whole]) >> (8 - rest) == 0;
}

bool address4_is_public(const uint8_t bytes[4])
{
    for (size_t i = 0; i < sizeof(closed4) / sizeof(closed4[0]); i++) {
        uint32_t a = closed4[i].address;
        const uint8_t prefix[4] = {(uint8_t)(a >> 24), (uint8_t)(a >> 16), (uint8_t)(a >> 8),
                                   (uint8_t)a};
        if (is_within(bytes, prefix, closed4[i].bits)) {
            return false;
        }
    }
    return true;
}

bool address6_is_public(const uint8_t bytes[16])
{
    // Of global unicast: what is tunnelled, documented or assigned to protocols is none of it. All
    // else, IPv4 inside IPv6 and its translation included, lies outside of 2000::/3.
    static const uint8_t global[16] = {0x20}, protocols[16] = {0x20, 0x01},
                         documents[16] = {0x20, 0x01, 0x0d, 0xb8}, six_to_four[16] = {0x20, 0x02},
                         more_documents[16] = {0x3f, 0xff};
    return is_within(bytes, global, 3) && !is_within(bytes, protocols, 23) &&
           !is_within(bytes, documents, 32) && !is_within(bytes, six_to_four, 16) &&
           !is_within(bytes, more_documents, 20);
}
