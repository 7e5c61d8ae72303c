/* send, recv and their kin: flags, vectors, messages, urgent data, calls on what is not connected. */
#include "check.h"
#include <linux/sockios.h>

static char text[4096];

static void unconnected(void)
{
    static const char *const states[] = {"fresh", "listening", "reset", "ended"};
    for (int state = 0; state < 4; state++) {
        group("%s", states[state]);
        int other = -1, fd = state == 0 ? tcp() : state == 1 ? listener() : -1;
        if (state == 2) {
            fd = reset_client();
        } else if (state == 3) {
            Pair both = pair();
            close(both.server);
            await(both.client, POLLRDHUP, LONG);
            fd = both.client;
        }
        VALUE("recv", recv(fd, text, 10, MSG_DONTWAIT));
        VALUE("recv again", recv(fd, text, 10, MSG_DONTWAIT));
        VALUE("read", read(fd, text, 10));
        VALUE("peek", recv(fd, text, 10, MSG_PEEK));
        VALUE("recv of nothing", recv(fd, text, 0, MSG_DONTWAIT));
        VALUE("out-of-band recv", recv(fd, text, 1, MSG_OOB));
        VALUE("error queue", recv(fd, text, 1, MSG_ERRQUEUE));
        if (state != 3) {
            VALUE("send", send(fd, "x", 1, MSG_NOSIGNAL));
            VALUE("send of nothing", send(fd, "x", 0, MSG_NOSIGNAL));
            VALUE("write", write(fd, "x", 1));
            VALUE("out-of-band send", send(fd, "x", 1, MSG_OOB));
            struct iovec piece = {"x", 1};
            VALUE("writev", writev(fd, &piece, 1));
            struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
            VALUE("sendmsg", sendmsg(fd, &message, 0));
            VALUE("recvmsg", recvmsg(fd, &message, MSG_DONTWAIT));
        }
        VALUE("bytes to read", pending(fd));
        close(fd);
        close(other);
    }
    group("no socket");
    int ends[2];
    pipe(ends);
    VALUE("send", send(ends[1], "x", 1, 0));
    VALUE("recv", recv(ends[0], text, 1, 0));
    struct msghdr message = {0};
    VALUE("sendmsg", sendmsg(ends[1], &message, 0));
    VALUE("recvmsg", recvmsg(ends[0], &message, 0));
    close(ends[0]);
    close(ends[1]);
    VALUE("send of a closed one", send(ends[1], "x", 1, 0));
    VALUE("recv of a closed one", recv(ends[1], text, 1, 0));
    VALUE("sendto of a closed one", sendto(ends[1], "x", 1, 0, NULL, 0));
    VALUE("recvmmsg of a closed one", recvmmsg(ends[1], NULL, 0, 0, NULL));
    VALUE("sendmmsg of a closed one", sendmmsg(ends[1], NULL, 0, 0));
}

static void flags(void)
{
    group("flags");
    Pair both = pair();
    int a = both.client, b = both.server;
    VALUE("recv of an empty stream", recv(b, text, 10, MSG_DONTWAIT));
    VALUE("peek at an empty stream", recv(b, text, 10, MSG_DONTWAIT | MSG_PEEK));
    VALUE("recv of nothing from an empty stream", recv(b, text, 0, MSG_DONTWAIT));
    VALUE("send", send(a, "0123456789", 10, 0));
    await_bytes(b, 10);
    VALUE("recv of nothing", recv(b, text, 0, 0));
    VALUE("peek", recv(b, text, 4, MSG_PEEK));
    say("what was peeked", "%.4s", text);
    VALUE("peek again", recv(b, text, 20, MSG_PEEK));
    VALUE("peek for all of more", recv(b, text, 20, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT));
    VALUE("discarding peek", recv(b, text, 5, MSG_PEEK | MSG_TRUNC));
    VALUE("discarding recv", recv(b, NULL, 3, MSG_TRUNC));
    VALUE("recv", recv(b, text, 2, 0));
    say("what was received", "%.2s", text);
    VALUE("all of what is there", recv(b, text, 5, MSG_WAITALL));
    say("what that was", "%.5s", text);
    VALUE("all at once, not waiting", recv(b, text, 5, MSG_WAITALL | MSG_DONTWAIT));
    static const struct {
        const char *name;
        int flag;
    } harmless[] = {{"MSG_DONTROUTE", MSG_DONTROUTE}, {"MSG_CONFIRM", MSG_CONFIRM},
                    {"MSG_EOR", MSG_EOR},             {"MSG_MORE", MSG_MORE},
                    {"MSG_DONTWAIT", MSG_DONTWAIT},   {"MSG_PROXY", MSG_PROXY},
                    {"MSG_FIN", MSG_FIN},             {"MSG_SYN", MSG_SYN},
                    {"MSG_ZEROCOPY", MSG_ZEROCOPY},   {"MSG_BATCH", MSG_BATCH},
                    {"MSG_PEEK", MSG_PEEK},           {"bit 24", 1 << 24},
                    {"MSG_TRUNC", MSG_TRUNC},         {"MSG_WAITALL", MSG_WAITALL}};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        char name[100];
        snprintf(name, sizeof name, "send with %s", harmless[i].name);
        VALUE(name, send(a, "y", 1, harmless[i].flag));
        send(a, "z", 1, 0);
        snprintf(name, sizeof name, "what came of %s", harmless[i].name);
        await_bytes(b, 2);
        VALUE(name, recv(b, text, 10, MSG_DONTWAIT));
    }
    send(a, "abc", 3, 0);
    await_bytes(b, 3);
    VALUE("recv with MSG_CMSG_CLOEXEC", recv(b, text, 1, MSG_CMSG_CLOEXEC));
    VALUE("recv with an unknown flag", recv(b, text, 1, 1 << 24));
    VALUE("recv with MSG_WAITFORONE", recv(b, text, 1, MSG_WAITFORONE));
    VALUE("recv to null", recv(b, NULL, 5, MSG_DONTWAIT));
    send(a, "abc", 3, 0);
    await_bytes(b, 3);
    VALUE("recv of data to null", recv(b, NULL, 5, MSG_DONTWAIT));
    VALUE("the data afterwards", recv(b, text, 5, MSG_DONTWAIT));
    VALUE("send from null", send(a, NULL, 5, 0));
    VALUE("send of nothing from null", send(a, NULL, 0, 0));
    VALUE("read to null", read(b, NULL, 0));
    VALUE("write from null", write(a, NULL, 3));
    VALUE("write of nothing", write(a, "", 0));
    send(a, "last", 4, 0);
    shutdown(a, SHUT_WR);
    VALUE("all, before the end", recv(b, text, 100, MSG_WAITALL));
    VALUE("the end", recv(b, text, 100, MSG_WAITALL));
    VALUE("the end, peeked", recv(b, text, 100, MSG_PEEK));
    VALUE("the end, not waiting", recv(b, text, 100, MSG_DONTWAIT));
    close_pair(both);
}

static void addresses(void)
{
    group("sendto and recvfrom");
    Pair both = pair();
    Address to = loopback(9), from = {.len = sizeof from.storage};
    VALUE("with an address", sendto(both.client, "x", 1, 0, &to.any, to.len));
    VALUE("with a short address", sendto(both.client, "x", 1, 0, &to.any, 1));
    VALUE("with a null address and a length", sendto(both.client, "x", 1, 0, NULL, 16));
    VALUE("with an address of 1000 bytes", sendto(both.client, "x", 1, 0, &to.any, 1000));
    VALUE("to an address of negative length", sendto(both.client, "x", 1, 0, &to.any, (socklen_t)-1));
    await_bytes(both.server, 3);
    VALUE("recvfrom", recvfrom(both.server, text, 1, 0, &from.any, &from.len));
    say("its length", "%d", (int)from.len);
    VALUE("recvfrom without a length", recvfrom(both.server, text, 1, 0, &from.any, NULL));
    socklen_t negative = (socklen_t)-1;
    VALUE("with a negative length", recvfrom(both.server, text, 1, 0, &from.any, &negative));
    say("its length then", "%d", (int)negative);
    close_pair(both);
    int fd = tcp();
    VALUE("of a fresh socket with an address", sendto(fd, "x", 1, MSG_NOSIGNAL, &to.any, to.len));
    close(fd);
}

static void vectors(void)
{
    group("vectors");
    Pair both = pair();
    int a = both.client, b = both.server;
    struct iovec out[4] = {{"ab", 2}, {"", 0}, {"cde", 3}, {NULL, 0}};
    VALUE("writev", writev(a, out, 4));
    VALUE("writev of none", writev(a, out, 0));
    VALUE("writev of a negative number", writev(a, out, -1));
    VALUE("writev of 1025", writev(a, out, 1025));
    VALUE("writev from null", writev(a, NULL, 1));
    char first[3], second[10];
    struct iovec in[3] = {{first, 3}, {second, 0}, {second, 10}};
    await_bytes(b, 5);
    VALUE("readv", readv(b, in, 3));
    say("its pieces", "%.3s %.2s", first, second);
    VALUE("readv of none", readv(b, in, 0));
    VALUE("readv of a negative number", readv(b, in, -1));
    VALUE("readv of 1025", readv(b, in, 1025));
    struct iovec negative = {first, (size_t)-1};
    VALUE("readv of a negative length", readv(b, &negative, 1));
    VALUE("writev of a negative length", writev(a, &negative, 1));
    static struct iovec many[1024];
    for (int i = 0; i < 1024; i++)
        many[i] = (struct iovec){"m", 1};
    VALUE("writev of 1024", writev(a, many, 1024));
    for (int i = 0; i < 1024; i++)
        many[i] = (struct iovec){text + i, 1};
    await_bytes(b, 1024);
    VALUE("readv of 1024", readv(b, many, 1024));
    struct iovec gap[2] = {{"x", 1}, {NULL, 5}};
    VALUE("writev with a hole", writev(a, gap, 2));
    set_nonblocking(b, true);
    VALUE("what came of it", recv(b, text, 10, 0));
    VALUE("preadv", preadv(b, in, 1, 0));
    VALUE("pwritev", pwritev(a, out, 1, 0));
    VALUE("pread", pread(b, text, 1, 0));
    VALUE("pwrite", pwrite(a, "x", 1, 0));
    VALUE("preadv2 at -1", preadv2(b, in, 1, -1, 0));
    VALUE("preadv2 at -1, not waiting", preadv2(b, in, 1, -1, RWF_NOWAIT));
    VALUE("preadv2 at 0", preadv2(b, in, 1, 0, 0));
    VALUE("preadv2 with unknown flags", preadv2(b, in, 1, -1, 0x40000000));
    VALUE("pwritev2 at -1", pwritev2(a, out, 1, -1, 0));
    VALUE("pwritev2 at -1, not waiting", pwritev2(a, out, 1, -1, RWF_NOWAIT));
    VALUE("pwritev2 appending", pwritev2(a, out, 1, -1, RWF_APPEND));
    VALUE("lseek", lseek(a, 0, SEEK_SET));
    close_pair(both);
}

static void messages(void)
{
    group("messages");
    Pair both = pair();
    int a = both.client, b = both.server;
    struct iovec out[2] = {{"hello ", 6}, {"world", 5}};
    struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
    VALUE("sendmsg", sendmsg(a, &message, 0));
    message.msg_iovlen = 0;
    VALUE("sendmsg of nothing", sendmsg(a, &message, 0));
    message.msg_iovlen = 1025;
    VALUE("sendmsg of 1025 pieces", sendmsg(a, &message, 0));
    VALUE("sendmsg of null", sendmsg(a, NULL, 0));
    await_bytes(b, 11);
    char control[100], name[100];
    struct iovec in = {text, 5};
    struct msghdr got = {.msg_iov = &in, .msg_iovlen = 1, .msg_name = name, .msg_namelen = 100,
                         .msg_control = control, .msg_controllen = sizeof control, .msg_flags = -1};
    VALUE("recvmsg", recvmsg(b, &got, 0));
    say("what it tells", "name %d, control %d, flags %x", (int)got.msg_namelen,
        (int)got.msg_controllen, got.msg_flags);
    got.msg_namelen = -1;
    VALUE("recvmsg with a negative name", recvmsg(b, &got, MSG_DONTWAIT));
    got.msg_namelen = 0;
    VALUE("recvmsg, peeking", recvmsg(b, &got, MSG_PEEK));
    say("its flags", "%x", got.msg_flags);
    VALUE("recvmsg, discarding", recvmsg(b, &got, MSG_TRUNC));
    say("its flags then", "%x", got.msg_flags);
    got.msg_iovlen = 0;
    VALUE("recvmsg of no pieces", recvmsg(b, &got, MSG_DONTWAIT));
    got.msg_iovlen = 1025;
    VALUE("recvmsg of 1025 pieces", recvmsg(b, &got, MSG_DONTWAIT));
    VALUE("recvmsg to null", recvmsg(b, NULL, 0));
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } rights = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
                           .cmsg_type = SCM_RIGHTS}};
    message = (struct msghdr){.msg_iov = out, .msg_iovlen = 1, .msg_control = &rights,
                              .msg_controllen = sizeof rights};
    VALUE("sendmsg with descriptors", sendmsg(a, &message, 0));
    rights.header.cmsg_level = 99;
    VALUE("sendmsg with unknown control", sendmsg(a, &message, 0));
    rights.header.cmsg_level = SOL_SOCKET;
    rights.header.cmsg_type = 99;
    VALUE("sendmsg with unknown control of sockets", sendmsg(a, &message, 0));
    rights.header.cmsg_len = 3;
    VALUE("sendmsg with short control", sendmsg(a, &message, 0));
    rights.header.cmsg_len = 1000;
    VALUE("sendmsg with control that is too long", sendmsg(a, &message, 0));
    close_pair(both);

    group("many messages");
    both = pair();
    a = both.client, b = both.server;
    struct iovec pieces[3] = {{"one", 3}, {"two", 3}, {"three", 5}};
    struct mmsghdr many[3] = {0};
    for (int i = 0; i < 3; i++)
        many[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    VALUE("sendmmsg", sendmmsg(a, many, 3, 0));
    say("its lengths", "%u %u %u", many[0].msg_len, many[1].msg_len, many[2].msg_len);
    VALUE("sendmmsg of none", sendmmsg(a, many, 0, 0));
    VALUE("sendmmsg of null", sendmmsg(a, NULL, 1, 0));
    await_bytes(b, 11);
    char rooms[3][4];
    for (int i = 0; i < 3; i++)
        pieces[i] = (struct iovec){rooms[i], 4};
    VALUE("recvmmsg", recvmmsg(b, many, 3, MSG_DONTWAIT, NULL));
    say("its lengths then", "%u %u %u", many[0].msg_len, many[1].msg_len, many[2].msg_len);
    VALUE("recvmmsg of an empty stream", recvmmsg(b, many, 3, MSG_DONTWAIT, NULL));
    VALUE("recvmmsg of none", recvmmsg(b, many, 0, MSG_DONTWAIT, NULL));
    send(a, "x", 1, 0);
    VALUE("recvmmsg for one", recvmmsg(b, many, 3, MSG_WAITFORONE, NULL));
    struct timespec bad = {.tv_nsec = 2000000000}, little = {.tv_nsec = 1000};
    VALUE("recvmmsg with a bad time", recvmmsg(b, many, 3, 0, &bad));
    send(a, "x", 1, 0);
    VALUE("recvmmsg with little time", recvmmsg(b, many, 1, 0, &little));
    shutdown(a, SHUT_WR);
    VALUE("recvmmsg at the end", recvmmsg(b, many, 2, 0, NULL));
    VALUE("sendmmsg after shutdown", sendmmsg(a, many, 2, MSG_NOSIGNAL));
    close_pair(both);
}

static void urgent(void)
{
    group("urgent data");
    Pair both = pair();
    int a = both.client, b = both.server, at_mark = -1;
    VALUE("none has come", recv(b, text, 1, MSG_OOB));
    VALUE("send", send(a, "abcU", 4, MSG_OOB));
    say("events", "%s", events_text(await(b, POLLPRI, LONG)));
    await_bytes(b, 3);
    VALUE("bytes to read", pending(b));
    VALUE("at the mark", ioctl(b, SIOCATMARK, &at_mark));
    say("whether", "%d", at_mark);
    VALUE("peek at it", recv(b, text, 1, MSG_OOB | MSG_PEEK));
    VALUE("recv", recv(b, text, 10, MSG_OOB));
    say("it is", "%c", text[0]);
    VALUE("recv again", recv(b, text, 1, MSG_OOB));
    VALUE("the bytes before", recv(b, text, 10, 0));
    ioctl(b, SIOCATMARK, &at_mark);
    say("whether at the mark then", "%d", at_mark);
    VALUE("sockatmark", sockatmark(b));
    send(a, "12", 2, 0);
    VALUE("the bytes behind", recv(b, text, 10, 0));
    ioctl(b, SIOCATMARK, &at_mark);
    say("whether at the mark at last", "%d", at_mark);
    set_option(b, SOL_SOCKET, SO_OOBINLINE, 1);
    send(a, "xyZ", 3, MSG_OOB);
    send(a, "w", 1, 0);
    await_bytes(b, 4);
    VALUE("in line, out of band", recv(b, text, 1, MSG_OOB));
    VALUE("in line, up to the mark", recv(b, text, 10, 0));
    VALUE("in line, from the mark on", recv(b, text, 10, 0));
    say("in line, it begins with", "%c", text[0]);
    close_pair(both);
}

static void buffers(void)
{
    group("full buffers");
    Pair both = pair();
    set_nonblocking(both.client, true);
    static char block[65536];
    long long sent = 0;
    ssize_t n;
    /* The receiver's buffer grows in steps: full is what stays full. */
    int refused = 0;
    while (refused < 10) {
        n = send(both.client, block, sizeof block, 0);
        sent += n > 0 ? n : 0;
        refused = n > 0 ? 0 : refused + 1;
        if (n <= 0)
            usleep(SHORT * 1000);
    }
    n = send(both.client, block, sizeof block, 0);
    say("send", "%s", outcome(n));
    VALUE("write", write(both.client, block, 1));
    say("events", "%s", events_text(await(both.client, POLLOUT | POLLIN, 0)));
    int unsent = -1;
    VALUE("SIOCOUTQ", ioctl(both.client, SIOCOUTQ, &unsent));
    say("it is", "%s", unsent > 0 && unsent <= sent ? "more than none" : "wrong");
    long long got = 0;
    set_nonblocking(both.server, true);
    while (got < sent && await(both.server, POLLIN, LONG) && (n = read(both.server, block, sizeof block)) > 0)
        got += n;
    say("all that was sent", "%s", got == sent ? "came" : "did not come");
    say("events then", "%s", events_text(await(both.client, POLLOUT, LONG)));
    close_pair(both);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    unconnected();
    flags();
    addresses();
    vectors();
    messages();
    urgent();
    buffers();
    return 0;
}
