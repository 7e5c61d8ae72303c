/* socket, bind, listen, accept, connect: what each gives in each state, and their errors. */
#include "check.h"

static const int on = 1;

static int bound(Address at)
{
    int fd = tcp();
    bind(fd, &at.any, at.len);
    return fd;
}

static void sockets(void)
{
    group("socket");
    OK("stream", socket(family, SOCK_STREAM, 0));
    OK("stream and TCP", socket(family, SOCK_STREAM, IPPROTO_TCP));
    OK("stream and UDP", socket(family, SOCK_STREAM, IPPROTO_UDP));
    OK("datagram and TCP", socket(family, SOCK_DGRAM, IPPROTO_TCP));
    OK("datagram", socket(family, SOCK_DGRAM, 0));
    OK("seqpacket", socket(family, SOCK_SEQPACKET, 0));
    OK("no type", socket(family, 0, 0));
    OK("unknown type", socket(family, 15, 0));
    OK("unknown flag", socket(family, SOCK_STREAM | 0x100, 0));
    OK("unknown protocol", socket(family, SOCK_STREAM, 199));
    OK("negative protocol", socket(family, SOCK_STREAM, -1));
    OK("unknown family", socket(99, SOCK_STREAM, 0));
    OK("negative family", socket(-1, SOCK_STREAM, 0));
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    VALUE("nonblocking flag", fcntl(fd, F_GETFL) & O_NONBLOCK);
    VALUE("access mode", fcntl(fd, F_GETFL) & O_ACCMODE);
    VALUE("close-on-exec flag", fcntl(fd, F_GETFD));
    close(fd);
    fd = tcp();
    VALUE("flags without any", fcntl(fd, F_GETFL));
    VALUE("descriptor flags without any", fcntl(fd, F_GETFD));
    int ends[2];
    VALUE("socketpair", socketpair(family, SOCK_STREAM, 0, ends));
    int lowest = dup(0);
    close(lowest);
    int next = tcp();
    say("the lowest number", "%s", next <= lowest ? "is taken" : "is passed over");
    close(next);
    close(fd);
}

static void bad_binds(void)
{
    group("bind");
    int fd = tcp();
    Address at = loopback(0);
    VALUE("to a short address", bind(fd, &at.any, 8));
    VALUE("to an address of no bytes", bind(fd, &at.any, 0));
    VALUE("to an address of 129 bytes", bind(fd, &at.any, 129));
    VALUE("to an address of negative length", bind(fd, &at.any, (socklen_t)-1));
    VALUE("to no address", bind(fd, NULL, at.len));
    Address other = at;
    other.any.sa_family = AF_UNIX;
    VALUE("to a UNIX address", bind(fd, &other.any, other.len));
    other.any.sa_family = AF_UNSPEC;
    VALUE("to the loopback of no family", bind(fd, &other.any, other.len));
    Address elsewhere = address_of(family == AF_INET6 ? "2001:db8::7" : "198.51.100.7", 0);
    VALUE("to another host's address", bind(fd, &elsewhere.any, elsewhere.len));
    Address wrong = address_of(family == AF_INET6 ? "127.0.0.1" : "::1", 0);
    VALUE("to an address of the other family", bind(fd, &wrong.any, wrong.len));
    VALUE("after all that", bind(fd, &at.any, at.len));
    VALUE("once more", bind(fd, &at.any, at.len));
    say("name", "%s", text_of(local_of(fd)));
    close(fd);
    VALUE("closed", bind(fd, &at.any, at.len));
    VALUE("negative descriptor", bind(-1, &at.any, at.len));
    int ends[2];
    VALUE("pipe", pipe(ends));
    VALUE("of a pipe", bind(ends[0], &at.any, at.len));
    close(ends[0]);
    close(ends[1]);
    fd = tcp();
    Address unspecified = any(0);
    unspecified.any.sa_family = AF_UNSPEC;
    VALUE("to any address of no family", bind(fd, &unspecified.any, unspecified.len));
    close(fd);
    fd = tcp();
    Address longer = loopback(0);
    VALUE("to an address that is longer than needed", bind(fd, &longer.any, sizeof longer.storage));
    close(fd);
}

static void conflicts(void)
{
    group("bind conflicts");
    int first = bound(loopback(0));
    Address same = local_of(first);
    int second = tcp();
    VALUE("same address", bind(second, &same.any, same.len));
    Address anywhere = any(port_of(same));
    VALUE("any address over a specific one", bind(second, &anywhere.any, anywhere.len));
    if (family == AF_INET) {
        Address next = address_of("127.0.0.2", port_of(same));
        VALUE("other address, same port", bind(second, &next.any, next.len));
    }
    close(second);
    second = tcp();
    setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    VALUE("SO_REUSEADDR of the second only", bind(second, &same.any, same.len));
    setsockopt(first, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    VALUE("SO_REUSEADDR of both", bind(second, &same.any, same.len));
    VALUE("then listening of one", listen(second, 5));
    VALUE("then listening of the other", listen(first, 5));
    int third = tcp();
    setsockopt(third, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    VALUE("SO_REUSEADDR while one listens", bind(third, &same.any, same.len));
    close(first);
    close(second);
    VALUE("after both are closed", bind(third, &same.any, same.len));
    close(third);
}

static void shared_ports(void)
{
    group("SO_REUSEPORT");
    int first = tcp(), second = tcp(), third = tcp();
    setsockopt(first, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    Address at = loopback(0);
    bind(first, &at.any, at.len);
    at = local_of(first);
    VALUE("of the first only", bind(second, &at.any, at.len));
    setsockopt(second, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    VALUE("of both", bind(second, &at.any, at.len));
    VALUE("first listens", listen(first, 5));
    VALUE("second listens", listen(second, 5));
    VALUE("a third without", bind(third, &at.any, at.len));
    setsockopt(third, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    VALUE("a third with SO_REUSEADDR", bind(third, &at.any, at.len));
    setsockopt(third, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    VALUE("a third with both", bind(third, &at.any, at.len));
    close(first);
    close(second);
    close(third);
}

static void any_address(void)
{
    group("any address");
    int first = bound(any(0));
    say("name", "%s", text_of(local_of(first)));
    Address specific = loopback(port_of(local_of(first)));
    int second = tcp();
    VALUE("a specific address beside it", bind(second, &specific.any, specific.len));
    close(second);
    if (family == AF_INET6) {
        int v4 = socket(AF_INET, SOCK_STREAM, 0);
        Address any4 = address_of("0.0.0.0", port_of(specific));
        VALUE("IPv4 beside it", bind(v4, &any4.any, any4.len));
        close(first);
        first = tcp();
        setsockopt(first, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        Address again = any(port_of(specific));
        VALUE("with IPV6_V6ONLY", bind(first, &again.any, again.len));
        VALUE("IPv4 beside that", bind(v4, &any4.any, any4.len));
        close(v4);
    }
    VALUE("listening", listen(first, 5));
    int client = tcp();
    VALUE("connecting", connect(client, &specific.any, specific.len));
    int server = accept(first, NULL, NULL);
    say("accepted", "%s from %s", text_of(local_of(server)), text_of(peer_of(server)));
    close(client);
    close(server);
    close(first);
}

static void listening(void)
{
    group("listen");
    int fd = tcp();
    VALUE("unbound", listen(fd, 5));
    say("name", "%s", text_of(local_of(fd)));
    VALUE("again", listen(fd, 1));
    VALUE("backlog 0", listen(fd, 0));
    VALUE("backlog -1", listen(fd, -1));
    VALUE("backlog beyond all bounds", listen(fd, 1 << 30));
    Address at = loopback(0);
    VALUE("bind afterwards", bind(fd, &at.any, at.len));
    VALUE("connect afterwards", connect(fd, &at.any, at.len));
    VALUE("send afterwards", send(fd, "x", 1, MSG_NOSIGNAL));
    char byte;
    VALUE("recv afterwards", recv(fd, &byte, 1, MSG_DONTWAIT));
    say("peer", "%s", text_of(peer_of(fd)));
    close(fd);
    VALUE("closed", listen(fd, 5));
    Pair both = pair();
    VALUE("connected", listen(both.client, 5));
    VALUE("accepted", listen(both.server, 5));
    close_pair(both);
    fd = socket(family, SOCK_DGRAM, 0);
    VALUE("datagrams", listen(fd, 5));
    close(fd);
    int ends[2];
    if (pipe(ends) == 0)
        VALUE("pipe", listen(ends[0], 5));
    close(ends[0]);
    close(ends[1]);
}

static void accepting(void)
{
    group("accept");
    int fd = tcp();
    VALUE("of a fresh socket", accept(fd, NULL, NULL));
    close(fd);
    VALUE("closed", accept(fd, NULL, NULL));
    int ends[2];
    if (pipe(ends) == 0)
        VALUE("pipe", accept(ends[0], NULL, NULL));
    close(ends[0]);
    close(ends[1]);
    int datagrams = socket(family, SOCK_DGRAM, 0);
    VALUE("datagrams", accept(datagrams, NULL, NULL));
    close(datagrams);

    int listening = listener();
    set_nonblocking(listening, true);
    VALUE("nobody waits", accept(listening, NULL, NULL));
    VALUE("unknown flags", accept4(listening, NULL, NULL, 1));
    Address to = local_of(listening);
    int clients[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = tcp();
        connect(clients[i], &to.any, to.len);
    }
    await(listening, POLLIN, LONG);
    Address from = {.len = sizeof from.storage};
    int first = accept(listening, &from.any, &from.len);
    say("peer", "%s, %d bytes", text_of(from), (int)from.len);
    say("order", "%s", port_of(from) == port_of(local_of(clients[0])) ? "first" : "another");
    VALUE("flags of the new one", fcntl(first, F_GETFL));
    VALUE("descriptor flags of the new one", fcntl(first, F_GETFD));
    VALUE("accept of an accepted one", accept(first, NULL, NULL));
    Address cut = {.len = 4};
    await(listening, POLLIN, LONG);
    int second = accept4(listening, &cut.any, &cut.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    say("length with a short buffer", "%d", (int)cut.len);
    VALUE("flags as asked for", fcntl(second, F_GETFL) & O_NONBLOCK);
    VALUE("descriptor flags as asked for", fcntl(second, F_GETFD));
    socklen_t negative = (socklen_t)-1;
    await(listening, POLLIN, LONG);
    OK("negative length", accept(listening, &cut.any, &negative));
    await(listening, POLLIN, LONG);
    OK("length at no address", accept(listening, &cut.any, NULL));
    set_nonblocking(listening, true);
    OK("whoever is left", accept(listening, NULL, NULL));
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    close(first);
    close(second);
    close(listening);
}

static void accepting_what_ended(void)
{
    group("accept of what ended");
    int listening = listener();
    Address to = local_of(listening);
    int client = tcp();
    connect(client, &to.any, to.len);
    send(client, "last words", 10, 0);
    close(client);
    int server = accept(listening, NULL, NULL);
    OK("closed by the peer", server);
    char text[20];
    VALUE("its data", recv(server, text, sizeof text, MSG_WAITALL));
    VALUE("its end", recv(server, text, sizeof text, 0));
    close(server);
    client = tcp();
    connect(client, &to.any, to.len);
    await(listening, POLLIN, LONG);
    struct linger hard = {.l_onoff = 1};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(client);
    usleep(SHORT * 1000);
    server = accept(listening, NULL, NULL);
    OK("reset by the peer", server);
    VALUE("recv of that", recv(server, text, sizeof text, 0));
    VALUE("recv again", recv(server, text, sizeof text, 0));
    close(server);
    VALUE("shutdown of the listener", shutdown(listening, SHUT_RD));
    VALUE("accept after it", accept(listening, NULL, NULL));
    VALUE("listening again", listen(listening, 5));
    close(listening);
}

static void inherited(void)
{
    group("accepted sockets inherit");
    int listening = listener(), client = tcp(), value;
    set_option(listening, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(listening, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(listening, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    set_option(listening, IPPROTO_TCP, TCP_KEEPCNT, 5);
    set_option(listening, SOL_SOCKET, SO_RCVBUF, 30000);
    set_option(listening, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(listening, SOL_SOCKET, SO_PRIORITY, 3);
    set_option(listening, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
    struct linger lingers = {1, 9};
    setsockopt(listening, SOL_SOCKET, SO_LINGER, &lingers, sizeof lingers);
    struct timeval timeout = {.tv_sec = 3};
    setsockopt(listening, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    Address to = local_of(listening);
    connect(client, &to.any, to.len);
    int server = accept(listening, NULL, NULL);
    static const struct {
        const char *name;
        int level, option;
    } options[] = {
        {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},    {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE},
        {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE},  {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT},
        {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL}, {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF},
        {"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR},   {"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY},
        {"SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        socklen_t len = sizeof value;
        getsockopt(server, options[i].level, options[i].option, &value, &len);
        say(options[i].name, "%d", value);
    }
    socklen_t len = sizeof lingers;
    getsockopt(server, SOL_SOCKET, SO_LINGER, &lingers, &len);
    say("SO_LINGER", "%d %d", lingers.l_onoff, lingers.l_linger);
    len = sizeof timeout;
    getsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &timeout, &len);
    say("SO_RCVTIMEO", "%ld", (long)timeout.tv_sec);
    close(client);
    close(server);
    close(listening);
}

static void connecting(void)
{
    group("connect");
    int listening = listener();
    Address to = local_of(listening);
    int fd = tcp();
    VALUE("to a short address", connect(fd, &to.any, 4));
    VALUE("to an address of no bytes", connect(fd, &to.any, 0));
    VALUE("to no address", connect(fd, NULL, to.len));
    Address other = to;
    other.any.sa_family = AF_UNIX;
    VALUE("to a UNIX address", connect(fd, &other.any, other.len));
    VALUE("to a listener", connect(fd, &to.any, to.len));
    VALUE("again", connect(fd, &to.any, to.len));
    int server = accept(listening, NULL, NULL);
    VALUE("of an accepted socket", connect(server, &to.any, to.len));
    Address none = {.any = {.sa_family = AF_UNSPEC}, .len = sizeof none.any};
    VALUE("to nobody", connect(fd, &none.any, none.len));
    say("peer after that", "%s", text_of(peer_of(fd)));
    say("name after that", "%s", text_of(local_of(fd)));
    char byte;
    VALUE("the other end then", recv(server, &byte, 1, 0));
    VALUE("to a listener then", connect(fd, &to.any, to.len));
    close(server);
    server = accept(listening, NULL, NULL);
    close(fd);
    close(server);
    VALUE("of a closed socket", connect(fd, &to.any, to.len));
    int ends[2];
    if (pipe(ends) == 0)
        VALUE("of a pipe", connect(ends[0], &to.any, to.len));
    close(ends[0]);
    close(ends[1]);
    fd = tcp();
    VALUE("of a fresh socket to nobody", connect(fd, &none.any, none.len));
    close(fd);
    VALUE("of a listener to nobody", connect(listening, &none.any, none.len));
    VALUE("accept of it then", accept(listening, NULL, NULL));
    close(listening);
}

static void refused(void)
{
    group("refused");
    int placeholder = bound(loopback(0));
    Address to = local_of(placeholder);
    int fd = tcp();
    VALUE("blocking", connect(fd, &to.any, to.len));
    say("SO_ERROR afterwards", "%d", take_error(fd));
    VALUE("again", connect(fd, &to.any, to.len));
    char byte;
    VALUE("recv", recv(fd, &byte, 1, 0));
    VALUE("send", send(fd, "x", 1, MSG_NOSIGNAL));
    say("events", "%s", events_text(await(fd, POLLIN | POLLOUT, 0)));
    VALUE("shutdown", shutdown(fd, SHUT_RDWR));
    say("peer", "%s", text_of(peer_of(fd)));
    close(fd);
    fd = tcp();
    set_nonblocking(fd, true);
    VALUE("nonblocking", connect(fd, &to.any, to.len));
    say("events after that", "%s", events_text(await(fd, POLLIN | POLLOUT | POLLRDHUP, LONG)));
    VALUE("nonblocking, again", connect(fd, &to.any, to.len));
    say("error then", "%d", take_error(fd));
    close(fd);
    fd = tcp();
    set_nonblocking(fd, true);
    VALUE("nonblocking, once more", connect(fd, &to.any, to.len));
    await(fd, POLLOUT, LONG);
    say("its error", "%s", error_name(take_error(fd)));
    say("its error, again", "%d", take_error(fd));
    say("events once it is taken", "%s", events_text(await(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
    VALUE("recv once it is taken", recv(fd, &byte, 1, 0));
    VALUE("send once it is taken", send(fd, "x", 1, MSG_NOSIGNAL));
    VALUE("connect once it is taken", connect(fd, &to.any, to.len));
    close(fd);
    close(placeholder);
    fd = tcp();
    to = loopback(0);
    VALUE("port 0", connect(fd, &to.any, to.len));
    close(fd);
}

static void without_waiting(void)
{
    group("nonblocking connect");
    int listening = listener(), fd = tcp();
    Address to = local_of(listening);
    set_nonblocking(fd, true);
    VALUE("begins", connect(fd, &to.any, to.len));
    say("events", "%s", events_text(await(fd, POLLIN | POLLOUT | POLLRDHUP, LONG)));
    say("error", "%d", take_error(fd));
    VALUE("again", connect(fd, &to.any, to.len));
    VALUE("and again", connect(fd, &to.any, to.len));
    VALUE("send", send(fd, "hello", 5, 0));
    int server = accept(listening, NULL, NULL);
    char text[10];
    VALUE("recv of the other end", recv(server, text, sizeof text, 0));
    close(fd);
    close(server);
    close(listening);
}

static void destinations(void)
{
    group("destinations");
    static const char *const v4[] = {"255.255.255.255", "224.0.0.1", "192.0.2.1", "240.0.0.1"};
    static const char *const v6[] = {"ff02::1", "2001:db8::1", "fe80::1"};
    const char *const *list = family == AF_INET6 ? v6 : v4;
    for (int i = 0; i < (family == AF_INET6 ? 3 : 4); i++) {
        int fd = tcp();
        Address to = address_of(list[i], 80);
        VALUE(list[i], connect(fd, &to.any, to.len));
        close(fd);
    }
    int listening = tcp();
    Address anywhere = any(0);
    bind(listening, &anywhere.any, anywhere.len);
    listen(listening, 5);
    int port = port_of(local_of(listening));
    static const char *const near4[] = {"0.0.0.0", "127.0.0.1", "127.0.0.9", "127.255.255.254"};
    static const char *const near6[] = {"::", "::1", "::ffff:127.0.0.1", "::ffff:127.3.4.5"};
    for (int i = 0; i < 4; i++) {
        const char *ip = (family == AF_INET6 ? near6 : near4)[i];
        int fd = tcp();
        Address to = address_of(ip, port);
        VALUE(ip, connect(fd, &to.any, to.len));
        int server = accept(listening, NULL, NULL);
        char name[100];
        snprintf(name, sizeof name, "%s, as the client sees it", ip);
        say(name, "%s to %s", text_of(local_of(fd)), text_of(peer_of(fd)));
        snprintf(name, sizeof name, "%s, as the server sees it", ip);
        say(name, "%s to %s", text_of(local_of(server)), text_of(peer_of(server)));
        close(fd);
        close(server);
    }
    if (family == AF_INET6) {
        int fd = tcp();
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        Address to = address_of("::ffff:127.0.0.1", port);
        VALUE("mapped with IPV6_V6ONLY", connect(fd, &to.any, to.len));
        close(fd);
        fd = tcp();
        to = address_of("127.0.0.1", port);
        VALUE("IPv4 by an IPv6 socket", connect(fd, &to.any, to.len));
        close(fd);
    }
    close(listening);
}

static void own_ports(void)
{
    group("source ports");
    int listening = listener();
    Address to = local_of(listening);
    int first = tcp(), second = tcp();
    setsockopt(first, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    Address from = loopback(0);
    bind(first, &from.any, from.len);
    from = local_of(first);
    VALUE("a second socket on the same", bind(second, &from.any, from.len));
    VALUE("connecting the first", connect(first, &to.any, to.len));
    say("it keeps its port", "%s", port_of(local_of(first)) == port_of(from) ? "yes" : "no");
    VALUE("connecting the second to the same", connect(second, &to.any, to.len));
    close(first);
    close(second);
    close(listening);

    int fd = tcp();
    Address self = loopback(0);
    bind(fd, &self.any, self.len);
    self = local_of(fd);
    VALUE("connecting to itself", connect(fd, &self.any, self.len));
    VALUE("sending to itself", send(fd, "echo", 4, MSG_NOSIGNAL));
    char text[10];
    VALUE("receiving from itself", recv(fd, text, sizeof text, 0));
    VALUE("closing its one half", shutdown(fd, SHUT_WR));
    VALUE("its end", recv(fd, text, sizeof text, 0));
    close(fd);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        use_family(i ? AF_INET6 : AF_INET);
        sockets();
        bad_binds();
        conflicts();
        shared_ports();
        any_address();
        listening();
        accepting();
        accepting_what_ended();
        inherited();
        connecting();
        refused();
        without_waiting();
        destinations();
        own_ports();
    }
    return 0;
}
