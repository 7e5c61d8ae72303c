/* fork: listeners and connections that several processes hold, and who ends them. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/syscall.h>

static char text[1 << 16];

/* A connection to a listener, on which an answer has to come. */
static const char *ask(int listening)
{
    Address to = local_of(listening);
    int fd = tcp();
    char answer[10] = "";
    if (connect(fd, &to.any, to.len) != 0) {
        close(fd);
        return error_name(errno);
    }
    await(fd, POLLIN, LONG);
    const char *result = outcome(recv(fd, answer, sizeof answer, 0));
    close(fd);
    return result;
}

static void serve(int listening, int times)
{
    while (times--) {
        int fd = accept(listening, NULL, NULL);
        send(fd, "served", 6, 0);
        close(fd);
    }
}

/* Tries until a connection is refused, which happens some time after a process's end. One that the
   listener leaves behind as it goes is reset. */
static const char *refusal(Address to)
{
    int error = 0;
    for (long long end = milliseconds() + LONG; error != ECONNREFUSED && milliseconds() < end;) {
        int fd = tcp();
        error = connect(fd, &to.any, to.len) == 0 ? 0 : errno;
        close(fd);
    }
    return error_name(error);
}

static void listeners(void)
{
    group("a listener in parent and child");
    int listening = listener();
    pid_t child = branch();
    if (child == 0) {
        serve(listening, 2);
        _exit(0);
    }
    say("the child accepts", "%s", ask(listening));
    int kept = tcp();
    Address at = local_of(listening);
    close(listening);
    connect(kept, &at.any, at.len);
    VALUE("and after its parent has closed it", recv(kept, text, 10, 0));
    close(kept);
    say("the child", "%s", end_of(child));
    say("once nobody has it", "%s", refusal(at));

    listening = listener();
    child = branch();
    if (child == 0) {
        close(listening);
        _exit(3);
    }
    say("a child that closes it", "%s", end_of(child));
    Address to = local_of(listening);
    kept = tcp();
    VALUE("connecting then", connect(kept, &to.any, to.len));
    int fd = accept(listening, NULL, NULL);
    OK("accepting then", fd);
    say("them", "%s", seen_by(kept));
    close(fd);
    close(kept);

    child = branch();
    if (child == 0)
        _exit(shutdown(listening, SHUT_RDWR));
    say("a child that shuts it down", "%s", end_of(child));
    OK("accept then", accept(listening, NULL, NULL));
    close(listening);

    group("several children at a listener");
    listening = listener();
    pid_t children[3];
    for (int i = 0; i < 3; i++) {
        children[i] = branch();
        if (children[i] == 0) {
            serve(listening, 4);
            _exit(0);
        }
    }
    int served = 0;
    for (int i = 0; i < 12; i++)
        served += atoi(ask(listening));
    say("bytes served", "%d", served);
    for (int i = 0; i < 3; i++) {
        char name[20];
        snprintf(name, sizeof name, "child %d", i);
        say(name, "%s", end_of(children[i]));
    }
    close(listening);

    group("a child that is killed in accept");
    listening = listener();
    child = branch();
    if (child == 0) {
        accept(listening, NULL, NULL);
        _exit(0);
    }
    usleep(SHORT * 1000);
    kill(child, SIGKILL);
    say("it", "%s", end_of(child));
    to = local_of(listening);
    kept = tcp();
    VALUE("connecting then", connect(kept, &to.any, to.len));
    say("the listener", "%s", events_text(await(listening, POLLIN, LONG)));
    fd = accept(listening, NULL, NULL);
    OK("accepting then", fd);
    close(fd);
    close(kept);
    close(listening);

    group("connections that nobody has accepted");
    listening = listener();
    to = local_of(listening);
    kept = tcp();
    child = branch();
    if (child == 0) {
        connect(kept, &to.any, to.len);
        _exit(0);
    }
    end_of(child);
    close(listening);
    say("when the parent closes the listener", "%s", seen_at_last_by(kept));
    close(kept);
    listening = listener();
    to = local_of(listening);
    kept = tcp();
    connect(kept, &to.any, to.len);
    child = branch();
    if (child == 0)
        _exit(0);
    close(listening);
    end_of(child);
    say("when the last process ends", "%s", seen_at_last_by(kept));
    close(kept);
}

static void states(void)
{
    group("a child acts on its parent's socket");
    int fd = tcp();
    Address at = loopback(0);
    if (branch() == 0)
        _exit(bind(fd, &at.any, at.len));
    say("bind", "%s", end_of(-1));
    say("name", "%s", text_of(local_of(fd)));
    if (branch() == 0)
        _exit(listen(fd, 5));
    end_of(-1);
    VALUE("SO_ACCEPTCONN", option_of(fd, SOL_SOCKET, SO_ACCEPTCONN));
    int client = tcp();
    Address to = local_of(fd);
    if (branch() == 0)
        _exit(connect(client, &to.any, to.len));
    say("connect", "%s", end_of(-1));
    say("peer", "%s", text_of(peer_of(client)));
    VALUE("connect again", connect(client, &to.any, to.len));
    int server = accept(fd, NULL, NULL);
    VALUE("send", send(client, "abc", 3, 0));
    VALUE("recv", recv(server, text, 10, 0));
    if (branch() == 0)
        _exit(shutdown(client, SHUT_WR));
    end_of(-1);
    say("shutdown", "%s", seen_at_last_by(server));
    VALUE("send after it", send(client, "abc", 3, MSG_NOSIGNAL));
    if (branch() == 0)
        _exit(shutdown(client, SHUT_RD));
    end_of(-1);
    VALUE("recv after the other half's", recv(client, text, 10, 0));
    close(server);
    close(client);

    client = tcp();
    set_nonblocking(client, true);
    to = local_of(fd);
    connect(client, &to.any, to.len);
    if (branch() == 0)
        _exit(await(client, POLLOUT, LONG) == POLLOUT ? 0 : 1);
    say("waiting for a connection", "%s", end_of(-1));
    if (branch() == 0) {
        Address none = {.any = {.sa_family = AF_UNSPEC}, .len = sizeof none.any};
        _exit(connect(client, &none.any, none.len));
    }
    say("dissolving it", "%s", end_of(-1));
    say("its peer then", "%s", text_of(peer_of(client)));
    close(client);
    close(fd);
    if (branch() == 0)
        _exit(tcp() == fd ? 0 : 1);
    say("a socket of its own", "%s", end_of(-1));
    VALUE("which its parent has not", fcntl(fd, F_GETFD));

    group("what parent and child share");
    Pair both = pair();
    if (branch() == 0) {
        set_nonblocking(both.client, true);
        fcntl(both.client, F_SETFD, FD_CLOEXEC);
        _exit(0);
    }
    end_of(-1);
    VALUE("O_NONBLOCK", is_nonblocking(both.client));
    VALUE("recv by it", recv(both.client, text, 1, 0));
    VALUE("FD_CLOEXEC", fcntl(both.client, F_GETFD));
    static const struct {
        const char *name;
        int level, option, value;
    } options[] = {
        {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1},
        {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 77},
        {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 7777},
        {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1},
        {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, 30000},
        {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, 30000},
        {"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 7},
        {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1},
        {"IP_TOS", IPPROTO_IP, IP_TOS, 16},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (branch() == 0) {
            set_option(both.client, options[i].level, options[i].option, options[i].value);
            _exit(0);
        }
        end_of(-1);
        VALUE(options[i].name, option_of(both.client, options[i].level, options[i].option));
    }
    set_option(both.client, SOL_SOCKET, SO_RCVLOWAT, 1);
    send(both.server, "abcdef", 6, 0);
    await_bytes(both.client, 6);
    if (branch() == 0)
        _exit(recv(both.client, text, 4, MSG_PEEK));
    say("a look at what came", "%s", end_of(-1));
    if (branch() == 0)
        _exit(recv(both.client, text, 2, 0));
    say("a part of it, read", "%s", end_of(-1));
    VALUE("what is left", pending(both.client));
    VALUE("what is read then", recv(both.client, text, 10, 0));
    say("its first byte", "%c", *text);
    send(both.server, "u", 1, MSG_OOB);
    await(both.client, POLLIN, LONG);
    if (branch() == 0) {
        int mark = -1;
        ioctl(both.client, SIOCATMARK, &mark);
        _exit(mark);
    }
    say("the mark of urgent data", "%s", end_of(-1));
    close_pair(both);
    int fd1 = reset_client();
    if (branch() == 0)
        _exit(take_error(fd1) == ECONNRESET ? 0 : 1);
    say("the error, taken", "%s", end_of(-1));
    VALUE("the error then", take_error(fd1));
    close(fd1);
    both = pair();
    shutdown(both.client, SHUT_WR);
    if (branch() == 0) {
        signal(SIGPIPE, SIG_DFL);
        send(both.client, "x", 1, 0);
        _exit(0);
    }
    say("writing behind the end", "%s", end_of(-1));
    close_pair(both);
}

enum { CLOSE, RETURN, EXIT, KILL, DUP2, CLOSE_RANGE, SYSCALL, ENDINGS };
static const char *const endings[] = {"close", "exit", "_exit", "kill", "dup2", "close_range", "syscall"};

static void end(int fd, int how, int other)
{
    switch (how) {
    case CLOSE: close(fd); break;
    case RETURN: exit(0);
    case EXIT: _exit(0);
    case KILL: kill(getpid(), SIGKILL); break;
    case DUP2: dup2(other, fd); break;
    case CLOSE_RANGE: close_range(fd, fd, 0); break;
    case SYSCALL: syscall(SYS_close, fd); break;
    }
}

static void holders(void)
{
    for (int how = 0; how < ENDINGS; how++) {
        group("the last holder, by %s", endings[how]);
        Pair both = pair();
        int told[2];
        pipe(told);
        pid_t child = branch();
        if (child == 0) {
            close(both.client);
            read(told[0], text, 1);
            send(both.server, "last", 4, 0);
            end(both.server, how, told[0]);
            read(told[0], text, 1);
            _exit(0);
        }
        close(both.server);
        say("while the child has it", "%s", seen_by(both.client));
        write(told[1], "x", 1);
        say("then", "%s", seen_at_last_by(both.client));
        VALUE("what came", recv(both.client, text, 10, 0));
        VALUE("the end", recv(both.client, text, 10, 0));
        write(told[1], "x", 1);
        say("the child", "%s", end_of(child));
        close(told[0]);
        close(told[1]);
        close(both.client);

        group("not the last holder, by %s", endings[how]);
        both = pair();
        pipe(told);
        child = branch();
        if (child == 0) {
            close(both.client);
            end(both.server, how, told[0]);
            read(told[0], text, 1);
            _exit(0);
        }
        write(told[1], "x", 1);
        end_of(child);
        say("then", "%s", seen_by(both.client));
        VALUE("send", send(both.server, "abc", 3, 0));
        VALUE("recv", recv(both.client, text, 10, 0));
        close(both.server);
        say("at last", "%s", seen_at_last_by(both.client));
        close(told[0]);
        close(told[1]);
        close(both.client);

        group("unread data, by %s", endings[how]);
        both = pair();
        pipe(told);
        send(both.client, "abc", 3, 0);
        await_bytes(both.server, 3);
        child = branch();
        if (child == 0) {
            close(both.client);
            end(both.server, how, told[0]);
            read(told[0], text, 1);
            _exit(0);
        }
        close(both.server);
        say("then", "%s", seen_at_last_by(both.client));
        write(told[1], "x", 1);
        end_of(child);
        close(told[0]);
        close(told[1]);
        close(both.client);
    }
}

static void copies(void)
{
    group("copies of a descriptor over fork");
    Pair both = pair();
    int copy = dup(both.server), turns[2];
    pipe(turns);
    pid_t child = branch();
    if (child == 0) {
        close(both.client);
        close(both.server);
        read(turns[0], text, 1);
        send(copy, "a", 1, 0);
        int another = fcntl(copy, F_DUPFD_CLOEXEC, 100);
        close(copy);
        read(turns[0], text, 1);
        send(another, "b", 1, 0);
        close(another);
        read(turns[0], text, 1);
        _exit(0);
    }
    close(both.server);
    close(copy);
    write(turns[1], "x", 1);
    VALUE("one closed, the other used", recv(both.client, text, 10, 0));
    say("then", "%s", seen_by(both.client));
    write(turns[1], "x", 1);
    VALUE("a copy of it", recv(both.client, text, 10, 0));
    say("once all are closed", "%s", seen_at_last_by(both.client));
    write(turns[1], "x", 1);
    end_of(child);
    close(both.client);
    close(turns[0]);
    close(turns[1]);

    group("generations");
    both = pair();
    child = branch();
    if (child == 0) {
        close(both.client);
        for (int generation = 0; generation < 4; generation++) {
            if (branch() != 0)
                _exit(0);
            send(both.server, "abc", 3, 0);
        }
        _exit(0);
    }
    close(both.server);
    say("the first", "%s", end_of(child));
    VALUE("what the others say", recv(both.client, text, 100, MSG_WAITALL));
    say("at last", "%s", seen_at_last_by(both.client));
    close(both.client);

    group("a child that has much to send");
    both = pair();
    child = branch();
    if (child == 0) {
        close(both.client);
        set_nonblocking(both.server, true);
        unsigned sent = 0;
        for (ssize_t n; (n = send(both.server, text, sizeof text, 0)) > 0;)
            sent += n;
        _exit(sent > sizeof text ? 0 : 1);
    }
    close(both.server);
    say("it", "%s", end_of(child));
    long came = 0, n;
    while ((n = recv(both.client, text, sizeof text, 0)) > 0)
        came += n;
    VALUE("the end of it", n);
    say("it all", "%s", came > (long)sizeof text ? "came" : "did not come");
    close(both.client);
}

/* What a child of vfork does with sockets that it makes itself. */
static void __attribute__((noinline)) make(int which, int listening, const Address *to)
{
    if (which == 3) {
        send(accept(listening, NULL, NULL), "a", 1, 0);
        _exit(0);
    }
    int fd = socket(to->any.sa_family, SOCK_STREAM | (which == 2 ? SOCK_CLOEXEC : 0), 0);
    if (connect(fd, &to->any, to->len) || send(fd, "c", 1, 0) != 1)
        _exit(1);
    if (which == 0)
        close(fd);
    if (which == 2)
        execl("/bin/true", "true", NULL);
    _exit(0);
}

static const char *vforked_to_make(int which, int listening, const Address *to)
{
    pid_t child = vfork();
    if (child == 0)
        make(which, listening, to);
    return end_of(child);
}

static void vforked(void)
{
    const char *what[] = {"closes", "leaves open", "has closed by exec", "accepts"};
    for (int which = 0; which < 4; which++) {
        group("a connection that a vfork child %s", what[which]);
        int listening = listener();
        Address to = local_of(listening);
        int other = which == 3 ? tcp() : -1;
        if (which == 3)
            connect(other, &to.any, to.len);
        say("the child", "%s", vforked_to_make(which, listening, &to));
        if (which < 3)
            other = accept(listening, NULL, NULL);
        VALUE("its byte", recv(other, text, sizeof text, 0));
        say("at last", "%s", seen_at_last_by(other));
        Pair both = pair();
        VALUE("the parent's own", send(both.client, "p", 1, 0) == 1 && await(both.server, POLLIN, LONG));
        close_pair(both);
        close(other);
        close(listening);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    listeners();
    states();
    holders();
    copies();
    vforked();
    return 0;
}
