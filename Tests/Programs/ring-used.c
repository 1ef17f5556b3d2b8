// An io_uring that was used a million times, and one of a single entry, whose counts have gone far beyond their sizes.
#include "ring.h"
int main(void) {
    struct ring many, one;
    ring_make(&many, 256, 0, 0); ring_make(&one, 1, 0, 1);
    ring_nops(&many, 1000003); ring_nops(&one, 20001);
    ring_nop(&many, 42);
    scenario_wait();
    same(1000004, ring_sq_head(&many)); same(1000004, ring_cq_tail(&many)); same(1000003, ring_cq_head(&many)); same(20001, ring_sq_head(&one));
    ring_expect(&many, 42, 0);
    ring_nops(&many, 1000); ring_nops(&one, 3);
    same(1001004, ring_cq_tail(&many)); same(20004, ring_cq_tail(&one));
    return scenario_end();
}
