/* shutdown, close, SO_LINGER, resets, and what names a socket has on its way. */
#include "check.h"

static char text[65536];

static void shutdowns(void)
{
    group("shutdown");
    int fd = tcp();
    VALUE("of a fresh socket", shutdown(fd, SHUT_RDWR));
    VALUE("with an unknown half", shutdown(fd, 3));
    VALUE("with a negative half", shutdown(fd, -1));
    close(fd);
    VALUE("of a closed one", shutdown(fd, SHUT_RD));
    int ends[2];
    pipe(ends);
    VALUE("of a pipe", shutdown(ends[0], SHUT_RD));
    close(ends[0]);
    close(ends[1]);
    fd = listener();
    VALUE("of a listener's writing half", shutdown(fd, SHUT_WR));
    say("its events then", "%s", events_text(await(fd, POLLIN | POLLOUT, 0)));
    VALUE("of a listener", shutdown(fd, SHUT_RDWR));
    say("its events at last", "%s", events_text(await(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
    say("its name", "%s", text_of(local_of(fd)));
    VALUE("of a listener again", shutdown(fd, SHUT_RDWR));
    close(fd);

    static const char *const halves[] = {"reading", "writing", "both"};
    for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
        group("shutdown, %s", halves[how]);
        Pair both = pair();
        int a = both.client, b = both.server;
        VALUE("result", shutdown(a, how));
        VALUE("again", shutdown(a, how));
        if (how != SHUT_RD)
            await(b, POLLRDHUP, LONG);
        int asked = POLLIN | POLLOUT | POLLRDHUP;
        say("events here", "%s", events_text(await(a, asked, 0)));
        say("events there", "%s", events_text(await(b, asked, 0)));
        VALUE("recv here", recv(a, text, 5, MSG_DONTWAIT));
        VALUE("recv there", recv(b, text, 5, MSG_DONTWAIT));
        VALUE("send here", send(a, "x", 1, MSG_NOSIGNAL));
        VALUE("send there", send(b, "abc", 3, MSG_NOSIGNAL));
        usleep(SHORT * 1000);
        VALUE("recv of that", recv(a, text, 5, MSG_DONTWAIT));
        say("names", "%s to %s", text_of(local_of(a)), text_of(peer_of(a)));
        say("error there", "%s", error_name(take_error(b)));
        VALUE("reading as well", shutdown(a, SHUT_RD));
        VALUE("writing as well", shutdown(a, SHUT_WR));
        close_pair(both);
    }
}

static void ends(void)
{
    group("both ends closed their halves");
    Pair both = pair();
    shutdown(both.client, SHUT_WR);
    await(both.server, POLLRDHUP, LONG);
    shutdown(both.server, SHUT_WR);
    await(both.client, POLLHUP, LONG);
    await(both.server, POLLHUP, LONG);
    usleep(SHORT * 1000);
    int asked = POLLIN | POLLOUT | POLLRDHUP;
    say("events of the first", "%s", events_text(await(both.client, asked, 0)));
    say("events of the second", "%s", events_text(await(both.server, asked, 0)));
    say("names of the first", "%s to %s", text_of(local_of(both.client)), text_of(peer_of(both.client)));
    say("names of the second", "%s to %s", text_of(local_of(both.server)), text_of(peer_of(both.server)));
    VALUE("recv", recv(both.client, text, 5, 0));
    VALUE("send", send(both.client, "x", 1, MSG_NOSIGNAL));
    VALUE("shutdown of the first", shutdown(both.client, SHUT_RDWR));
    VALUE("shutdown of the second", shutdown(both.server, SHUT_RDWR));
    Address to = loopback(9);
    VALUE("connect", connect(both.client, &to.any, to.len));
    VALUE("listen", listen(both.client, 5));
    VALUE("bind", bind(both.client, &to.any, to.len));
    close_pair(both);
}

static void closes(void)
{
    group("close");
    VALUE("of a closed one", close(999));
    VALUE("of a negative number", close(-1));
    Pair both = pair();
    send(both.client, "abc", 3, 0);
    VALUE("result", close(both.client));
    VALUE("again", close(both.client));
    VALUE("recv there", recv(both.server, text, 10, MSG_WAITALL));
    VALUE("first send there", send(both.server, "x", 1, MSG_NOSIGNAL));
    await(both.server, POLLERR, LONG);
    say("events there", "%s", events_text(await(both.server, POLLIN | POLLOUT | POLLRDHUP, 0)));
    VALUE("second send there", send(both.server, "x", 1, MSG_NOSIGNAL));
    VALUE("third send there", send(both.server, "x", 1, MSG_NOSIGNAL));
    VALUE("recv there then", recv(both.server, text, 10, 0));
    say("names there", "%s to %s", text_of(local_of(both.server)), text_of(peer_of(both.server)));
    close(both.server);

    group("a reset behind the peer's end");
    both = pair();
    send(both.client, "abc", 3, 0);
    close(both.client);
    await(both.server, POLLRDHUP, LONG);
    VALUE("send there", send(both.server, "x", 1, MSG_NOSIGNAL));
    await(both.server, POLLERR, LONG);
    VALUE("recv there", recv(both.server, text, 10, 0));
    VALUE("recv there again", recv(both.server, text, 10, 0));
    say("error there", "%s", error_name(take_error(both.server)));
    VALUE("recv there at last", recv(both.server, text, 10, 0));
    close(both.server);

    group("close with unread data");
    both = pair();
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 3);
    close(both.server);
    await(both.client, POLLERR, LONG);
    say("events there", "%s", events_text(await(both.client, POLLIN | POLLOUT | POLLRDHUP, 0)));
    VALUE("recv there", recv(both.client, text, 10, 0));
    VALUE("recv again", recv(both.client, text, 10, 0));
    VALUE("send there", send(both.client, "x", 1, MSG_NOSIGNAL));
    close(both.client);
}

static void resets(void)
{
    group("reset");
    int fd = reset_client();
    say("events", "%s", events_text(await(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
    say("error", "%s", error_name(take_error(fd)));
    say("events once it is taken", "%s", events_text(await(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
    VALUE("recv", recv(fd, text, 5, 0));
    VALUE("send", send(fd, "x", 1, MSG_NOSIGNAL));
    VALUE("bytes to read", pending(fd));
    say("names", "%s to %s", text_of(local_of(fd)), text_of(peer_of(fd)));
    VALUE("shutdown", shutdown(fd, SHUT_RDWR));
    Address to = loopback(9);
    VALUE("connect", connect(fd, &to.any, to.len));
    VALUE("listen", listen(fd, 5));
    VALUE("bind", bind(fd, &to.any, to.len));
    close(fd);

    group("reset, error by send");
    fd = reset_client();
    VALUE("first", send(fd, "x", 1, MSG_NOSIGNAL));
    VALUE("second", send(fd, "x", 1, MSG_NOSIGNAL));
    VALUE("recv", recv(fd, text, 5, 0));
    close(fd);

    group("reset with data");
    Pair both = pair();
    send(both.server, "before", 6, 0);
    await_bytes(both.client, 6);
    struct linger hard = {.l_onoff = 1};
    setsockopt(both.server, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(both.server);
    await(both.client, POLLERR, LONG);
    VALUE("bytes to read", pending(both.client));
    VALUE("recv", recv(both.client, text, 3, 0));
    VALUE("recv again", recv(both.client, text, 30, 0));
    VALUE("recv at last", recv(both.client, text, 30, 0));
    close(both.client);
}

static void lingers(void)
{
    group("lingering close");
    Pair both = pair();
    struct linger soft = {1, 10};
    setsockopt(both.client, SOL_SOCKET, SO_LINGER, &soft, sizeof soft);
    send(both.client, "abc", 3, 0);
    long long start = milliseconds();
    VALUE("with what the peer takes", close(both.client));
    say("it", "%s", milliseconds() - start < 3000 ? "is quick" : "waits");
    VALUE("what came", recv(both.server, text, 10, MSG_WAITALL));
    close(both.server);

    both = pair();
    struct linger second = {1, 1};
    setsockopt(both.client, SOL_SOCKET, SO_LINGER, &second, sizeof second);
    set_nonblocking(both.client, true);
    for (int refused = 0; refused < 3;) {
        if (send(both.client, text, sizeof text, 0) < 0) {
            refused++;
            usleep(SHORT * 1000);
        }
    }
    set_nonblocking(both.client, false);
    start = milliseconds();
    VALUE("with what the peer does not take", close(both.client));
    long long took = milliseconds() - start;
    say("it then", "%s", took < 900 ? "is quick" : took < 5000 ? "waits a second" : "waits long");
    close(both.server);
}

static void names(void)
{
    group("names");
    int fd = tcp();
    say("fresh", "%s and %s", text_of(local_of(fd)), text_of(peer_of(fd)));
    Address at = loopback(0);
    bind(fd, &at.any, at.len);
    say("bound", "%s and %s", text_of(local_of(fd)), text_of(peer_of(fd)));
    listen(fd, 5);
    say("listening", "%s and %s", text_of(local_of(fd)), text_of(peer_of(fd)));
    Address to = local_of(fd);
    int client = tcp();
    set_nonblocking(client, true);
    connect(client, &to.any, to.len);
    await(client, POLLOUT, LONG);
    say("connected", "%s and %s", text_of(local_of(client)), text_of(peer_of(client)));
    say("ports", "%s", port_of(peer_of(client)) == port_of(to) ? "fit" : "do not fit");
    int server = accept(fd, NULL, NULL);
    say("accepted", "%s", port_of(peer_of(server)) == port_of(local_of(client)) ? "fits" : "does not");
    close(client);
    await(server, POLLRDHUP, LONG);
    say("after the peer's close", "%s and %s", text_of(local_of(server)), text_of(peer_of(server)));
    close(server);

    client = tcp();
    bind(client, &at.any, at.len);
    int port = port_of(local_of(client));
    connect(client, &to.any, to.len);
    server = accept(fd, NULL, NULL);
    Address none = {.any = {.sa_family = AF_UNSPEC}, .len = sizeof none.any};
    VALUE("dissolving a bound one", connect(client, &none.any, none.len));
    say("dissolved", "%s and %s", text_of(local_of(client)), text_of(peer_of(client)));
    say("its port", "%s", port_of(local_of(client)) == port ? "stays" : "is gone");
    VALUE("connecting it again", connect(client, &to.any, to.len));
    say("its port then", "%s", port_of(local_of(client)) == port ? "stays" : "is another");
    close(server);
    close(client);
    close(fd);

    client = tcp();
    bind(client, &at.any, at.len);
    port = port_of(local_of(client));
    VALUE("a bound one, refused", connect(client, &to.any, to.len));
    say("refused", "%s and %s", text_of(local_of(client)), text_of(peer_of(client)));
    say("its port after that", "%s", port_of(local_of(client)) == port ? "stays" : "is gone");
    VALUE("a bound one, refused again", connect(client, &to.any, to.len));
    close(client);
    client = tcp();
    VALUE("a free one, refused", connect(client, &to.any, to.len));
    say("a free one then", "%s and %s", text_of(local_of(client)), text_of(peer_of(client)));
    VALUE("binding it then", bind(client, &at.any, at.len));
    VALUE("listening then", listen(client, 5));
    close(client);
}

static void chosen(void)
{
    group("ports that bind chooses");
    int listening = listener(), refused = 0;
    Address to = local_of(listening), at = any(0);
    for (int i = 0; i < 1500; i++) {
        int fd = tcp();
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        bind(fd, &at.any, at.len);
        refused += connect(fd, &to.any, to.len) != 0;
        close(fd);
        if (await(listening, POLLIN, SHORT))
            close(accept(listening, NULL, NULL));
    }
    VALUE("connections that failed", refused);
    close(listening);
}

static void lengths(void)
{
    group("lengths of names");
    Pair both = pair();
    static const int lengths[] = {0, 1, 2, 4, 16, 28, 128, 1000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char bytes[1000], name[100];
        socklen_t len = lengths[i];
        snprintf(name, sizeof name, "getsockname with %d", lengths[i]);
        int result = getsockname(both.client, (struct sockaddr *)bytes, &len);
        say(name, "%d, %d", result, (int)len);
        len = lengths[i];
        snprintf(name, sizeof name, "getpeername with %d", lengths[i]);
        result = getpeername(both.client, (struct sockaddr *)bytes, &len);
        say(name, "%d, %d", result, (int)len);
    }
    socklen_t len = -1;
    Address at;
    VALUE("getsockname with a negative one", getsockname(both.client, &at.any, &len));
    VALUE("getpeername with a negative one", getpeername(both.client, &at.any, &len));
    VALUE("getsockname without one", getsockname(both.client, &at.any, NULL));
    VALUE("getpeername without one", getpeername(both.client, &at.any, NULL));
    len = 16;
    VALUE("getsockname to null", getsockname(both.client, NULL, &len));
    VALUE("getpeername to null", getpeername(both.client, NULL, &len));
    close_pair(both);
    VALUE("getsockname of a closed one", getsockname(both.client, &at.any, &len));
    VALUE("getpeername of a closed one", getpeername(both.client, &at.any, &len));
    int pipes[2];
    pipe(pipes);
    VALUE("getsockname of a pipe", getsockname(pipes[0], &at.any, &len));
    VALUE("getpeername of a pipe", getpeername(pipes[0], &at.any, &len));
    close(pipes[0]);
    close(pipes[1]);
}

static void bind_again(const char *when, int reuse, Address at)
{
    for (int again = 0; again < 2; again++) {
        int fd = tcp();
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &again, sizeof again);
        char name[100];
        snprintf(name, sizeof name, "SO_REUSEADDR %d and %d, %s", reuse, again, when);
        VALUE(name, bind(fd, &at.any, at.len));
        snprintf(name, sizeof name, "listening with %d and %d, %s", reuse, again, when);
        VALUE(name, listen(fd, 5));
        close(fd);
    }
}

static void ports(void)
{
    group("ports that connections have");
    for (int reuse = 0; reuse < 2; reuse++) {
        int listening = tcp();
        setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
        Address at = loopback(0);
        bind(listening, &at.any, at.len);
        listen(listening, 5);
        at = local_of(listening);
        int client = tcp();
        connect(client, &at.any, at.len);
        Address of_client = local_of(client);
        int server = accept(listening, NULL, NULL);
        close(listening);
        bind_again("established", reuse, at);
        bind_again("the client's", reuse, of_client);
        int late = 1;
        setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &late, sizeof late);
        bind_again("set late", reuse, at);
        /* TIME-WAIT is the server's. */
        shutdown(server, SHUT_WR);
        await(client, POLLRDHUP, LONG);
        close(client);
        await(server, POLLHUP, LONG);
        close(server);
        usleep(SHORT * 1000);
        bind_again("in TIME-WAIT", reuse, at);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    shutdowns();
    ends();
    closes();
    resets();
    lingers();
    chosen();
    for (int i = 0; i < 2; i++) {
        use_family(i ? AF_INET6 : AF_INET);
        names();
        lengths();
        ports();
    }
    return 0;
}
