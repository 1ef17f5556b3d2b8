#include <libunwind.h>
#include <libunwind-ptrace.h>
