// SPDX-License-Identifier: Apache-2.0
// Files for targets whose code reads them by name: in a folder of this process, which goes with it.
#ifndef CARAT_FUZZ_SCRATCH_FILE_H
#define CARAT_FUZZ_SCRATCH_FILE_H

#include <stddef.h>

// The folder, made at the first call. It holds files and folders that the caller removes.
const char *scratch_folder(void);
void scratch_write(const char *path, const void *data, size_t size);
// The whole file; *size 0 where there is none. The caller frees.
unsigned char *scratch_read(const char *path, size_t *size);

#endif
