/* epoll: triggers, re-arming, sets in sets, duplicates, closed descriptors, other kinds beside sockets. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/inotify.h>

static char text[70000];
#define ALL (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP)

static int add(int set, int fd, unsigned events, int number)
{
    struct epoll_event event = {.events = events, .data.u64 = 0x100000000ULL + number};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

static int change(int set, int fd, unsigned events, int number)
{
    struct epoll_event event = {.events = events, .data.u64 = 0x100000000ULL + number};
    return epoll_ctl(set, EPOLL_CTL_MOD, fd, &event);
}

/* All events of a set: numbers in order, each with what it says. */
static void say_events(const char *name, int set, int wait)
{
    struct epoll_event got[16];
    errno = 0;
    int n = epoll_wait(set, got, 16, wait);
    if (n < 0) {
        say(name, "%s", error_name(errno));
        return;
    }
    char line[400] = "";
    for (int number = 0; number < 10; number++) {
        for (int i = 0; i < n; i++) {
            if ((int)(got[i].data.u64 - 0x100000000ULL) == number) {
                char one[100];
                snprintf(one, sizeof one, " %d %s", number, events_text(got[i].events));
                strcat(line, one);
            }
        }
    }
    say(name, "%d:%s", n, line);
}

static void controls(void)
{
    group("epoll_ctl");
    VALUE("epoll_create of none", epoll_create(0));
    VALUE("epoll_create1 with unknown flags", epoll_create1(1));
    int set = epoll_create1(EPOLL_CLOEXEC), fd = tcp();
    VALUE("descriptor flags", fcntl(set, F_GETFD));
    VALUE("add", add(set, fd, ALL, 1));
    VALUE("add again", add(set, fd, ALL, 1));
    VALUE("change", change(set, fd, EPOLLIN, 1));
    VALUE("remove", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
    VALUE("remove again", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
    VALUE("change what is not there", change(set, fd, EPOLLIN, 1));
    VALUE("unknown operation", epoll_ctl(set, 9, fd, &(struct epoll_event){0}));
    VALUE("add without an event", epoll_ctl(set, EPOLL_CTL_ADD, fd, NULL));
    VALUE("add itself", add(set, set, EPOLLIN, 1));
    VALUE("add a closed one", add(set, 999, EPOLLIN, 1));
    VALUE("add to a closed one", add(999, fd, EPOLLIN, 1));
    VALUE("add to a socket", add(fd, set, EPOLLIN, 1));
    VALUE("add with EPOLLEXCLUSIVE", add(set, fd, EPOLLIN | EPOLLEXCLUSIVE, 1));
    VALUE("change that", change(set, fd, EPOLLIN, 1));
    VALUE("change to EPOLLEXCLUSIVE", change(set, fd, EPOLLIN | EPOLLEXCLUSIVE, 1));
    VALUE("remove that", epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
    VALUE("EPOLLEXCLUSIVE and EPOLLONESHOT", add(set, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
    VALUE("EPOLLEXCLUSIVE and EPOLLRDHUP", add(set, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP, 1));
    VALUE("EPOLLEXCLUSIVE of a set", add(set, epoll_create1(0), EPOLLIN | EPOLLEXCLUSIVE, 1));
    int file = open("/proc/self/exe", O_RDONLY);
    VALUE("add a file", add(set, file, EPOLLIN, 1));
    close(file);
    struct epoll_event event;
    VALUE("wait of a socket", epoll_wait(fd, &event, 1, 0));
    VALUE("wait of a closed one", epoll_wait(999, &event, 1, 0));
    VALUE("wait for none", epoll_wait(set, &event, 0, 0));
    VALUE("wait for a negative number", epoll_wait(set, &event, -1, 0));
    VALUE("wait for null", epoll_wait(set, NULL, 1, 0));
    VALUE("wait of an empty set", epoll_wait(set, &event, 1, 5));
    struct timespec bad = {.tv_nsec = -1}, little = {.tv_nsec = 1000000};
    VALUE("epoll_pwait2", epoll_pwait2(set, &event, 1, &little, NULL));
    VALUE("epoll_pwait2 with a bad time", epoll_pwait2(set, &event, 1, &bad, NULL));
    VALUE("epoll_pwait", epoll_pwait(set, &event, 1, 0, NULL));
    VALUE("read of a set", read(set, text, 8));
    VALUE("write to a set", write(set, text, 8));
    VALUE("send to a set", send(set, text, 8, 0));
    close(fd);
    close(set);
}

static void levels(void)
{
    group("level-triggered");
    int set = epoll_create1(0), fd = tcp();
    add(set, fd, ALL, 1);
    say_events("fresh", set, 0);
    close(fd);
    say_events("closed", set, 0);
    Pair both = pair();
    VALUE("add", add(set, both.server, ALL, 2));
    say_events("connected", set, LONG);
    say_events("again", set, 0);
    change(set, both.server, EPOLLIN, 2);
    say_events("asked for data", set, 0);
    send(both.client, "abc", 3, 0);
    say_events("data", set, LONG);
    say_events("data still", set, 0);
    recv(both.server, text, 1, 0);
    say_events("some data still", set, 0);
    recv(both.server, text, 10, 0);
    say_events("no data", set, 0);
    change(set, both.server, EPOLLOUT, 3);
    say_events("asked for room, by another number", set, 0);
    change(set, both.server, 0, 3);
    say_events("asked for nothing", set, 0);
    change(set, both.server, EPOLLRDHUP, 3);
    shutdown(both.client, SHUT_WR);
    say_events("the peer's end", set, LONG);
    change(set, both.server, ALL, 3);
    say_events("the end, asked for all", set, 0);
    close(both.client);
    shutdown(both.server, SHUT_WR);
    await(both.server, POLLHUP, LONG);
    say_events("both ends", set, 0);
    change(set, both.server, 0, 3);
    say_events("both ends, asked for nothing", set, 0);
    close(both.server);
    say_events("closed at last", set, 0);
    fd = reset_client();
    add(set, fd, 0, 4);
    say_events("reset, asked for nothing", set, 0);
    change(set, fd, ALL, 4);
    say_events("reset", set, 0);
    take_error(fd);
    say_events("reset, error taken", set, 0);
    close(fd);
    close(set);
}

static void edges(void)
{
    group("edge-triggered");
    int set = epoll_create1(0);
    Pair both = pair();
    add(set, both.server, ALL | EPOLLET, 1);
    say_events("added", set, 0);
    say_events("again", set, 0);
    send(both.client, "abc", 3, 0);
    say_events("data", set, LONG);
    say_events("data, again", set, 0);
    send(both.client, "abc", 3, 0);
    say_events("more data", set, LONG);
    recv(both.server, text, 2, 0);
    say_events("some read", set, SHORT);
    recv(both.server, text, 10, 0);
    say_events("all read", set, SHORT);
    change(set, both.server, ALL | EPOLLET, 1);
    say_events("changed without need", set, 0);
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 3);
    change(set, both.server, ALL | EPOLLET, 1);
    say_events("changed with data", set, 0);
    epoll_ctl(set, EPOLL_CTL_DEL, both.server, NULL);
    add(set, both.server, EPOLLIN | EPOLLET, 1);
    say_events("added anew with data", set, 0);
    shutdown(both.client, SHUT_WR);
    say_events("the peer's end", set, LONG);
    say_events("the end, again", set, 0);
    recv(both.server, text, 10, 0);
    recv(both.server, text, 10, 0);
    say_events("the end read", set, SHORT);
    close(both.client);
    shutdown(both.server, SHUT_WR);
    say_events("own end", set, LONG);
    close_pair(both);

    both = pair();
    add(set, both.client, EPOLLOUT | EPOLLET, 2);
    say_events("room", set, 0);
    say_events("room, again", set, 0);
    set_nonblocking(both.client, true);
    set_nonblocking(both.server, true);
    for (int refused = 0; refused < 10;) {
        if (send(both.client, text, sizeof text, 0) < 0) {
            refused++;
            usleep(SHORT * 1000);
        } else {
            refused = 0;
        }
    }
    epoll_wait(set, &(struct epoll_event){0}, 1, 0);
    say_events("full", set, 0);
    while (await(both.server, POLLIN, SHORT))
        recv(both.server, text, sizeof text, 0);
    say_events("room once more", set, LONG);
    send(both.client, "abc", 3, 0);
    say_events("room after a write", set, SHORT);
    close_pair(both);

    int listening = listener();
    Address to = local_of(listening);
    add(set, listening, EPOLLIN | EPOLLET, 3);
    say_events("listening", set, 0);
    int first = tcp(), second = tcp();
    connect(first, &to.any, to.len);
    say_events("a connection", set, LONG);
    say_events("a connection, again", set, 0);
    connect(second, &to.any, to.len);
    say_events("another connection", set, LONG);
    close(first);
    close(second);
    close(listening);
    close(set);
}

static void once(void)
{
    group("EPOLLONESHOT");
    int set = epoll_create1(0);
    Pair both = pair();
    add(set, both.server, EPOLLIN | EPOLLONESHOT, 1);
    say_events("nothing", set, 0);
    send(both.client, "abc", 3, 0);
    say_events("data", set, LONG);
    say_events("data, again", set, 0);
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 6);
    say_events("more data", set, 0);
    change(set, both.server, EPOLLIN | EPOLLONESHOT, 2);
    say_events("armed", set, 0);
    say_events("armed once only", set, 0);
    recv(both.server, text, 10, 0);
    change(set, both.server, EPOLLIN | EPOLLONESHOT | EPOLLET, 3);
    say_events("armed without data", set, 0);
    send(both.client, "abc", 3, 0);
    say_events("data for an edge", set, LONG);
    close(both.client);
    await(both.server, POLLRDHUP, LONG);
    say_events("the end is not told", set, 0);
    change(set, both.server, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, 4);
    say_events("the end is told", set, 0);
    close(both.server);
    close(set);
}

static void duplicates(void)
{
    group("duplicates");
    int set = epoll_create1(0);
    Pair both = pair();
    int copy = dup(both.server);
    VALUE("add", add(set, both.server, EPOLLIN, 1));
    VALUE("add the copy", add(set, copy, EPOLLIN, 2));
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 3);
    say_events("both", set, LONG);
    close(both.server);
    say_events("one closed", set, 0);
    VALUE("remove the closed one", epoll_ctl(set, EPOLL_CTL_DEL, both.server, NULL));
    VALUE("change the copy", change(set, copy, EPOLLOUT, 3));
    say_events("the copy changed", set, 0);
    close(copy);
    say_events("all closed", set, 0);
    close(both.client);
    both = pair();
    add(set, both.server, EPOLLOUT, 4);
    int number = both.server;
    close(both.server);
    int next = tcp();
    say("the number", "%s", next == number ? "is used again" : "is another");
    say_events("after that", set, 0);
    VALUE("add the new one", add(set, next, EPOLLOUT, 5));
    say_events("the new one", set, 0);
    close(next);
    close(both.client);

    both = pair();
    add(set, both.server, EPOLLIN, 6);
    Pair other = pair();
    send(other.client, "x", 1, 0);
    await_bytes(other.server, 1);
    VALUE("dup2 over it", dup2(other.server, both.server) == both.server ? 0 : -1);
    say_events("dup2", set, SHORT);
    VALUE("add it again", add(set, both.server, EPOLLIN, 7));
    say_events("added again", set, 0);
    int set2 = dup(set);
    say_events("the set's copy", set2, 0);
    close(set);
    say_events("the set's copy alone", set2, 0);
    close(set2);
    close_pair(both);
    close_pair(other);
}

static void sets_in_sets(void)
{
    group("sets in sets");
    int inner = epoll_create1(0), outer = epoll_create1(0);
    VALUE("add", add(outer, inner, EPOLLIN, 1));
    VALUE("add the other way", add(inner, outer, EPOLLIN, 1));
    Pair both = pair();
    add(inner, both.server, EPOLLIN, 2);
    say_events("nothing, inside", inner, SHORT);
    say_events("nothing, outside", outer, 0);
    send(both.client, "abc", 3, 0);
    say_events("data, outside", outer, LONG);
    say_events("data, inside", inner, 0);
    say_events("data, outside again", outer, 0);
    say("poll of a set", "%s", events_text(await(inner, POLLIN | POLLOUT, 0)));
    recv(both.server, text, 10, 0);
    say_events("no data, outside", outer, 0);
    say_events("no data, inside", inner, 0);
    say("poll of an empty set", "%s", events_text(await(inner, POLLIN | POLLOUT, 0)));
    close(inner);
    say_events("the inner closed", outer, 0);
    close(outer);
    close_pair(both);
}

/* The stack may look at the kernel's descriptors at intervals, of less than this. */
static void say_all(const char *name, int set)
{
    usleep(1000);
    say_events(name, set, LONG);
}

static void kinds(void)
{
    group("other kinds");
    int set = epoll_create1(0), pipes[2], unix_pair[2];
    Pair both = pair();
    pipe(pipes);
    socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair);
    int event = eventfd(0, EFD_NONBLOCK), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int signal_fd = signalfd(-1, &signals, 0), terminal = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(terminal);
    unlockpt(terminal);
    int watch = inotify_init();
    int of_kind[] = {both.server, pipes[0], unix_pair[0], event, timer, signal_fd, terminal, watch};
    for (int i = 0; i < 8; i++)
        add(set, of_kind[i], EPOLLIN, i);
    say_events("nothing", set, 0);
    send(both.client, "x", 1, 0);
    await_bytes(both.server, 1);
    say_all("a socket", set);
    write(pipes[1], "x", 1);
    say_all("a pipe as well", set);
    write(unix_pair[1], "x", 1);
    say_all("a UNIX socket as well", set);
    eventfd_write(event, 1);
    say_all("an eventfd as well", set);
    struct itimerspec soon = {.it_value = {.tv_nsec = 1}};
    timerfd_settime(timer, 0, &soon, NULL);
    await(timer, POLLIN, LONG);
    say_all("a timer as well", set);
    raise(SIGUSR2);
    say_all("a signal as well", set);
    struct epoll_event two[2];
    usleep(1000);
    VALUE("room for two", epoll_wait(set, two, 2, 0));
    recv(both.server, text, 10, 0);
    say_all("without the socket", set);
    int seen = 0;
    send(both.client, "x", 1, 0);
    await_bytes(both.server, 1);
    for (int i = 0; i < 20; i++) {
        usleep(100);
        int n = epoll_wait(set, two, 1, 0);
        if (n == 1 && two[0].data.u64 == 0x100000000ULL)
            seen |= 1;
        else if (n == 1)
            seen |= 2;
    }
    say("one at a time", "%s", seen == 3 ? "all have their turn" : "some starve");
    for (int i = 0; i < 8; i++)
        close(of_kind[i]);
    say_events("all closed", set, 0);
    close(pipes[1]);
    close(unix_pair[1]);
    close(both.client);
    close(set);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    controls();
    levels();
    edges();
    once();
    duplicates();
    sets_in_sets();
    kinds();
    return 0;
}
