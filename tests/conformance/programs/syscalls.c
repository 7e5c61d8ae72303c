/* The same calls made by syscall(2), and by the checked variants that a fortified program calls. */
#include "check.h"
#include <sched.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <linux/close_range.h>

static char text[200];

static void sockets(void)
{
    group("syscall");
    int fd = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    OK("socket", fd);
    Address at = loopback(0);
    VALUE("bind", syscall(SYS_bind, fd, &at.any, at.len));
    VALUE("listen", syscall(SYS_listen, fd, 5));
    Address name = {.len = sizeof name.storage};
    VALUE("getsockname", syscall(SYS_getsockname, fd, &name.any, &name.len));
    say("the name", "%s", text_of(name));
    int client = syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    VALUE("connect", syscall(SYS_connect, client, &name.any, name.len));
    int server = syscall(SYS_accept4, fd, NULL, NULL, SOCK_NONBLOCK);
    OK("accept4", server);
    VALUE("its flags", syscall(SYS_fcntl, server, F_GETFL));
    int second = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    syscall(SYS_connect, second, &name.any, name.len);
    int other = syscall(SYS_accept, fd, NULL, NULL);
    OK("accept", other);
    VALUE("close", syscall(SYS_close, other));
    VALUE("read of the end", syscall(SYS_read, second, text, 1));
    syscall(SYS_close, second);
    VALUE("getpeername", syscall(SYS_getpeername, client, &name.any, &name.len));
    int value = 1;
    VALUE("setsockopt", syscall(SYS_setsockopt, client, IPPROTO_TCP, TCP_NODELAY, &value, 4));
    socklen_t len = sizeof value;
    VALUE("getsockopt", syscall(SYS_getsockopt, client, IPPROTO_TCP, TCP_NODELAY, &value, &len));
    say("the option", "%d", value);
    VALUE("write", syscall(SYS_write, client, "abc", 3));
    struct iovec piece = {"def", 3}, room = {text, 5};
    VALUE("writev", syscall(SYS_writev, client, &piece, 1));
    VALUE("sendto", syscall(SYS_sendto, client, "ghi", 3, 0, NULL, 0));
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    VALUE("sendmsg", syscall(SYS_sendmsg, client, &message, 0));
    struct mmsghdr many = {.msg_hdr = message};
    VALUE("sendmmsg", syscall(SYS_sendmmsg, client, &many, 1, 0));
    VALUE("pwritev2", syscall(SYS_pwritev2, client, &piece, 1, -1, -1, 0));
    await_bytes(server, 18);
    VALUE("ioctl", syscall(SYS_ioctl, server, FIONREAD, &value));
    say("bytes to read", "%d", value);
    VALUE("read", syscall(SYS_read, server, text, 3));
    VALUE("recvfrom", syscall(SYS_recvfrom, server, text, 3, 0, NULL, NULL));
    VALUE("readv", syscall(SYS_readv, server, &room, 1));
    message.msg_iov = &room;
    VALUE("recvmsg", syscall(SYS_recvmsg, server, &message, 0));
    many.msg_hdr = message;
    VALUE("recvmmsg", syscall(SYS_recvmmsg, server, &many, 1, 0, NULL));
    VALUE("read of nothing", syscall(SYS_read, server, text, 3));
    VALUE("pread64", syscall(SYS_pread64, server, text, 3, 0));
    VALUE("lseek", syscall(SYS_lseek, server, 0, SEEK_CUR));
    struct pollfd one = {client, POLLIN | POLLOUT, 0};
    VALUE("poll", syscall(SYS_poll, &one, 1, 0));
    say("its events", "%s", events_text(one.revents));
    struct timespec none = {0};
    VALUE("ppoll", syscall(SYS_ppoll, &one, 1, &none, NULL, 8));
    fd_set out;
    FD_ZERO(&out);
    FD_SET(client, &out);
    struct timeval never = {0};
    VALUE("select", syscall(SYS_select, client + 1, NULL, &out, NULL, &never));
    FD_ZERO(&out);
    FD_SET(client, &out);
    VALUE("pselect6", syscall(SYS_pselect6, client + 1, NULL, &out, NULL, &none, NULL));
    int set = syscall(SYS_epoll_create1, 0);
    struct epoll_event event = {.events = EPOLLOUT}, got;
    VALUE("epoll_ctl", syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, client, &event));
    VALUE("epoll_wait", syscall(SYS_epoll_wait, set, &got, 1, 0));
    VALUE("epoll_pwait", syscall(SYS_epoll_pwait, set, &got, 1, 0, NULL, 8));
    VALUE("epoll_pwait2", syscall(SYS_epoll_pwait2, set, &got, 1, &none, NULL, 8));
    syscall(SYS_close, set);
    int copy = syscall(SYS_dup, client);
    VALUE("send through a dup", syscall(SYS_sendto, copy, "x", 1, 0, NULL, 0));
    VALUE("dup2", syscall(SYS_dup2, client, 150) == 150 ? 0 : -1);
    VALUE("dup3", syscall(SYS_dup3, client, 151, O_CLOEXEC) == 151 ? 0 : -1);
    VALUE("send through a dup3", syscall(SYS_sendto, 151, "x", 1, 0, NULL, 0));
    VALUE("close_range", syscall(SYS_close_range, 150, 151, 0));
    syscall(SYS_close, copy);
    VALUE("shutdown", syscall(SYS_shutdown, client, SHUT_WR));
    await(server, POLLRDHUP, LONG);
    VALUE("read of the rest", syscall(SYS_read, server, text, 10));
    VALUE("read of the end at last", syscall(SYS_read, server, text, 10));
    VALUE("close of the client", syscall(SYS_close, client));
    VALUE("close again", syscall(SYS_close, client));
    syscall(SYS_close, server);
    syscall(SYS_close, fd);
    VALUE("read of a closed one", syscall(SYS_read, client, text, 1));
}

static void fortified(void)
{
    group("fortified");
    Pair both = pair();
    /* Sizes that the compiler cannot know lead to the checked variants. */
    volatile size_t unknown = 10;
    size_t n = unknown;
    send(both.client, "0123456789012345678901234567890123456789", 40, 0);
    await_bytes(both.server, 40);
    char room[20];
    VALUE("read", read(both.server, room, n));
    VALUE("recv", recv(both.server, room, n, 0));
    Address from = {.len = sizeof from.storage};
    VALUE("recvfrom", recvfrom(both.server, room, n, 0, &from.any, &from.len));
    struct pollfd sets[2] = {{both.server, POLLIN, 0}};
    VALUE("poll", poll(sets, n - 9, 0));
    struct timespec none = {0};
    VALUE("ppoll", ppoll(sets, n - 9, &none, NULL));
    VALUE("pread", pread(both.server, room, n, 0));
    FILE *stream = fdopen(both.server, "r");
    VALUE("fread", fread(room, 1, n, stream));
    send(both.client, "a line\n", 7, 0);
    VALUE("fgets", fgets(room, n, stream) != NULL);
    VALUE("dprintf", dprintf(both.client, "%s", "text"));
    fclose(stream);
    close(both.client);
}

/* A child with memory of its own, but its parent's descriptors. */
static void apart(void)
{
    group("a child of clone with CLONE_FILES alone");
    Pair both = pair();
    pid_t child = syscall(SYS_clone, SIGCHLD | CLONE_FILES, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(0);
    say("it", "%s", end_of(child));
    VALUE("its parent sends", send(both.client, "a", 1, 0));
    VALUE("and receives", recv(both.server, text, sizeof text, 0));
    Pair another = pair();
    VALUE("and connects", send(another.client, "b", 1, 0));
    close_pair(another);
    close_pair(both);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    sockets();
    fortified();
    apart();
    return 0;
}
