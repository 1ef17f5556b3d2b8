// libunwind's remote interface as functions: it is made of macros, which Swift does not import.
#ifndef CUNWIND_H
#define CUNWIND_H
#include <stdint.h>
#include <string.h>
#include <libunwind.h>
#include <libunwind-ptrace.h>

// Exported by libunwind-x86_64, declared in none of its headers.
extern int _Ux86_64_dwarf_search_unwind_table(unw_addr_space_t as, unw_word_t ip, unw_dyn_info_t *di, unw_proc_info_t *pi, int need_info, void *arg);

static inline unw_accessors_t *_Nonnull cunwind_ptrace_accessors(void) { return &_UPT_accessors; }
static inline unw_addr_space_t cunwind_space(unw_accessors_t *_Nonnull accessors) { return unw_create_addr_space(accessors, 0); }
static inline void cunwind_space_end(unw_addr_space_t space) { unw_destroy_addr_space(space); }
static inline int cunwind_start(unw_cursor_t *_Nonnull cursor, unw_addr_space_t space, void *_Nullable argument) { return unw_init_remote(cursor, space, argument); }
static inline int cunwind_step(unw_cursor_t *_Nonnull cursor) { return unw_step(cursor); }
static inline int cunwind_is_signal_frame(unw_cursor_t *_Nonnull cursor) { return unw_is_signal_frame(cursor) > 0; }
static inline int cunwind_register(unw_cursor_t *_Nonnull cursor, int number, uint64_t *_Nonnull value) {
    unw_word_t v = 0;
    int r = unw_get_reg(cursor, number, &v);
    *value = v;
    return r;
}
static inline int cunwind_ip(unw_cursor_t *_Nonnull cursor, uint64_t *_Nonnull value) { return cunwind_register(cursor, UNW_REG_IP, value); }
static inline int cunwind_sp(unw_cursor_t *_Nonnull cursor, uint64_t *_Nonnull value) { return cunwind_register(cursor, UNW_REG_SP, value); }
static inline int cunwind_name(unw_cursor_t *_Nonnull cursor, char *_Nonnull buffer, size_t size, uint64_t *_Nonnull offset) {
    unw_word_t o = 0;
    int r = unw_get_proc_name(cursor, buffer, size, &o);
    *offset = o;
    return r;
}
// One table of .eh_frame_hdr in the target's memory, searched through the accessors.
static inline int cunwind_search(unw_addr_space_t space, uint64_t ip, uint64_t start, uint64_t end, uint64_t header, uint64_t table, uint64_t entries,
                                 unw_proc_info_t *_Nonnull info, int need_info, void *_Nullable argument) {
    unw_dyn_info_t di;
    memset(&di, 0, sizeof di);
    di.format = UNW_INFO_FORMAT_REMOTE_TABLE;
    di.start_ip = start;
    di.end_ip = end;
    di.u.rti.segbase = header;
    di.u.rti.table_data = table;
    di.u.rti.table_len = entries * 8 / sizeof(unw_word_t);
    return _Ux86_64_dwarf_search_unwind_table(space, ip, &di, info, need_info, argument);
}
enum { CUNWIND_NO_INFO = UNW_ENOINFO, CUNWIND_INVALID = UNW_EINVAL, CUNWIND_BAD_REGISTER = UNW_EBADREG };
#endif
