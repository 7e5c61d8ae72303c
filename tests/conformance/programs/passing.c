/* Descriptors in messages (SCM_RIGHTS): what travels, who holds it meanwhile, and what is cut off. */
#include "check.h"
#include <sys/syscall.h>
#include <sys/un.h>

#define MOST 64

static char text[1 << 12];

/* A message with descriptors, on its way out or in. */
typedef struct {
    struct iovec piece;
    char bytes[10];
    union {
        char room[CMSG_SPACE(MOST * sizeof(int))];
        struct cmsghdr align;
    };
    struct msghdr head;
} Message;

static void prepare(Message *message, const int *fds, int count)
{
    memset(message, 0, sizeof *message);
    message->piece = (struct iovec){message->bytes, 3};
    message->head = (struct msghdr){.msg_iov = &message->piece, .msg_iovlen = 1};
    if (count == 0)
        return;
    message->head.msg_control = message->room;
    message->head.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message->head);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
}

static void expect(Message *message, size_t room)
{
    memset(message, 0, sizeof *message);
    message->piece = (struct iovec){message->bytes, sizeof message->bytes};
    message->head = (struct msghdr){.msg_iov = &message->piece, .msg_iovlen = 1};
    if (room != 0)
        message->head.msg_control = message->room;
    message->head.msg_controllen = room;
}

/* The descriptors in a message that has come. */
static int descriptors(Message *message, int *fds)
{
    int count = 0;
    struct cmsghdr *at = CMSG_FIRSTHDR(&message->head);
    for (; at; at = CMSG_NXTHDR(&message->head, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        int here = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds + count, CMSG_DATA(at), here * sizeof(int));
        count += here;
    }
    return count;
}

static ssize_t give(int to, int fd)
{
    Message message;
    prepare(&message, &fd, 1);
    return sendmsg(to, &message.head, 0);
}

static int take(int from)
{
    Message message;
    int fds[MOST];
    expect(&message, sizeof message.room);
    if (recvmsg(from, &message.head, 0) < 0)
        return -1;
    return descriptors(&message, fds) == 1 ? fds[0] : -2;
}

/* Sends and takes back; the sender's own descriptor is closed. */
static int moved(int fd)
{
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    give(ends[0], fd);
    close(fd);
    int got = take(ends[1]);
    close(ends[0]);
    close(ends[1]);
    return got;
}

static void connections(void)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    static const char *const names[] = {"stream", "datagrams", "packets"};
    for (int i = 0; i < 3; i++) {
        group("a connection by %s", names[i]);
        int ends[2];
        socketpair(AF_UNIX, types[i], 0, ends);
        Pair both = pair();
        set_nonblocking(both.server, true);
        set_option(both.server, IPPROTO_TCP, TCP_NODELAY, 1);
        send(both.client, "before", 6, 0);
        await_bytes(both.server, 6);
        VALUE("sent", give(ends[0], both.server));
        close(both.server);
        say("on the way", "%s", seen_by(both.client));
        int got = take(ends[1]);
        OK("taken", got);
        say("names", "%s to %s", text_of(local_of(got)), text_of(peer_of(got)));
        VALUE("O_NONBLOCK", is_nonblocking(got));
        VALUE("FD_CLOEXEC", fcntl(got, F_GETFD));
        VALUE("TCP_NODELAY", option_of(got, IPPROTO_TCP, TCP_NODELAY));
        VALUE("what had come", recv(got, text, 100, 0));
        VALUE("send", send(got, "abc", 3, 0));
        VALUE("recv", recv(both.client, text, 100, 0));
        say("then", "%s", seen_by(both.client));
        close(got);
        say("once it is closed", "%s", seen_at_last_by(both.client));
        close(both.client);
        close(ends[0]);
        close(ends[1]);
    }

    group("other sockets");
    int fd = moved(tcp());
    Address at = loopback(0);
    VALUE("a fresh one, bind", bind(fd, &at.any, at.len));
    fd = moved(fd);
    say("a bound one, name", "%s", text_of(local_of(fd)));
    VALUE("a bound one, listen", listen(fd, 5));
    Address to = local_of(fd);
    int client = moved(tcp());
    VALUE("a fresh one, connect", connect(client, &to.any, to.len));
    int server = accept(fd, NULL, NULL);
    OK("accept", server);
    shutdown(client, SHUT_WR);
    await(server, POLLRDHUP, LONG);
    server = moved(server);
    VALUE("one whose peer has ended, recv", recv(server, text, 10, 0));
    VALUE("send", send(server, "abc", 3, 0));
    client = moved(client);
    VALUE("one that has ended, recv", recv(client, text, 10, 0));
    VALUE("its send", send(client, "abc", 3, MSG_NOSIGNAL));
    close(client);
    close(server);
    client = tcp();
    set_nonblocking(client, true);
    connect(client, &to.any, to.len);
    client = moved(client);
    say("one that connects", "%s", events_text(await(client, POLLOUT, LONG)));
    VALUE("its error", take_error(client));
    close(client);
    close(fd);
    fd = moved(reset_client());
    say("one that was reset", "%s", error_name(take_error(fd)));
    say("its events", "%s", events_text(await(fd, POLLIN | POLLOUT, 0)));
    close(fd);
}

static void states(void)
{
    group("what the copies share");
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    Pair both = pair();
    give(ends[0], both.server);
    int got = take(ends[1]);
    say("numbers", "%s", got == both.server ? "equal" : "different");
    set_nonblocking(got, true);
    VALUE("O_NONBLOCK", is_nonblocking(both.server));
    fcntl(got, F_SETFD, FD_CLOEXEC);
    VALUE("FD_CLOEXEC", fcntl(both.server, F_GETFD));
    set_option(both.server, SOL_SOCKET, SO_KEEPALIVE, 1);
    VALUE("SO_KEEPALIVE", option_of(got, SOL_SOCKET, SO_KEEPALIVE));
    send(both.client, "abcdef", 6, 0);
    await_bytes(got, 6);
    VALUE("recv of one", recv(got, text, 2, 0));
    VALUE("recv of the other", recv(both.server, text, 10, 0));
    close(both.server);
    say("one closed", "%s", seen_by(both.client));
    shutdown(got, SHUT_WR);
    say("the other shut down", "%s", seen_at_last_by(both.client));
    close(got);
    close(both.client);

    group("sent twice");
    both = pair();
    int two[2] = {both.server, both.server};
    Message message;
    prepare(&message, two, 2);
    VALUE("in one message", sendmsg(ends[0], &message.head, 0));
    give(ends[0], both.server);
    close(both.server);
    int fds[MOST];
    expect(&message, sizeof message.room);
    recvmsg(ends[1], &message.head, 0);
    VALUE("taken of the first", descriptors(&message, fds));
    fds[2] = take(ends[1]);
    for (int i = 0; i < 3; i++) {
        char name[20];
        snprintf(name, sizeof name, "number %d", i);
        VALUE(name, send(fds[i], "abc", 3, 0));
        close(fds[i]);
    }
    VALUE("what came", recv(both.client, text, 9, MSG_WAITALL));
    say("at last", "%s", seen_at_last_by(both.client));
    close(both.client);

    group("several in a message");
    Pair pairs[3];
    int sent[5];
    for (int i = 0; i < 3; i++) {
        pairs[i] = pair();
        sent[i] = pairs[i].server;
    }
    pipe(sent + 3);
    prepare(&message, sent, 5);
    VALUE("sent", sendmsg(ends[0], &message.head, 0));
    for (int i = 0; i < 5; i++)
        close(sent[i]);
    expect(&message, sizeof message.room);
    VALUE("taken", recvmsg(ends[1], &message.head, MSG_CMSG_CLOEXEC));
    VALUE("flags", message.head.msg_flags & ~MSG_CMSG_CLOEXEC);
    VALUE("descriptors", descriptors(&message, fds));
    for (int i = 0; i < 3; i++) {
        char name[20];
        snprintf(name, sizeof name, "number %d", i);
        VALUE(name, send(fds[i], "abc", 3, 0));
        snprintf(name, sizeof name, "peer %d", i);
        VALUE(name, recv(pairs[i].client, text, 10, 0));
        snprintf(name, sizeof name, "FD_CLOEXEC %d", i);
        VALUE(name, fcntl(fds[i], F_GETFD));
        close(fds[i]);
        snprintf(name, sizeof name, "end %d", i);
        say(name, "%s", seen_at_last_by(pairs[i].client));
        close(pairs[i].client);
    }
    VALUE("the pipe", write(fds[4], "x", 1));
    close(fds[3]);
    close(fds[4]);
    close(ends[0]);
    close(ends[1]);
}

static void cut(void)
{
    static const struct {
        const char *name;
        int kept;
    } rooms[] = {{"none", 0}, {"one", 1}, {"two", 2}};
    for (int i = 0; i < 3; i++) {
        group("three sent, room for %s", rooms[i].name);
        int ends[2], sent[3], fds[MOST];
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
        Pair pairs[3];
        for (int k = 0; k < 3; k++) {
            pairs[k] = pair();
            sent[k] = pairs[k].server;
        }
        Message message;
        prepare(&message, sent, 3);
        sendmsg(ends[0], &message.head, 0);
        for (int k = 0; k < 3; k++)
            close(sent[k]);
        expect(&message, rooms[i].kept ? CMSG_LEN(rooms[i].kept * sizeof(int)) : 0);
        VALUE("recvmsg", recvmsg(ends[1], &message.head, 0));
        say("flags", "%s", message.head.msg_flags & MSG_CTRUNC ? "MSG_CTRUNC" : "none");
        int count = descriptors(&message, fds);
        VALUE("descriptors", count);
        for (int k = 0; k < 3; k++) {
            char name[20];
            snprintf(name, sizeof name, "number %d", k);
            say(name, "%s", k < count ? seen_by(pairs[k].client) : seen_at_last_by(pairs[k].client));
            close(pairs[k].client);
        }
        for (int k = 0; k < count; k++)
            close(fds[k]);
        close(ends[0]);
        close(ends[1]);
    }

    static const char *const readers[] = {"recv", "read", "recvmsg", "readv"};
    for (int i = 0; i < 4; i++) {
        group("taken by %s without control data", readers[i]);
        int ends[2];
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
        Pair both = pair();
        give(ends[0], both.server);
        close(both.server);
        Message message;
        expect(&message, 0);
        ssize_t n = -1;
        switch (i) {
        case 0: n = recv(ends[1], text, 10, 0); break;
        case 1: n = read(ends[1], text, 10); break;
        case 2: n = recvmsg(ends[1], &message.head, 0); break;
        case 3: n = readv(ends[1], &message.piece, 1); break;
        }
        VALUE("bytes", n);
        say("the connection", "%s", seen_at_last_by(both.client));
        close(both.client);
        close(ends[0]);
        close(ends[1]);
    }
}

static void peeks(void)
{
    group("MSG_PEEK");
    int ends[2], fds[MOST];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    Pair both = pair();
    give(ends[0], both.server);
    close(both.server);
    Message message;
    expect(&message, sizeof message.room);
    VALUE("bytes", recvmsg(ends[1], &message.head, MSG_PEEK));
    VALUE("descriptors", descriptors(&message, fds));
    VALUE("one of it, used", send(fds[0], "abc", 3, 0));
    close(fds[0]);
    say("one of it, closed", "%s", seen_by(both.client));
    expect(&message, sizeof message.room);
    VALUE("bytes for good", recvmsg(ends[1], &message.head, 0));
    VALUE("descriptors for good", descriptors(&message, fds));
    VALUE("used", send(fds[0], "def", 3, 0));
    close(fds[0]);
    say("at last", "%s", seen_at_last_by(both.client));
    close(both.client);
    close(ends[0]);
    close(ends[1]);
}

static void flights(void)
{
    group("in flight");
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    Pair both = pair();
    give(ends[0], both.server);
    close(both.server);
    close(ends[0]);
    say("the sender's end closed", "%s", seen_by(both.client));
    close(ends[1]);
    say("both ends closed", "%s", seen_at_last_by(both.client));
    close(both.client);

    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    both = pair();
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 3);
    give(ends[0], both.server);
    close(both.server);
    close(ends[1]);
    close(ends[0]);
    say("with unread data, both ends closed", "%s", seen_at_last_by(both.client));
    close(both.client);

    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    int listening = listener();
    Address to = local_of(listening);
    give(ends[0], listening);
    close(listening);
    int client = tcp();
    VALUE("connecting to a listener", connect(client, &to.any, to.len));
    close(ends[0]);
    close(ends[1]);
    say("once it is lost", "%s", seen_at_last_by(client));
    close(client);

    group("messages that are not sent");
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    both = pair();
    Message message;
    int two[2] = {both.server, 999};
    prepare(&message, two, 2);
    VALUE("with a closed descriptor", sendmsg(ends[0], &message.head, 0));
    close(ends[1]);
    prepare(&message, two, 1);
    VALUE("to nobody", sendmsg(ends[0], &message.head, MSG_NOSIGNAL));
    VALUE("the connection's recv", recv(both.server, text, 10, MSG_DONTWAIT));
    VALUE("its send", send(both.server, "abc", 3, 0));
    set_nonblocking(both.server, true);
    VALUE("its O_NONBLOCK", is_nonblocking(both.server));
    VALUE("over TCP", sendmsg(both.client, &message.head, 0));
    await_bytes(both.server, 3);
    close(both.server);
    say("its end", "%s", seen_at_last_by(both.client));
    close(both.client);
    close(ends[0]);
}

static void batches(void)
{
    group("sendmmsg and recvmmsg");
    int ends[2], fds[MOST];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, ends);
    Pair pairs[2] = {pair(), pair()};
    Message out[2], in[3];
    struct mmsghdr sent[2] = {0}, taken[3] = {0};
    for (int i = 0; i < 2; i++) {
        prepare(&out[i], &pairs[i].server, 1);
        sent[i].msg_hdr = out[i].head;
    }
    VALUE("sent", sendmmsg(ends[0], sent, 2, 0));
    close(pairs[0].server);
    close(pairs[1].server);
    for (int i = 0; i < 3; i++) {
        expect(&in[i], sizeof in[i].room);
        taken[i].msg_hdr = in[i].head;
    }
    VALUE("taken", recvmmsg(ends[1], taken, 3, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL));
    for (int i = 0; i < 2; i++) {
        char name[20];
        in[i].head = taken[i].msg_hdr;
        snprintf(name, sizeof name, "descriptors %d", i);
        VALUE(name, descriptors(&in[i], fds));
        snprintf(name, sizeof name, "FD_CLOEXEC %d", i);
        VALUE(name, fcntl(fds[0], F_GETFD));
        snprintf(name, sizeof name, "send %d", i);
        VALUE(name, send(fds[0], "abc", 3, 0));
        close(fds[0]);
        snprintf(name, sizeof name, "end %d", i);
        say(name, "%s", seen_at_last_by(pairs[i].client));
        close(pairs[i].client);
    }
    close(ends[0]);
    close(ends[1]);
}

static void processes(void)
{
    group("to a child that was there before");
    int ends[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    pid_t child = branch();
    if (child == 0) {
        close(ends[0]);
        int fd = take(ends[1]);
        send(fd, "from the child", 14, 0);
        recv(fd, text, 10, 0);
        _exit(0);
    }
    close(ends[1]);
    Pair both = pair();
    VALUE("sent", give(ends[0], both.server));
    close(both.server);
    VALUE("what it says", recv(both.client, text, 100, 0));
    say("while it lives", "%s", seen_by(both.client));
    send(both.client, "end", 3, 0);
    say("it", "%s", end_of(child));
    say("then", "%s", seen_at_last_by(both.client));
    close(both.client);
    close(ends[0]);

    static const char *const whats[] = {"an accepted", "a connected", "a listening"};
    for (int what = 0; what < 3; what++) {
        group("from a child that is gone, %s one", whats[what]);
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
        int listening = listener();
        Address to = local_of(listening);
        child = branch();
        if (child == 0) {
            int fd = -1;
            switch (what) {
            case 0: fd = accept(listening, NULL, NULL); break;
            case 1:
                fd = tcp();
                connect(fd, &to.any, to.len);
                break;
            case 2: fd = listener(); break;
            }
            give(ends[0], fd);
            _exit(0);
        }
        int other = what == 0 ? tcp() : -1;
        if (what == 0)
            connect(other, &to.any, to.len);
        say("it", "%s", end_of(child));
        int got = take(ends[1]);
        OK("taken", got);
        if (what == 1)
            other = accept(listening, NULL, NULL);
        if (what == 2) {
            to = local_of(got);
            other = tcp();
            VALUE("connect", connect(other, &to.any, to.len));
            int fd = accept(got, NULL, NULL);
            close(got);
            got = fd;
        }
        say("names", "%s to %s", text_of(local_of(got)), text_of(peer_of(got)));
        VALUE("send", send(got, "abc", 3, 0));
        VALUE("recv", recv(other, text, 10, 0));
        close(got);
        say("at last", "%s", seen_at_last_by(other));
        close(other);
        close(listening);
        close(ends[0]);
        close(ends[1]);
    }

    group("a receiver that is killed before it takes it");
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    child = branch();
    if (child == 0) {
        close(ends[0]);
        pause();
    }
    close(ends[1]);
    both = pair();
    give(ends[0], both.server);
    close(both.server);
    say("before", "%s", seen_by(both.client));
    kill(child, SIGKILL);
    end_of(child);
    say("then", "%s", seen_at_last_by(both.client));
    close(both.client);
    close(ends[0]);

    group("a receiver that forks");
    both = pair();
    int got = moved(both.server);
    child = branch();
    if (child == 0) {
        close(both.client);
        send(got, "abc", 3, 0);
        recv(got, text, 10, 0);
        _exit(0);
    }
    close(got);
    VALUE("its child says", recv(both.client, text, 10, 0));
    say("while it lives", "%s", seen_by(both.client));
    send(both.client, "end", 3, 0);
    end_of(child);
    say("then", "%s", seen_at_last_by(both.client));
    close(both.client);

    group("through many hands");
    both = pair();
    got = both.server;
    for (int i = 0; i < 10; i++)
        got = moved(got);
    VALUE("send", send(got, "abc", 3, 0));
    VALUE("recv", recv(both.client, text, 10, 0));
    close(got);
    say("at last", "%s", seen_at_last_by(both.client));
    close(both.client);

    group("a listener");
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    child = branch();
    if (child == 0) {
        close(ends[0]);
        int listening = take(ends[1]);
        for (int i = 0; i < 3; i++) {
            int fd = accept(listening, NULL, NULL);
            send(fd, "served", 6, 0);
            close(fd);
        }
        _exit(0);
    }
    close(ends[1]);
    int listening = listener();
    Address to = local_of(listening);
    give(ends[0], listening);
    close(listening);
    for (int i = 0; i < 3; i++) {
        char name[20];
        int fd = tcp();
        snprintf(name, sizeof name, "connection %d", i);
        VALUE(name, connect(fd, &to.any, to.len));
        snprintf(name, sizeof name, "answer %d", i);
        VALUE(name, recv(fd, text, 10, 0));
        close(fd);
    }
    say("its holder", "%s", end_of(child));
    int fd = tcp();
    usleep(SHORT * 1000);
    VALUE("connecting at last", connect(fd, &to.any, to.len));
    close(fd);
    close(ends[0]);

    group("pidfd_getfd");
    both = pair();
    int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
    OK("of a connection", syscall(SYS_pidfd_getfd, pidfd, both.client, 0));
    VALUE("the connection then", send(both.client, "abc", 3, 0));
    close_pair(both);
    close(pidfd);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    connections();
    states();
    cut();
    peeks();
    flights();
    batches();
    processes();
    return 0;
}
