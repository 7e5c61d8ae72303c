/* Threads: closing and replacing what another waits for, several readers, writers and acceptors. */
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static char text[1 << 16];

struct call {
    pthread_t thread;
    int fd, kind, error;
    long result;
    volatile int done;
};

enum { RECV, ACCEPT, POLL, EPOLL, SEND, CONNECT };

static void *run(void *argument)
{
    struct call *call = argument;
    char room[100];
    struct pollfd one = {call->fd, POLLIN, 0};
    struct epoll_event event;
    errno = 0;
    switch (call->kind) {
    case RECV: call->result = recv(call->fd, room, sizeof room, 0); break;
    case ACCEPT: call->result = accept(call->fd, NULL, NULL); break;
    case POLL: call->result = poll(&one, 1, 5000) == 1 ? one.revents : 0; break;
    case EPOLL: call->result = epoll_wait(call->fd, &event, 1, 5000); break;
    case SEND: call->result = send(call->fd, text, sizeof text, MSG_NOSIGNAL); break;
    }
    call->error = errno;
    call->done = 1;
    return NULL;
}

static void begin(struct call *call, int kind, int fd)
{
    *call = (struct call){.fd = fd, .kind = kind};
    pthread_create(&call->thread, NULL, run, call);
    usleep(SHORT * 1000);
}

/* The call's result, or that it still waits. */
static const char *result_of(struct call *call)
{
    for (int i = 0; i < 500 && !call->done; i++)
        usleep(1000);
    if (!call->done)
        return "waits";
    errno = call->error;
    return outcome(call->result);
}

static void *end(struct call *call)
{
    pthread_join(call->thread, NULL);
    return NULL;
}

static void shutdowns(void)
{
    group("shutdown while another thread waits");
    struct call call;
    Pair both = pair();
    begin(&call, RECV, both.client);
    shutdown(both.client, SHUT_RD);
    say("in recv", "%s", result_of(&call));
    end(&call);
    close_pair(both);
    int listening = listener();
    begin(&call, ACCEPT, listening);
    shutdown(listening, SHUT_RDWR);
    say("in accept", "%s", result_of(&call));
    end(&call);
    close(listening);
    both = pair();
    begin(&call, POLL, both.client);
    shutdown(both.client, SHUT_RDWR);
    result_of(&call);
    say("in poll", "%s", events_text(call.result));
    end(&call);
    close_pair(both);
}

static void closes(void)
{
    group("close while another thread waits");
    struct call call;
    Pair both = pair();
    begin(&call, RECV, both.client);
    int kept = dup(both.client);
    VALUE("close of a copy of it", close(both.client));
    say("in recv", "%s", result_of(&call));
    send(both.server, "x", 1, 0);
    say("in recv, then data", "%s", result_of(&call));
    end(&call);
    close(kept);
    close(both.server);

    both = pair();
    begin(&call, RECV, both.client);
    Pair other = pair();
    dup2(other.client, both.client);
    send(other.server, "for the new one", 15, 0);
    send(both.server, "for the old one", 15, 0);
    say("dup2 over it, in recv", "%s", result_of(&call));
    end(&call);
    close_pair(other);
    close_pair(both);
}

static void ends(void)
{
    group("the peer ends while a thread waits");
    struct call call;
    Pair both = pair();
    begin(&call, RECV, both.client);
    close(both.server);
    say("close, in recv", "%s", result_of(&call));
    end(&call);
    close(both.client);
    both = pair();
    struct linger hard = {.l_onoff = 1};
    setsockopt(both.server, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    begin(&call, RECV, both.client);
    close(both.server);
    say("reset, in recv", "%s", result_of(&call));
    end(&call);
    close(both.client);
    both = pair();
    set_nonblocking(both.client, true);
    for (int refused = 0; refused < 10;) {
        if (send(both.client, text, sizeof text, 0) < 0) {
            refused++;
            usleep(SHORT * 1000);
        } else {
            refused = 0;
        }
    }
    set_nonblocking(both.client, false);
    begin(&call, SEND, both.client);
    say("full, in send", "%s", result_of(&call));
    setsockopt(both.server, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(both.server);
    const char *result = result_of(&call);
    /* What fitted before counts. */
    say("reset, in send", "%s", call.result > 0 ? "a part" : result);
    end(&call);
    close(both.client);
}

static void several(void)
{
    group("several threads");
    enum { MANY = 8 };
    struct call calls[MANY];
    Pair both = pair();
    for (int i = 0; i < MANY; i++)
        begin(&calls[i], RECV, both.client);
    for (int i = 0; i < MANY; i++) {
        send(both.server, "x", 1, 0);
        usleep(20000);
    }
    int bytes = 0;
    for (int i = 0; i < MANY; i++)
        bytes += result_of(&calls[i]) && calls[i].done ? calls[i].result : 0;
    say("in recv, bytes taken", "%d", bytes);
    shutdown(both.server, SHUT_WR);
    for (int i = 0; i < MANY; i++)
        end(&calls[i]);
    close_pair(both);

    int listening = listener();
    Address to = local_of(listening);
    for (int i = 0; i < MANY; i++)
        begin(&calls[i], ACCEPT, listening);
    int clients[MANY], accepted = 0;
    for (int i = 0; i < MANY; i++) {
        clients[i] = tcp();
        connect(clients[i], &to.any, to.len);
    }
    for (int i = 0; i < MANY; i++)
        accepted += result_of(&calls[i]) && calls[i].done && calls[i].result >= 0;
    say("in accept, connections taken", "%d", accepted);
    for (int i = 0; i < MANY; i++) {
        end(&calls[i]);
        close(calls[i].result);
        close(clients[i]);
    }
    close(listening);

    both = pair();
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    epoll_ctl(set, EPOLL_CTL_ADD, both.server, &event);
    for (int i = 0; i < 3; i++)
        begin(&calls[i], EPOLL, set);
    send(both.client, "x", 1, 0);
    usleep(SHORT * 1000);
    int woken = 0;
    for (int i = 0; i < 3; i++)
        woken += calls[i].done;
    say("in epoll_wait, woken by an edge", "%d", woken);
    send(both.client, "x", 1, 0);
    usleep(SHORT * 1000);
    send(both.client, "x", 1, 0);
    woken = 0;
    for (int i = 0; i < 3; i++)
        woken += result_of(&calls[i]) && calls[i].done;
    say("in epoll_wait, woken by three", "%d", woken);
    for (int i = 0; i < 3; i++)
        end(&calls[i]);
    close(set);

    set = epoll_create1(0);
    struct call waits;
    begin(&waits, EPOLL, set);
    event.events = EPOLLOUT;
    epoll_ctl(set, EPOLL_CTL_ADD, both.client, &event);
    say("added while a thread waits", "%s", result_of(&waits));
    end(&waits);
    epoll_ctl(set, EPOLL_CTL_DEL, both.client, NULL);
    begin(&waits, EPOLL, set);
    int bell = eventfd(0, 0);
    event.events = EPOLLIN;
    epoll_ctl(set, EPOLL_CTL_ADD, bell, &event);
    eventfd_write(bell, 1);
    say("an eventfd added while a thread waits", "%s", result_of(&waits));
    end(&waits);
    close(bell);
    close(set);
    close_pair(both);
}

static void *open_and_close(void *argument)
{
    long errors = 0;
    Address to = *(Address *)argument;
    for (int i = 0; i < 200; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        errors += fd < 0;
        errors += connect(fd, &to.any, to.len) != 0;
        errors += send(fd, "ping", 4, MSG_NOSIGNAL) != 4;
        char answer[4];
        errors += recv(fd, answer, 4, MSG_WAITALL) != 4;
        errors += close(fd) != 0;
    }
    return (void *)errors;
}

static void *serve(void *argument)
{
    int listening = *(int *)argument, fd;
    while ((fd = accept(listening, NULL, NULL)) >= 0) {
        char request[4];
        if (recv(fd, request, 4, MSG_WAITALL) == 4)
            send(fd, request, 4, MSG_NOSIGNAL);
        close(fd);
    }
    return NULL;
}

static void crowd(void)
{
    group("many threads");
    int listening = listener();
    Address to = local_of(listening);
    pthread_t servers[4], clients[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&servers[i], NULL, serve, &listening);
    for (int i = 0; i < 4; i++)
        pthread_create(&clients[i], NULL, open_and_close, &to);
    long errors = 0;
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(clients[i], &result);
        errors += (long)result;
    }
    say("errors of 800 conversations", "%ld", errors);
    shutdown(listening, SHUT_RDWR);
    for (int i = 0; i < 4; i++)
        pthread_join(servers[i], NULL);
    close(listening);
    errors = 0;
    listening = listener();
    to = local_of(listening);
    pthread_create(&servers[0], NULL, serve, &listening);
    for (int i = 0; i < 300; i++) {
        /* A thread for each request. */
        struct call call = {.fd = tcp(), .kind = RECV};
        errors += connect(call.fd, &to.any, to.len) != 0;
        errors += send(call.fd, "ping", 4, MSG_NOSIGNAL) != 4;
        pthread_create(&call.thread, NULL, run, &call);
        pthread_join(call.thread, NULL);
        errors += call.result != 4;
        close(call.fd);
    }
    say("errors of 300 short threads", "%ld", errors);
    shutdown(listening, SHUT_RDWR);
    pthread_join(servers[0], NULL);
    close(listening);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    shutdowns();
    closes();
    ends();
    several();
    crowd();
    return 0;
}
