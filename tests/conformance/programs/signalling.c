/*
 * Signals in the midst of calls, handlers that leave them, and threads and processes that end or stand
 * still there: nothing that others need is left behind.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "check.h"

/* Of libc, which marks the one as out of date and declares the other for few. */
extern int interrupts(int, int) __asm__("siginterrupt");
extern void (*__sysv_signal(int, void (*)(int)))(int);
extern void (*set(int, void (*)(int)))(int) __asm__("sigset");

#define HOLD ((void (*)(int))2)

static sigjmp_buf out;
static atomic_int armed, came;
static int handlers_fd = -1;

static void leave(int signal)
{
    (void)signal;
    if (atomic_exchange(&armed, 0))
        siglongjmp(out, 1);
}

static void send_too(int signal)
{
    (void)signal;
    int before = errno;
    came++;
    send(handlers_fd, "h", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    errno = before;
}

static void count(int signal)
{
    (void)signal;
    came++;
}

static void count_value(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    came = info->si_value.sival_int;
}

/* A timer that fires all the time. */
static timer_t begin(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec time = {{0, 131000}, {0, 131000}};
    timer_t timer;
    sigaction(SIGUSR1, &action, NULL);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &time, NULL);
    return timer;
}

static void end(timer_t timer)
{
    timer_delete(timer);
    signal(SIGUSR1, SIG_IGN);
}

static char bytes[300000];

/* What is written arrives, and nothing is in the way. */
static void works(Pair both)
{
    set_nonblocking(both.client, true);
    set_nonblocking(both.server, true);
    ssize_t n;
    do
        while ((n = recv(both.server, bytes, sizeof bytes, 0)) > 0)
            ;
    while (await(both.server, POLLIN, SHORT));
    VALUE("sending afterwards", send(both.client, "abc", 3, 0));
    await_bytes(both.server, 3);
    VALUE("receiving afterwards", recv(both.server, bytes, sizeof bytes, 0));
    say("the signal's state", "%d", atomic_load(&armed));
    close(both.client);
    say("the end afterwards", "%s", seen_at_last_by(both.server));
    close(both.server);
}

/* What a call that was left was about to return is lost. */
static void jump_out_of(const char *name, bool sending)
{
    group("jumps out of %s", name);
    static Pair both;
    static long long until;
    static timer_t timer;
    static volatile int jumped;
    both = pair();
    until = milliseconds() + 500;
    jumped = 0;
    timer = begin(leave);
    while (milliseconds() < until || !jumped) {
        if (sigsetjmp(out, 1)) {
            jumped = 1;
            continue;
        }
        armed = sending;
        send(both.client, bytes, 20000, MSG_DONTWAIT);
        armed = !sending;
        recv(both.server, bytes, sizeof bytes, MSG_DONTWAIT);
        armed = 0;
    }
    end(timer);
    works(both);
}

/* Sends and receives until the handler has come that often. */
static void interrupt(Pair both, void (*handler)(int), int times)
{
    handlers_fd = both.client;
    came = 0;
    timer_t timer = begin(handler);
    while (came < times) {
        send(both.client, bytes, 20000, MSG_DONTWAIT);
        recv(both.server, bytes, sizeof bytes, MSG_DONTWAIT);
    }
    end(timer);
    works(both);
}

static void handler_that_sends(void)
{
    group("a handler that sends on the socket that its thread sends on");
    interrupt(pair(), send_too, 200);
}

static const char *name_of(void (*handler)(int))
{
    return handler == SIG_DFL     ? "SIG_DFL"
           : handler == SIG_IGN   ? "SIG_IGN"
           : handler == SIG_ERR   ? "SIG_ERR"
           : handler == count     ? "count"
           : handler == leave     ? "leave"
           : handler == (void (*)(int))(void *)count_value ? "count_value"
                                                           : "another";
}

static void now(const char *name, int which)
{
    struct sigaction action;
    sigaction(which, NULL, &action);
    say(name, "%s %x, blocks itself %d", name_of(action.sa_handler),
        (unsigned)action.sa_flags & ~0x04000000u, sigismember(&action.sa_mask, which));
}

static void actions(void)
{
    group("actions");
    say("signal, the first", "%s", name_of(signal(SIGUSR2, count)));
    now("then", SIGUSR2);
    say("signal, the second", "%s", name_of(signal(SIGUSR2, leave)));
    interrupts(SIGUSR2, 1);
    now("interrupting", SIGUSR2);
    say("signal, the third", "%s", name_of(signal(SIGUSR2, count)));
    now("still", SIGUSR2);
    interrupts(SIGUSR2, 0);
    now("no more", SIGUSR2);
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESETHAND | SA_NODEFER}, old;
    sigaction(SIGUSR2, &action, &old);
    say("the one before", "%s %x", name_of(old.sa_handler), (unsigned)old.sa_flags & ~0x04000000u);
    now("for once", SIGUSR2);
    came = 0;
    raise(SIGUSR2);
    VALUE("it came", came);
    now("and is gone", SIGUSR2);
    signal(SIGUSR2, SIG_IGN);
    now("ignored", SIGUSR2);
    action = (struct sigaction){.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    action.sa_sigaction = count_value;
    struct sigaction *same = &action;
    sigaction(SIGUSR2, &action, same);
    say("the same struct for both", "%s", name_of(action.sa_handler));
    now("with a value", SIGUSR2);
    sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 77});
    VALUE("the value", came);
    say("System V", "%s", name_of(__sysv_signal(SIGUSR2, count)));
    now("that of System V", SIGUSR2);
    say("signal of none", "%s", name_of(signal(0, count)));
    say("signal of too many", "%s", name_of(signal(65, count)));
    say("signal of SIGKILL", "%s %s", name_of(signal(SIGKILL, count)), error_name(errno));
    VALUE("sigaction of SIGSTOP", sigaction(SIGSTOP, &(struct sigaction){.sa_handler = count}, NULL));
    say("signal with SIG_ERR", "%s %s", name_of(signal(SIGUSR2, SIG_ERR)), error_name(errno));
    signal(SIGUSR2, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    int all = 0;
    for (int which = 1; which < 65; which++)
        all += sigismember(&blocked, which) == 1;
    VALUE("signals that are blocked", all);
}

static void *receive(void *argument)
{
    int before;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
    char text[9];
    recv(*(int *)argument, text, sizeof text, 0);
    return NULL;
}

static void asynchronous(void)
{
    group("a thread cancelled asynchronously in recv");
    Pair both = pair();
    pthread_t thread;
    void *result = NULL;
    pthread_create(&thread, NULL, receive, &both.server);
    usleep(50000);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    say("it", "%s", result == PTHREAD_CANCELED ? "is cancelled" : "is not");
    works(both);
}

/* Processes that send and receive all the time, and are stopped somewhere. */
static void stopped(void)
{
    group("a process that does not wait, while those it shares with are stopped");
    Pair both = pair();
    int failed = 0;
    for (int round = 0; round < 30; round++) {
        pid_t busy[2];
        for (int side = 0; side < 2; side++)
            if (!(busy[side] = branch()))
                for (;;) {
                    send(side ? both.client : both.server, bytes, 100, MSG_DONTWAIT | MSG_NOSIGNAL);
                    recv(side ? both.server : both.client, bytes, 300, MSG_DONTWAIT);
                }
        usleep(3000 + 37 * round);
        for (int side = 0; side < 2; side++)
            kill(busy[side], SIGSTOP);
        pid_t quick = branch();
        if (!quick) {
            recv(both.client, bytes, 1, MSG_DONTWAIT);
            recv(both.server, bytes, 1, MSG_DONTWAIT);
            send(both.client, bytes, 1, MSG_DONTWAIT);
            send(both.server, bytes, 1, MSG_DONTWAIT);
            _exit(0);
        }
        failed += strcmp(end_of(quick), "exit 0") != 0;
        for (int side = 0; side < 2; side++) {
            kill(busy[side], SIGKILL);
            end_of(busy[side]);
        }
    }
    VALUE("of 30 that hang", failed);
    works(both);
}

/* Before any library's constructor. */
static void before_all(void)
{
    signal(SIGWINCH, count);
}

__attribute__((section(".preinit_array"), used)) static void (*first)(void) = before_all;

static void first_of_all(void)
{
    group("a handler that was installed before all libraries");
    now("it", SIGWINCH);
    came = 0;
    raise(SIGWINCH);
    VALUE("it came", came);
    say("the one before", "%s", name_of(signal(SIGWINCH, SIG_DFL)));
}

struct kernel_action {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

static void behind_libc(void)
{
    group("rt_sigaction by number");
    struct sigaction before, after;
    struct kernel_action kernels;
    signal(SIGUSR2, count);
    sigaction(SIGUSR2, NULL, &before);
    syscall(SYS_rt_sigaction, SIGUSR2, NULL, &kernels, 8);
    before.sa_handler = (void (*)(int))kernels.handler;
    sigaction(SIGUSR2, &before, NULL);
    came = 0;
    raise(SIGUSR2);
    VALUE("put back by sigaction, it came", came);
    now("it", SIGUSR2);
    syscall(SYS_rt_sigaction, SIGUSR2, &kernels, NULL, 8);
    raise(SIGUSR2);
    VALUE("put back by number, it came", came);
    kernels.handler = (void *)send_too;
    syscall(SYS_rt_sigaction, SIGUSR2, &kernels, NULL, 8);
    Pair both = pair();
    handlers_fd = both.client;
    raise(SIGUSR2);
    VALUE("another by number, it came", came);
    sigaction(SIGUSR2, NULL, &after);
    say("sigaction shows it", "%d", after.sa_handler == send_too);
    await_bytes(both.server, 1);
    VALUE("what it sent", recv(both.server, bytes, sizeof bytes, MSG_DONTWAIT));
    close_pair(both);
    signal(SIGUSR2, SIG_IGN);
}

static char other_stack[65536];
static atomic_int depth, deepest, on_it, is_blocked;

static void nest(int signal, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    char here;
    sigset_t blocked;
    (void)info;
    on_it = &here >= other_stack && &here < other_stack + sizeof other_stack;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    is_blocked = sigismember(&blocked, signal) * 100 + sigismember(&blocked, SIGHUP) * 10 +
                 sigismember(&at->uc_sigmask, SIGTERM);
    if (++depth > deepest)
        deepest = (int)depth;
    if (depth < 3)
        raise(signal);
    depth--;
}

static void flags(void)
{
    const int all[] = {0, SA_NODEFER, SA_ONSTACK, SA_NODEFER | SA_ONSTACK, SA_NODEFER | SA_RESTART};
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack}, old;
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigaltstack(&stack, NULL);
    sigprocmask(SIG_BLOCK, &term, NULL);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        group("a handler with flags %x", (unsigned)all[i]);
        struct sigaction action = {.sa_flags = all[i] | SA_SIGINFO};
        action.sa_sigaction = nest;
        sigaddset(&action.sa_mask, SIGHUP);
        sigaction(SIGUSR2, &action, NULL);
        depth = deepest = 0;
        sigset_t later;
        sigemptyset(&later);
        sigaddset(&later, SIGUSR2);
        sigprocmask(SIG_BLOCK, &later, NULL);
        raise(SIGUSR2);
        say("while it is blocked", "%d", atomic_load(&deepest));
        /* Without SA_NODEFER it would come again for ever. */
        depth = all[i] & SA_NODEFER ? 0 : 2;
        sigprocmask(SIG_UNBLOCK, &later, NULL);
        say("how deep", "%d", atomic_load(&deepest));
        say("on the other stack", "%d", atomic_load(&on_it));
        say("blocked in it", "%03d", atomic_load(&is_blocked));
    }
    sigaltstack(NULL, &old);
    say("the other stack afterwards", "%d", old.ss_sp == other_stack && old.ss_flags == 0);
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
    sigprocmask(SIG_UNBLOCK, &term, NULL);
    signal(SIGUSR2, SIG_IGN);
}

static void awaited(void)
{
    group("signals with a handler that are waited for");
    int which = SIGRTMIN + 3;
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    action.sa_sigaction = count_value;
    sigaction(which, &action, NULL);
    sigset_t one;
    siginfo_t info;
    sigemptyset(&one);
    sigaddset(&one, which);
    sigprocmask(SIG_BLOCK, &one, NULL);
    came = 0;
    sigqueue(getpid(), which, (union sigval){.sival_int = 5});
    sigqueue(getpid(), which, (union sigval){.sival_int = 6});
    sigqueue(getpid(), which, (union sigval){.sival_int = 7});
    int got = 0;
    sigwait(&one, &got);
    VALUE("sigwait", got == which);
    sigtimedwait(&one, &info, &(struct timespec){1, 0});
    VALUE("the value that sigtimedwait gives", info.si_value.sival_int);
    int fd = signalfd(-1, &one, 0);
    struct signalfd_siginfo read_info;
    VALUE("signalfd", read(fd, &read_info, sizeof read_info));
    VALUE("its value", read_info.ssi_int);
    close(fd);
    VALUE("calls of the handler", came);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
}

static void of_system_v(void)
{
    group("sigset");
    signal(SIGUSR2, SIG_DFL);
    say("the first", "%s", name_of(set(SIGUSR2, count)));
    now("it", SIGUSR2);
    say("held", "%s", name_of(set(SIGUSR2, HOLD)));
    say("held again", "%d", set(SIGUSR2, HOLD) == HOLD);
    came = 0;
    raise(SIGUSR2);
    VALUE("it came while held", came);
    say("let through", "%d", set(SIGUSR2, count) == HOLD);
    VALUE("it came then", came);
    say("ignored", "%s", name_of(set(SIGUSR2, SIG_IGN)));
    say("of none", "%s", name_of(set(0, count)));
    say("of SIGKILL", "%s", name_of(set(SIGKILL, count)));
}

static void inherited(void)
{
    group("actions in children");
    signal(SIGUSR2, count);
    signal(SIGHUP, SIG_IGN);
    pid_t child = fork();
    if (!child) {
        struct sigaction action;
        sigaction(SIGUSR2, NULL, &action);
        came = 0;
        raise(SIGUSR2);
        raise(SIGHUP);
        _exit(came * 10 + (action.sa_handler == count));
    }
    say("of fork", "%s", end_of(child));
    child = vfork();
    if (!child) {
        struct sigaction action;
        sigaction(SIGUSR2, NULL, &action);
        int same = action.sa_handler == count;
        signal(SIGUSR2, leave);
        sigaction(SIGUSR2, NULL, &action);
        same += 10 * (action.sa_handler == leave);
        signal(SIGUSR2, SIG_DFL);
        _exit(same);
    }
    say("of vfork", "%s", end_of(child));
    came = 0;
    raise(SIGUSR2);
    VALUE("the parent's", came);
    now("it", SIGUSR2);
    fflush(stdout);
    child = fork();
    if (!child) {
        execl("/proc/self/exe", "signalling", "inherited", NULL);
        _exit(99);
    }
    say("of exec", "%s", end_of(child));
    signal(SIGUSR2, SIG_IGN);
    signal(SIGHUP, SIG_DFL);
}

/* Not each time: it takes longer than the timer does. */
static void fork_in_it(int signal)
{
    static int times;
    (void)signal;
    if (times++ % 16)
        return;
    int before = errno;
    pid_t child = fork();
    if (!child) {
        send(handlers_fd, "c", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    came += child > 0 && status == 0;
    errno = before;
}

static void exec_in_it(int signal)
{
    (void)signal;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execl("/proc/self/exe", "signalling", "blocked", NULL);
    _exit(99);
}

static void processes_of_handlers(void)
{
    group("a handler that forks in the midst of calls");
    interrupt(pair(), fork_in_it, 50);
    group("a handler that executes a program in the midst of calls");
    Pair both = pair();
    int failed = 0;
    for (int round = 0; round < 10; round++) {
        fflush(stdout);
        pid_t child = branch();
        if (!child) {
            begin(exec_in_it);
            for (;;) {
                send(both.client, bytes, 20000, MSG_DONTWAIT);
                recv(both.server, bytes, sizeof bytes, MSG_DONTWAIT);
            }
        }
        failed += strcmp(end_of(child), "exit 0") != 0;
    }
    VALUE("of 10 that fail", failed);
    works(both);
}

static atomic_int last, disordered;

static void in_order(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    disordered += info->si_value.sival_int != last + 1;
    last = info->si_value.sival_int;
    came++;
}

static void many(void)
{
    group("20000 queued signals in the midst of calls");
    Pair both = pair();
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    action.sa_sigaction = in_order;
    sigaction(SIGRTMIN + 2, &action, NULL);
    came = last = 0;
    pid_t parent = getpid(), child = branch();
    if (!child) {
        for (int i = 1; i <= 20000; i++)
            while (sigqueue(parent, SIGRTMIN + 2, (union sigval){.sival_int = i}) != 0)
                ;
        _exit(0);
    }
    while (came < 20000) {
        send(both.client, bytes, 2000, MSG_DONTWAIT);
        recv(both.server, bytes, sizeof bytes, MSG_DONTWAIT);
    }
    VALUE("not in order", disordered);
    say("the sender", "%s", end_of(child));
    works(both);
}

/* What a program finds that was executed. */
static int executed(const char *what)
{
    sigset_t blocked;
    struct sigaction mine, ignored;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    sigaction(SIGUSR2, NULL, &mine);
    sigaction(SIGHUP, NULL, &ignored);
    if (!strcmp(what, "inherited"))
        return (mine.sa_handler == SIG_DFL) * 10 + (ignored.sa_handler == SIG_IGN);
    for (int which = 1; which < 65; which++)
        if (sigismember(&blocked, which) == 1)
            return 1;
    return 0;
}

int main(int words, char **word)
{
    if (words > 1)
        return executed(word[1]);
    first_of_all();
    signal(SIGPIPE, SIG_IGN);
    jump_out_of("send", true);
    jump_out_of("recv", false);
    handler_that_sends();
    actions();
    behind_libc();
    of_system_v();
    flags();
    awaited();
    inherited();
    asynchronous();
    stopped();
    processes_of_handlers();
    many();
    return 0;
}
