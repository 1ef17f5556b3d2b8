// A statefile's records of files whose contents --save-files stored: where their data lies, hole by hole, and what utimensat(2) takes.
#ifndef CKPT_FILES_H
#define CKPT_FILES_H
#include <stdint.h>

struct ckpt_saved_record {
    uint32_t object;                // OBJECT, of kind REGULAR, flag SAVED; its size, mode, owner and mtime are there
    uint32_t first_extent, extent_count, pad;   // EXTENT, in order; between them the file has holes
    int64_t  atime_sec, atime_nsec;
};
_Static_assert(sizeof(struct ckpt_saved_record) == 32, "saved_record");

struct ckpt_extent_record {
    uint64_t offset, size;          // in the saved file
    uint64_t content;               // in the statefile
    uint32_t crc, pad;              // CRC-32C of the bytes
};
_Static_assert(sizeof(struct ckpt_extent_record) == 32, "extent_record");

#endif
