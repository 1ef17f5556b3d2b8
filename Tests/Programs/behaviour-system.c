// system and popen in flight all the time: statuses, output, and the signals that system ignores meanwhile.
#include "scenario.h"
static void *popens(void *u) {
    for (int i = 0; !scenario_exists("go"); i++) {
        char command[64], line[64] = "";
        snprintf(command, sizeof command, "sleep 0.05; echo line %d; exit %d", i, i % 7);
        FILE *f = popen(command, "r");
        if (!f) { scenario_differs("popen: %s", strerror(errno)); break; }
        char wanted[64];
        snprintf(wanted, sizeof wanted, "line %d\n", i);
        if (!fgets(line, sizeof line, f) || strcmp(line, wanted)) scenario_differs("popen read %s", line);
        int status = pclose(f);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != i % 7) scenario_differs("pclose: 0x%x", status);
    }
    return u;
}
int main(void) {
    pthread_t t;
    must0(pthread_create(&t, NULL, popens, NULL));
    scenario_touch("ready");
    for (int i = 0; !scenario_exists("go"); i++) {
        char command[64];
        snprintf(command, sizeof command, "sleep 0.07; exit %d", i % 11);
        int status = system(command);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != i % 11) scenario_differs("system: 0x%x", status);
    }
    pthread_join(t, NULL);
    return scenario_end();
}
