// Statically linked: returns from handlers, and an exception that leaves one, through the frame of the signal.
#include <csignal>
#include <cstdio>
#include <cstring>

static volatile int handled;
static void count(int) { handled = handled + 1; }
static void raise_exception(int signal) { throw signal; }

__attribute__((noinline)) static void fault(volatile int *at) { *at = 1; }

int main() {
    signal(SIGUSR1, count);
    for (int i = 0; i < 1000; i++) raise(SIGUSR1);
    printf("%d handled\n", handled);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = raise_exception;
    action.sa_flags = SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    int caught = 0;
    for (int i = 0; i < 10; i++) {
        try {
            fault(nullptr);
        } catch (int signal) {
            caught += signal == SIGSEGV;
        }
    }
    printf("%d caught\n", caught);
}
