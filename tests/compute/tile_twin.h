// SPDX-License-Identifier: Apache-2.0
// The kernel for matrix units (kern_tile.c) with its tiles in plain C, as a level of its own.
#ifndef TESTS_TILE_TWIN_H
#define TESTS_TILE_TWIN_H

// Adds the level "tiletwin" where this build and machine have what is around the tiles.
void tile_twin_add(void);

#endif
