/* Calls that wait: time limits, signals with and without SA_RESTART, SIGPIPE, cancellation. */
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/time.h>

static char text[100000];
static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    (void)number;
    caught++;
}

static void catch_signal(int number, int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigaction(number, &action, NULL);
    caught = 0;
}

static void set_timeout(int fd, int which, int ms)
{
    struct timeval time = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, which, &time, sizeof time);
}

static void say_timed(const char *name, const char *result, long long start, int least)
{
    long long took = milliseconds() - start;
    say(name, "%s, %s", result,
        took < least ? "too soon" : took > least + 3000 ? "too late" : "in time");
}

static void fill(int fd)
{
    set_nonblocking(fd, true);
    for (int refused = 0; refused < 10;) {
        if (send(fd, text, sizeof text, MSG_NOSIGNAL) < 0) {
            refused++;
            usleep(SHORT * 1000);
        } else {
            refused = 0;
        }
    }
    set_nonblocking(fd, false);
}

static void timeouts(void)
{
    group("SO_RCVTIMEO and SO_SNDTIMEO");
    Pair both = pair();
    set_timeout(both.client, SO_RCVTIMEO, 80);
    long long start = milliseconds();
    say_timed("recv", outcome(recv(both.client, text, 1, 0)), start, 80);
    start = milliseconds();
    say_timed("read", outcome(read(both.client, text, 1)), start, 80);
    start = milliseconds();
    say_timed("peek", outcome(recv(both.client, text, 1, MSG_PEEK)), start, 80);
    send(both.server, "abc", 3, 0);
    await_bytes(both.client, 3);
    start = milliseconds();
    say_timed("recv of all of more", outcome(recv(both.client, text, 10, MSG_WAITALL)), start, 80);
    struct iovec piece = {text, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    start = milliseconds();
    say_timed("recvmsg", outcome(recvmsg(both.client, &message, 0)), start, 80);
    set_timeout(both.client, SO_RCVTIMEO, 0);
    fill(both.client);
    set_timeout(both.client, SO_SNDTIMEO, 80);
    start = milliseconds();
    say_timed("send", outcome(send(both.client, text, 1000, 0)), start, 80);
    start = milliseconds();
    say_timed("write", outcome(write(both.client, text, 1000)), start, 80);
    close_pair(both);
    int listening = listener();
    set_timeout(listening, SO_RCVTIMEO, 80);
    start = milliseconds();
    say_timed("accept", outcome(accept(listening, NULL, NULL)), start, 80);
    close(listening);
}

static void interrupted(const char *name, int flags)
{
    group("%s", name);
    catch_signal(SIGALRM, flags);
    /* Several, in case the first comes before the call waits. */
    struct itimerval soon = {{0, 40000}, {0, 40000}}, never = {0};
    Pair both = pair();
    int listening = listener(), set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, both.server, &event);
    struct pollfd one = {both.server, POLLIN, 0};
    struct timespec time = {.tv_nsec = 300000000};
    if (!flags) {
        setitimer(ITIMER_REAL, &soon, NULL);
        VALUE("recv", recv(both.client, text, 1, 0));
        VALUE("accept", accept(listening, NULL, NULL));
        VALUE("recv of all", (send(both.server, "ab", 2, 0), recv(both.client, text, 5, MSG_WAITALL)));
    } else {
        /* Restarted calls end by their own limit, and limited calls are not restarted. */
        set_timeout(both.client, SO_RCVTIMEO, 300);
        set_timeout(listening, SO_RCVTIMEO, 300);
        setitimer(ITIMER_REAL, &soon, NULL);
        VALUE("recv with a limit", recv(both.client, text, 1, 0));
        VALUE("accept with a limit", accept(listening, NULL, NULL));
    }
    VALUE("poll", poll(&one, 1, 1000));
    VALUE("ppoll", ppoll(&one, 1, &time, NULL));
    VALUE("epoll_wait", epoll_wait(set, &event, 1, 1000));
    fd_set in;
    FD_ZERO(&in);
    FD_SET(both.server, &in);
    struct timeval second = {.tv_sec = 1};
    VALUE("select", select(both.server + 1, &in, NULL, NULL, &second));
    setitimer(ITIMER_REAL, &never, NULL);
    say("the handler", "%s", caught ? "ran" : "did not run");
    fill(both.client);
    set_timeout(both.client, SO_SNDTIMEO, flags ? 300 : 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    VALUE("send", send(both.client, text, sizeof text, 0) < 0 ? -1 : 1);
    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_DFL);
    close(set);
    close(listening);
    close_pair(both);
}

static pthread_t main_thread;

static void *send_later(void *fd)
{
    usleep(30000);
    pthread_kill(main_thread, SIGUSR1);
    usleep(60000);
    send(*(int *)fd, "late", 4, 0);
    return NULL;
}

static void restarted(void)
{
    group("restarted calls");
    Pair both = pair();
    pthread_t thread;
    main_thread = pthread_self();
    catch_signal(SIGUSR1, SA_RESTART);
    pthread_create(&thread, NULL, send_later, &both.server);
    VALUE("recv with SA_RESTART", recv(both.client, text, 10, 0));
    say("the handler", "ran %d times", (int)caught);
    pthread_join(thread, NULL);
    catch_signal(SIGUSR1, 0);
    pthread_create(&thread, NULL, send_later, &both.server);
    VALUE("recv without", recv(both.client, text, 10, 0));
    pthread_join(thread, NULL);
    VALUE("recv afterwards", recv(both.client, text, 10, 0));
    signal(SIGUSR1, SIG_IGN);
    pthread_create(&thread, NULL, send_later, &both.server);
    VALUE("recv, the signal ignored", recv(both.client, text, 10, 0));
    pthread_join(thread, NULL);
    close_pair(both);
}

static void broken(void)
{
    group("SIGPIPE");
    catch_signal(SIGPIPE, 0);
    Pair both = pair();
    shutdown(both.client, SHUT_WR);
    VALUE("send", send(both.client, "x", 1, 0));
    say("the handler after send", "ran %d times", (int)caught);
    VALUE("write", write(both.client, "x", 1));
    say("the handler after write", "ran %d times", (int)caught);
    VALUE("send with MSG_NOSIGNAL", send(both.client, "x", 1, MSG_NOSIGNAL));
    struct iovec piece = {"x", 1};
    VALUE("writev", writev(both.client, &piece, 1));
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    VALUE("sendmsg", sendmsg(both.client, &message, 0));
    say("the handler after all", "ran %d times", (int)caught);
    VALUE("send of nothing", send(both.client, "x", 0, 0));
    say("the handler then", "ran %d times", (int)caught);
    close_pair(both);
    int fd = tcp();
    VALUE("send of a fresh one", send(fd, "x", 1, 0));
    say("the handler at last", "ran %d times", (int)caught);
    close(fd);
    fd = reset_client();
    VALUE("send of a reset one", send(fd, "x", 1, 0));
    say("the handler after a reset", "ran %d times", (int)caught);
    VALUE("send of a reset one, again", send(fd, "x", 1, 0));
    say("the handler after that", "ran %d times", (int)caught);
    close(fd);
    signal(SIGPIPE, SIG_IGN);
}

struct task {
    int fd;
    int call;
    ssize_t result;
    int cleaned;
};

static void clean(void *argument)
{
    ((struct task *)argument)->cleaned++;
}

static void *blocked(void *argument)
{
    struct task *task = argument;
    struct pollfd one = {task->fd, POLLIN, 0};
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(0);
    epoll_ctl(set, EPOLL_CTL_ADD, task->fd, &event);
    fd_set read_set;
    FD_ZERO(&read_set);
    FD_SET(task->fd, &read_set);
    pthread_cleanup_push(clean, task);
    switch (task->call) {
    case 0: recv(task->fd, text, 1, 0); break;
    case 1: accept(task->fd, NULL, NULL); break;
    case 2: poll(&one, 1, -1); break;
    case 3: epoll_wait(set, &event, 1, -1); break;
    case 4: read(task->fd, text, 1); break;
    case 5: select(task->fd + 1, &read_set, NULL, NULL, NULL); break;
    case 6: while (send(task->fd, text, sizeof text, MSG_NOSIGNAL) > 0); break;
    case 7:
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        task->result = recv(task->fd, text, 1, 0);
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        task->result += recv(task->fd, text, 1, 0);
    }
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(void)
{
    group("cancellation");
    static const char *const calls[] = {"recv", "accept", "poll", "epoll_wait", "read",
                                        "select", "send"};
    for (int call = 0; call < 7; call++) {
        Pair both = pair();
        int listening = listener();
        struct task task = {.fd = call == 1 ? listening : both.client, .call = call};
        pthread_t thread;
        void *result = NULL;
        pthread_create(&thread, NULL, blocked, &task);
        usleep(50000);
        pthread_cancel(thread);
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += 3;
        bool ended = pthread_timedjoin_np(thread, &result, &end) == 0;
        say(calls[call], "%s", ended && result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
        char handlers[50];
        snprintf(handlers, sizeof handlers, "handlers of %s", calls[call]);
        say(handlers, "%d", task.cleaned);
        send(both.server, "xy", 2, 0);
        Address to = local_of(listening);
        int other = tcp();
        connect(other, &to.any, to.len);
        if (!ended)
            pthread_join(thread, &result);
        char name[50];
        snprintf(name, sizeof name, "the socket after %s", calls[call]);
        await(both.client, POLLIN, LONG);
        OK(name, recv(both.client, text, 5, 0));
        close(other);
        close(listening);
        close_pair(both);
    }
    Pair both = pair();
    struct task task = {.fd = both.client, .call = 7};
    pthread_t thread;
    void *result = NULL;
    pthread_create(&thread, NULL, blocked, &task);
    usleep(50000);
    pthread_cancel(thread);
    usleep(50000);
    send(both.server, "xy", 2, 0);
    pthread_join(thread, &result);
    say("not until it is enabled", "%s", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
    VALUE("bytes until then", task.result);
    VALUE("handlers then", task.cleaned);
    VALUE("bytes left", recv(both.client, text, 5, MSG_DONTWAIT));
    close_pair(both);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    timeouts();
    interrupted("interrupted calls", 0);
    interrupted("interrupted calls, SA_RESTART", SA_RESTART);
    restarted();
    broken();
    cancelled();
    return 0;
}
