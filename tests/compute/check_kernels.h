// SPDX-License-Identifier: Apache-2.0
#ifndef CARAT_TESTS_CHECK_KERNELS_H
#define CARAT_TESTS_CHECK_KERNELS_H

// Prints speeds of the operations whose line contains the word, for every level of this machine.
void bench_kernels(const char *word);
// The lines about attention, of one level.
void bench_attend(const char *level, const char *word);

#endif
