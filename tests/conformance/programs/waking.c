/* Processes that wait for a socket that others have as well: who is woken, and sets that fork copies. */
#include "check.h"
#include <sys/epoll.h>

static char text[1 << 16];
/* On which children say what their calls gave. */
static int told[2];

enum { RECV, ACCEPT, POLL, SEND };

/* A child that begins a call and will say what came of it. */
static pid_t begin(int kind, int fd)
{
    pid_t child = branch();
    if (child != 0) {
        usleep(SHORT * 1000);
        return child;
    }
    struct pollfd one = {fd, POLLIN, 0};
    long result = -1;
    errno = 0;
    switch (kind) {
    case RECV: result = recv(fd, text, 10, 0); break;
    case ACCEPT: result = accept(fd, NULL, NULL) < 0 ? -1 : 0; break;
    case POLL: result = poll(&one, 1, LONG) == 1 ? one.revents : 0; break;
    case SEND: result = send(fd, text, sizeof text, MSG_NOSIGNAL); break;
    }
    const char *line = kind == POLL ? events_text(result) : outcome(result);
    write(told[1], line, strlen(line));
    _exit(0);
}

/* What a child says, if it does. */
static const char *said(int milliseconds)
{
    static char line[100];
    if (!await(told[0], POLLIN, milliseconds))
        return "waits";
    ssize_t n = read(told[0], line, sizeof line - 1);
    line[n > 0 ? n : 0] = 0;
    return line;
}

static void calls(void)
{
    group("a child waits");
    Pair both = pair();
    pid_t child = begin(RECV, both.server);
    shutdown(both.server, SHUT_RD);
    say("in recv, shut down by its parent", "%s", said(LONG));
    end_of(child);
    close_pair(both);
    both = pair();
    child = begin(RECV, both.server);
    set_nonblocking(both.server, true);
    close(both.server);
    say("in recv, closed by its parent", "%s", said(SHORT));
    send(both.client, "abc", 3, 0);
    say("in recv, data then", "%s", said(LONG));
    end_of(child);
    say("in recv, at last", "%s", seen_at_last_by(both.client));
    close(both.client);
    both = pair();
    struct timeval little = {.tv_usec = 50000};
    setsockopt(both.server, SOL_SOCKET, SO_RCVTIMEO, &little, sizeof little);
    child = begin(RECV, both.server);
    say("in recv, with its parent's SO_RCVTIMEO", "%s", said(LONG));
    end_of(child);
    close_pair(both);
    both = pair();
    child = begin(POLL, both.server);
    shutdown(both.server, SHUT_RDWR);
    say("in poll, shut down by its parent", "%s", said(LONG));
    end_of(child);
    close_pair(both);
    int listening = listener();
    child = begin(ACCEPT, listening);
    shutdown(listening, SHUT_RDWR);
    say("in accept, shut down by its parent", "%s", said(LONG));
    end_of(child);
    close(listening);
    both = pair();
    set_nonblocking(both.server, true);
    while (send(both.server, text, sizeof text, 0) > 0)
        ;
    set_nonblocking(both.server, false);
    child = begin(SEND, both.server);
    say("in send, without room", "%s", said(SHORT));
    close(both.server);
    long came = 0, n;
    while ((n = recv(both.client, text, sizeof text, 0)) > 0)
        came += n;
    say("in send, read by the peer", "%s", said(LONG));
    VALUE("the end of it", n);
    end_of(child);
    close(both.client);
    both = pair();
    child = begin(RECV, both.server);
    kill(child, SIGTERM);
    say("in recv, killed", "%s", end_of(child));
    send(both.client, "abc", 3, 0);
    VALUE("recv by its parent", recv(both.server, text, 10, 0));
    child = begin(RECV, both.server);
    kill(child, SIGSTOP);
    close(both.server);
    say("in recv, stopped", "%s", seen_by(both.client));
    kill(child, SIGKILL);
    end_of(child);
    say("in recv, stopped and killed", "%s", seen_at_last_by(both.client));
    close(both.client);

    group("two children wait");
    both = pair();
    pid_t children[2] = {begin(RECV, both.server), begin(RECV, both.server)};
    send(both.client, "a", 1, 0);
    say("in recv, the first", "%s", said(LONG));
    say("in recv, the second", "%s", said(SHORT));
    send(both.client, "b", 1, 0);
    say("in recv, the second then", "%s", said(LONG));
    end_of(children[0]);
    end_of(children[1]);
    close_pair(both);
    both = pair();
    children[0] = begin(RECV, both.server);
    children[1] = begin(RECV, both.server);
    shutdown(both.client, SHUT_WR);
    say("in recv, the end for one", "%s", *said(LONG) == '0' ? "0" : "none");
    end_of(children[0]);
    end_of(children[1]);
    VALUE("and for the parent", recv(both.server, text, 10, 0));
    said(0);
    close_pair(both);
}

/* A child that waits for a listener with a set of its own, or with poll. */
static pid_t watch(int listening, int events)
{
    pid_t child = branch();
    if (child != 0) {
        read(told[0], text, 1);
        usleep(SHORT * 1000);
        return child;
    }
    int n;
    if (events == 0) {
        write(told[1], "x", 1);
        n = await(listening, POLLIN, LONG) != 0;
    } else {
        int set = epoll_create1(0);
        struct epoll_event event = {.events = events};
        epoll_ctl(set, EPOLL_CTL_ADD, listening, &event);
        write(told[1], "x", 1);
        n = epoll_wait(set, &event, 1, LONG);
    }
    write(told[1], n == 1 ? "x" : "-", 1);
    pause();
    _exit(0);
}

/* How many are, until no more come. */
static int woken(void)
{
    int count = 0;
    for (int patience = LONG; await(told[0], POLLIN, patience); patience = 4 * SHORT)
        count += read(told[0], text, 10);
    return count;
}

static void herds(void)
{
    static const struct {
        const char *name;
        int events;
    } kinds[] = {
        {"poll", 0},
        {"EPOLLIN", EPOLLIN},
        {"EPOLLET", EPOLLIN | EPOLLET},
        {"EPOLLEXCLUSIVE", EPOLLIN | EPOLLEXCLUSIVE},
        {"EPOLLEXCLUSIVE and EPOLLET", EPOLLIN | EPOLLEXCLUSIVE | EPOLLET},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        group("three children at a listener, %s", kinds[i].name);
        int listening = listener(), clients[2] = {tcp(), tcp()};
        Address to = local_of(listening);
        pid_t children[3];
        for (int k = 0; k < 3; k++)
            children[k] = watch(listening, kinds[i].events);
        connect(clients[0], &to.any, to.len);
        int first = woken();
        VALUE("woken by a connection", first);
        if (first < 3) {
            connect(clients[1], &to.any, to.len);
            VALUE("woken by another", woken());
        }
        for (int k = 0; k < 3; k++) {
            kill(children[k], SIGKILL);
            end_of(children[k]);
        }
        /* Who has been woken by the others' end. */
        while (await(told[0], POLLIN, 0))
            read(told[0], text, 10);
        close(clients[0]);
        close(clients[1]);
        close(listening);
    }
}

/* What a set says within a while. */
static int events_of(int set, int milliseconds)
{
    struct epoll_event event;
    return epoll_wait(set, &event, 1, milliseconds);
}

static int add(int set, int fd, int events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

static void sets(void)
{
    group("a set that fork has copied");
    Pair both = pair(), other = pair();
    int set = epoll_create1(0);
    add(set, both.server, EPOLLIN);
    pid_t child = branch();
    if (child == 0)
        _exit(events_of(set, LONG));
    send(both.client, "abc", 3, 0);
    say("in the child", "%s", end_of(child));
    VALUE("in the parent", events_of(set, LONG));
    if (branch() == 0) {
        close(both.server);
        close(set);
        _exit(0);
    }
    end_of(-1);
    VALUE("after the child has closed it all", events_of(set, LONG));
    recv(both.server, text, 10, 0);
    if (branch() == 0)
        _exit(add(set, other.server, EPOLLIN));
    say("a watch of the child's", "%s", end_of(-1));
    send(other.client, "abc", 3, 0);
    VALUE("a watch of the child's, in the parent", events_of(set, SHORT));
    recv(other.server, text, 10, 0);
    if (branch() == 0)
        _exit(epoll_ctl(set, EPOLL_CTL_DEL, both.server, NULL));
    say("a watch that the child takes away", "%s", end_of(-1));
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 3);
    VALUE("a watch that the child takes away, in the parent", events_of(set, SHORT));
    close(set);
    close_pair(both);
    close_pair(other);

    static const struct {
        const char *name;
        int events;
    } kinds[] = {{"EPOLLET", EPOLLIN | EPOLLET}, {"EPOLLONESHOT", EPOLLIN | EPOLLONESHOT}};
    for (int i = 0; i < 2; i++) {
        group("a set that fork has copied, %s", kinds[i].name);
        both = pair();
        set = epoll_create1(0);
        add(set, both.server, kinds[i].events);
        send(both.client, "abc", 3, 0);
        await_bytes(both.server, 3);
        if (branch() == 0)
            _exit(events_of(set, LONG));
        say("in the child", "%s", end_of(-1));
        VALUE("in the parent", events_of(set, SHORT));
        close(set);
        close_pair(both);
    }

    group("a set with a socket that only the child has");
    both = pair();
    set = epoll_create1(0);
    add(set, both.server, EPOLLIN);
    child = branch();
    if (child == 0) {
        close(both.client);
        recv(both.server, text, 1, MSG_PEEK);
        pause();
    }
    close(both.server);
    send(both.client, "abc", 3, 0);
    VALUE("events", events_of(set, SHORT));
    kill(child, SIGKILL);
    end_of(child);
    VALUE("events once it is gone", events_of(set, SHORT));
    close(set);
    close(both.client);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    pipe(told);
    calls();
    herds();
    sets();
    return 0;
}
