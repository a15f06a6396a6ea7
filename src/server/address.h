// SPDX-License-Identifier: Apache-2.0
// Whether an address belongs to the public internet, and not to this machine, its network, or
// nobody. Bytes as they travel.
#ifndef CARAT_SERVER_ADDRESS_H
#define CARAT_SERVER_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool address4_is_public(const uint8_t bytes[4]);
bool address6_is_public(const uint8_t bytes[16]);

#endif
