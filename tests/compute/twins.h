// SPDX-License-Identifier: Apache-2.0
// Kernels whose instructions this machine may lack, with these instructions made of others, as
// levels of their own: "vnnitwin" for avxvnni, "tiletwin" for the matrix units of avx512amx.
#ifndef TESTS_TWINS_H
#define TESTS_TWINS_H

// Adds those of which this build and machine have what is around the instructions.
void twins_add(void);

#endif
