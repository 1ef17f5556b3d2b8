// The only process of its session, which nobody of its user may look at.
#include "scenario.h"
int main(void) {
    must(prctl(PR_SET_DUMPABLE, 0));
    scenario_wait();
    return scenario_end();
}
