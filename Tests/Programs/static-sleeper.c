// Linked statically: it cannot load the runtime.
#include "scenario.h"
int main(void) { scenario_await("go"); return 0; }
