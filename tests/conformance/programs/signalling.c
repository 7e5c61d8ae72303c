/*
 * Signals in the midst of calls, handlers that leave them, and threads and processes that end or stand
 * still there: nothing that others need is left behind.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include "check.h"

/* Of libc, which marks the one as out of date and declares the other for few. */
extern int interrupts(int, int) __asm__("siginterrupt");
extern void (*__sysv_signal(int, void (*)(int)))(int);

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

static void handler_that_sends(void)
{
    group("a handler that sends on the socket that its thread sends on");
    Pair both = pair();
    handlers_fd = both.client;
    came = 0;
    timer_t timer = begin(send_too);
    while (came < 200) {
        send(both.client, bytes, 20000, MSG_DONTWAIT);
        recv(both.server, bytes, sizeof bytes, MSG_DONTWAIT);
    }
    end(timer);
    works(both);
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

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    jump_out_of("send", true);
    jump_out_of("recv", false);
    handler_that_sends();
    actions();
    asynchronous();
    stopped();
    return 0;
}
