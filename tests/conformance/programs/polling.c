/* poll, ppoll, select and pselect, on sockets in every state and mixed with other descriptors. */
#include "check.h"
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/timerfd.h>

static char text[100];
static const int asked = POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDHUP;

static void event_of(const char *name, int fd, int events)
{
    say(name, "%s", events_text(await(fd, events, 0)));
}

static void states(void)
{
    group("poll");
    int fd = tcp();
    event_of("fresh", fd, asked);
    event_of("fresh, asked for nothing", fd, 0);
    Address at = loopback(0);
    bind(fd, &at.any, at.len);
    event_of("bound", fd, asked);
    listen(fd, 5);
    event_of("listening", fd, asked);
    Address to = local_of(fd);
    int client = tcp();
    connect(client, &to.any, to.len);
    await(fd, POLLIN, LONG);
    event_of("listening, somebody waits", fd, asked);
    int server = accept(fd, NULL, NULL);
    event_of("listening, nobody waits", fd, asked);
    event_of("connected", client, asked);
    event_of("connected, asked for nothing", client, 0);
    event_of("accepted", server, asked);
    send(client, "abc", 3, 0);
    await_bytes(server, 3);
    event_of("with data", server, asked);
    event_of("with data, asked for room", server, POLLOUT);
    recv(server, text, 1, 0);
    event_of("with less data", server, asked);
    recv(server, text, 10, 0);
    event_of("without data", server, asked);
    set_option(server, SOL_SOCKET, SO_RCVLOWAT, 5);
    send(client, "abc", 3, 0);
    await_bytes(server, 3);
    event_of("below SO_RCVLOWAT", server, asked);
    send(client, "de", 2, 0);
    await_bytes(server, 5);
    event_of("at SO_RCVLOWAT", server, asked);
    close(client);
    await(server, POLLRDHUP, LONG);
    event_of("at the end, with data", server, asked);
    recv(server, text, 10, 0);
    event_of("at the end", server, asked);
    event_of("at the end, asked for nothing", server, 0);
    close(server);
    close(fd);
    event_of("closed", fd, asked);
}

static void calls(void)
{
    group("poll calls");
    Pair both = pair();
    int pipes[2], event = eventfd(0, 0);
    pipe(pipes);
    struct pollfd set[6] = {{both.client, POLLIN, 0},   {both.server, POLLIN, 0},
                            {pipes[0], POLLIN, 0},      {event, POLLIN, 0},
                            {-1, POLLIN, 77},           {12345, POLLIN, 0}};
    VALUE("nothing ready but a number that is none", poll(set, 6, 0));
    say("its event", "%s", events_text(set[5].revents));
    say("of a negative number", "%d", set[4].revents);
    VALUE("nothing ready", poll(set, 5, 0));
    VALUE("nothing ready, waiting", poll(set, 5, SHORT));
    send(both.client, "x", 1, 0);
    VALUE("a socket ready", poll(set, 5, LONG));
    say("which", "%s, %s", events_text(set[0].revents), events_text(set[1].revents));
    write(pipes[1], "x", 1);
    VALUE("and a pipe", poll(set, 5, LONG));
    eventfd_write(event, 1);
    VALUE("and an eventfd", poll(set, 5, LONG));
    set[1].fd = ~set[1].fd;
    VALUE("without the socket", poll(set, 5, LONG));
    struct pollfd twice[2] = {{both.server, POLLIN, 0}, {both.server, POLLOUT, 0}};
    VALUE("one socket twice", poll(twice, 2, 0));
    say("its events", "%s, %s", events_text(twice[0].revents), events_text(twice[1].revents));
    VALUE("of none", poll(NULL, 0, 0));
    VALUE("of none, waiting", poll(NULL, 0, 5));
    VALUE("of null", poll(NULL, 1, 0));
    struct timespec none = {0}, bad = {.tv_nsec = 2000000000}, negative = {.tv_sec = -1};
    VALUE("ppoll", ppoll(set, 5, &none, NULL));
    VALUE("ppoll with a bad time", ppoll(set, 5, &bad, NULL));
    VALUE("ppoll with a negative time", ppoll(set, 5, &negative, NULL));
    close_pair(both);
    close(pipes[0]);
    close(pipes[1]);
    close(event);
}

static fd_set in, out, odd;

static void set_all(Pair both, int pipe)
{
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&odd);
    FD_SET(both.server, &in);
    FD_SET(pipe, &in);
    FD_SET(both.client, &out);
    FD_SET(both.server, &odd);
}

static void say_which(const char *name, Pair both, int pipe)
{
    say(name, "%s%s%s%s", FD_ISSET(both.server, &in) ? "data " : "", FD_ISSET(pipe, &in) ? "pipe " : "",
        FD_ISSET(both.client, &out) ? "room " : "", FD_ISSET(both.server, &odd) ? "urgent" : "");
}

static void selects(void)
{
    group("select");
    Pair both = pair();
    int pipes[2], n = both.server + 10;
    pipe(pipes);
    struct timeval none = {0};
    set_all(both, pipes[0]);
    VALUE("room only", select(n, &in, &out, &odd, &none));
    say_which("which", both, pipes[0]);
    send(both.client, "x", 1, 0);
    await_bytes(both.server, 1);
    set_all(both, pipes[0]);
    VALUE("data", select(n, &in, &out, &odd, &none));
    say_which("which then", both, pipes[0]);
    write(pipes[1], "x", 1);
    set_all(both, pipes[0]);
    VALUE("data, and in a pipe", select(n, &in, &out, &odd, NULL));
    say_which("which with the pipe", both, pipes[0]);
    send(both.client, "u", 1, MSG_OOB);
    await(both.server, POLLPRI, LONG);
    set_all(both, pipes[0]);
    VALUE("urgent data", select(n, &in, &out, &odd, &none));
    say_which("which with urgent data", both, pipes[0]);
    VALUE("of none", select(0, NULL, NULL, NULL, &none));
    VALUE("of a negative number", select(-1, NULL, NULL, NULL, &none));
    struct timeval negative = {-1, 0}, large = {0, 1500000}, left = {5, 0};
    VALUE("with a negative time", select(0, NULL, NULL, NULL, &negative));
    set_all(both, pipes[0]);
    VALUE("with more than a second of microseconds", select(n, &in, &out, NULL, &large));
    set_all(both, pipes[0]);
    VALUE("with time left", select(n, &in, NULL, NULL, &left));
    say("what is left", "%s", left.tv_sec == 4 ? "less" : left.tv_sec == 5 ? "all" : "wrong");
    int closed = dup(0);
    close(closed);
    FD_ZERO(&in);
    FD_SET(closed, &in);
    VALUE("of what is closed", select(closed + 1, &in, NULL, NULL, &none));
    struct timespec nothing = {0};
    set_all(both, pipes[0]);
    VALUE("pselect", pselect(n, &in, &out, &odd, &nothing, NULL));
    say_which("which by pselect", both, pipes[0]);
    struct timespec bad = {.tv_nsec = -1};
    VALUE("pselect with a bad time", pselect(n, &in, &out, &odd, &bad, NULL));
    close(both.client);
    await(both.server, POLLRDHUP, LONG);
    recv(both.server, text, 10, 0);
    FD_ZERO(&in);
    FD_SET(both.server, &in);
    VALUE("the end", select(n, &in, NULL, NULL, NULL));
    close(both.server);
    close(pipes[0]);
    close(pipes[1]);
}

static volatile int signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static void masks(void)
{
    group("signals");
    signal(SIGUSR1, on_signal);
    sigset_t blocked, open;
    sigemptyset(&open);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    raise(SIGUSR1);
    Pair both = pair();
    struct pollfd one = {both.server, POLLIN, 0};
    VALUE("poll with it blocked", poll(&one, 1, 10));
    struct timespec second = {.tv_sec = 1};
    VALUE("ppoll that lets it in", ppoll(&one, 1, &second, &open));
    say("the handler", "ran %d times", signals);
    raise(SIGUSR1);
    FD_ZERO(&in);
    FD_SET(both.server, &in);
    VALUE("pselect that lets it in", pselect(both.server + 1, &in, NULL, NULL, &second, &open));
    say("the handler then", "ran %d times", signals);
    raise(SIGUSR1);
    send(both.client, "x", 1, 0);
    await_bytes(both.server, 1);
    VALUE("ppoll with data and a signal", ppoll(&one, 1, &second, &open));
    say("the handler at last", "ran %d times", signals);
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    close_pair(both);
}

static void timed(const char *name, long long least, long long start)
{
    long long took = milliseconds() - start;
    say(name, "%s", took < least ? "too short" : took > least + 2000 ? "too long" : "as asked");
}

static void times(void)
{
    group("times");
    Pair both = pair();
    struct pollfd one = {both.server, POLLIN, 0};
    long long start = milliseconds();
    poll(&one, 1, 50);
    timed("poll", 50, start);
    start = milliseconds();
    struct timespec time = {.tv_nsec = 50000000};
    ppoll(&one, 1, &time, NULL);
    timed("ppoll", 50, start);
    start = milliseconds();
    FD_ZERO(&in);
    FD_SET(both.server, &in);
    struct timeval micro = {0, 50000};
    select(both.server + 1, &in, NULL, NULL, &micro);
    timed("select", 50, start);
    say("what select leaves", "%ld.%ld", (long)micro.tv_sec, (long)micro.tv_usec);
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec soon = {.it_value = {.tv_nsec = 30000000}};
    timerfd_settime(timer, 0, &soon, NULL);
    struct pollfd two[2] = {{both.server, POLLIN, 0}, {timer, POLLIN, 0}};
    VALUE("a timer beside a socket", poll(two, 2, LONG));
    say("whose", "%s, %s", events_text(two[0].revents), events_text(two[1].revents));
    close(timer);
    close_pair(both);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        use_family(i ? AF_INET6 : AF_INET);
        states();
    }
    use_family(AF_INET);
    calls();
    selects();
    masks();
    times();
    return 0;
}
