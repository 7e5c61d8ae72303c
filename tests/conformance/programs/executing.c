/* Programs that are executed: what they inherit, by exec, vfork, posix_spawn, popen and system. */
#include "check.h"
#include <spawn.h>
#include <sys/epoll.h>

extern char **environ;
static char text[1 << 12];
static const char *self;

/* What the child of a check does once it is another program: `executing TASK FD GROUP`. */
static void talk(int fd)
{
    say("names", "%s to %s", text_of(local_of(fd)), text_of(peer_of(fd)));
    VALUE("type", option_of(fd, SOL_SOCKET, SO_TYPE));
    VALUE("O_NONBLOCK", is_nonblocking(fd));
    VALUE("FD_CLOEXEC", fcntl(fd, F_GETFD));
    VALUE("TCP_NODELAY", option_of(fd, IPPROTO_TCP, TCP_NODELAY));
    VALUE("what had come", recv(fd, text, 6, 0));
    VALUE("send", send(fd, "hello", 5, 0));
    VALUE("recv", recv(fd, text, 100, 0));
}

static void serve(int fd)
{
    VALUE("SO_ACCEPTCONN", option_of(fd, SOL_SOCKET, SO_ACCEPTCONN));
    int server = accept(fd, NULL, NULL);
    OK("accept", server);
    send(server, "served", 6, 0);
}

static void become(int fd)
{
    say("name", "%s", text_of(local_of(fd)));
    VALUE("listen", listen(fd, 5));
    Address to = local_of(fd);
    int client = tcp();
    VALUE("connect", connect(client, &to.any, to.len));
    OK("accept", accept(fd, NULL, NULL));
}

static void arrive(int fd)
{
    say("events", "%s", events_text(await(fd, POLLOUT, LONG)));
    VALUE("error", take_error(fd));
    VALUE("send", send(fd, "hello", 5, 0));
}

static void find(int fd)
{
    VALUE("F_GETFD", fcntl(fd, F_GETFD));
    VALUE("send", send(fd, "hello", 5, MSG_NOSIGNAL));
}

static void stand(int fd)
{
    char line[20] = "";
    (void)fd;
    fgets(line, sizeof line, stdin);
    printf("got %s", line);
    fflush(stdout);
}

static void stay(int fd)
{
    send(fd, "I am here", 9, 0);
    pause();
}

static void go_on(int fd)
{
    char number[20], *arguments[] = {(char *)self, "find", number, "the third program", NULL};
    snprintf(number, sizeof number, "%d", fd);
    send(fd, "on", 2, 0);
    execv(self, arguments);
}

static void watch(int fd)
{
    struct epoll_event event;
    VALUE("epoll_wait", epoll_wait(fd, &event, 1, 1000));
}

static const struct {
    const char *name;
    void (*act)(int);
} tasks[] = {
    {"talk", talk},     {"serve", serve}, {"become", become}, {"arrive", arrive}, {"find", find},
    {"stand", stand},   {"stay", stay},   {"on", go_on},      {"watch", watch},
};

static int perform(char **arguments)
{
    signal(SIGPIPE, SIG_IGN);
    if (strcmp(arguments[1], "stand") != 0)
        group("%s", arguments[3]);
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (strcmp(tasks[i].name, arguments[1]) == 0)
            tasks[i].act(atoi(arguments[2]));
    return 7;
}

/* Becomes another program. */
static void execute(const char *task, int fd, const char *name)
{
    char number[20];
    snprintf(number, sizeof number, "%d", fd);
    char *arguments[] = {(char *)self, (char *)task, number, (char *)name, NULL};
    execv(self, arguments);
    _exit(99);
}

/* The same in a child. */
static pid_t start(const char *task, int fd, const char *name)
{
    pid_t child = branch();
    if (child == 0)
        execute(task, fd, name);
    return child;
}

/* As `pair`, with something that the server has not read yet. */
static Pair waiting(void)
{
    Pair both = pair();
    send(both.client, "before", 6, 0);
    await_bytes(both.server, 6);
    fcntl(both.client, F_SETFD, FD_CLOEXEC);
    return both;
}

static void end(Pair both, pid_t child)
{
    say("the program", "%s", end_of(child));
    say("at last", "%s", seen_at_last_by(both.client));
    close(both.client);
}

static void programs(void)
{
    group("a connection");
    Pair both = waiting();
    set_option(both.server, IPPROTO_TCP, TCP_NODELAY, 1);
    pid_t child = start("talk", both.server, "a connection, in the program");
    close(both.server);
    VALUE("what it says", recv(both.client, text, 100, 0));
    say("while it lives", "%s", seen_by(both.client));
    VALUE("an answer", send(both.client, "yes", 3, 0));
    end(both, child);

    group("a connection that does not block");
    both = waiting();
    set_nonblocking(both.server, true);
    child = start("talk", both.server, "a connection that does not block, in the program");
    close(both.server);
    VALUE("what it says", recv(both.client, text, 100, 0));
    end(both, child);

    group("a connection with FD_CLOEXEC");
    both = waiting();
    fcntl(both.server, F_SETFD, FD_CLOEXEC);
    recv(both.server, text, 6, 0);
    child = start("find", both.server, "a connection with FD_CLOEXEC, in the program");
    close(both.server);
    end(both, child);

    group("a copy without FD_CLOEXEC");
    both = waiting();
    recv(both.server, text, 6, 0);
    fcntl(both.server, F_SETFD, FD_CLOEXEC);
    int copy = dup(both.server);
    child = start("find", copy, "a copy without FD_CLOEXEC, in the program");
    close(both.server);
    close(copy);
    VALUE("what it says", recv(both.client, text, 100, 0));
    end(both, child);

    group("a connection whose half is closed");
    both = waiting();
    shutdown(both.client, SHUT_WR);
    await(both.server, POLLRDHUP, LONG);
    child = start("talk", both.server, "a connection whose half is closed, in the program");
    close(both.server);
    VALUE("what it says", recv(both.client, text, 100, 0));
    end(both, child);

    group("several programs in a row");
    both = waiting();
    recv(both.server, text, 6, 0);
    child = start("on", both.server, "the second program");
    close(both.server);
    VALUE("what they say", recv(both.client, text, 7, MSG_WAITALL));
    end(both, child);

    group("a program that is killed");
    both = waiting();
    recv(both.server, text, 6, 0);
    child = start("stay", both.server, "a program that is killed");
    close(both.server);
    VALUE("what it says", recv(both.client, text, 100, 0));
    say("while it lives", "%s", seen_by(both.client));
    kill(child, SIGKILL);
    end(both, child);

    group("a program that knows nothing of it");
    both = waiting();
    recv(both.server, text, 6, 0);
    child = branch();
    if (child == 0) {
        execl("/bin/sleep", "sleep", "100", NULL);
        _exit(99);
    }
    close(both.server);
    say("while it lives", "%s", seen_by(both.client));
    kill(child, SIGTERM);
    end(both, child);

    group("a program that is not there");
    both = waiting();
    recv(both.server, text, 6, 0);
    VALUE("exec", execl("/nowhere", "nowhere", NULL));
    VALUE("send", send(both.server, "abc", 3, 0));
    VALUE("recv", recv(both.client, text, 100, 0));
    set_nonblocking(both.server, true);
    VALUE("recv there", recv(both.server, text, 100, 0));
    close(both.server);
    say("at last", "%s", seen_at_last_by(both.client));
    close(both.client);

    group("an empty environment");
    both = waiting();
    child = branch();
    if (child == 0) {
        char number[20], *nothing[] = {NULL};
        snprintf(number, sizeof number, "%d", both.server);
        execle(self, self, "talk", number, "an empty environment, in the program", NULL, nothing);
        _exit(99);
    }
    close(both.server);
    VALUE("what it says", recv(both.client, text, 100, 0));
    VALUE("an answer", send(both.client, "yes", 3, 0));
    end(both, child);
}

static void others(void)
{
    group("a listener");
    int listening = listener();
    pid_t child = start("serve", listening, "a listener, in the program");
    Address to = local_of(listening);
    close(listening);
    int fd = tcp();
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    VALUE("connect", connect(fd, &to.any, to.len));
    VALUE("recv", recv(fd, text, 100, 0));
    say("the program", "%s", end_of(child));
    say("at last", "%s", seen_at_last_by(fd));
    close(fd);

    group("a listener with a connection that waits");
    listening = listener();
    to = local_of(listening);
    fd = tcp();
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    connect(fd, &to.any, to.len);
    child = start("serve", listening, "a listener with a connection that waits, in the program");
    close(listening);
    VALUE("recv", recv(fd, text, 100, 0));
    say("the program", "%s", end_of(child));
    close(fd);

    group("a fresh socket");
    fd = tcp();
    end_of(start("become", fd, "a fresh socket, in the program"));
    close(fd);
    group("a bound socket");
    fd = tcp();
    Address at = loopback(0);
    bind(fd, &at.any, at.len);
    end_of(start("become", fd, "a bound socket, in the program"));
    close(fd);

    group("a socket that connects");
    listening = listener();
    to = local_of(listening);
    fd = tcp();
    set_nonblocking(fd, true);
    connect(fd, &to.any, to.len);
    child = start("arrive", fd, "a socket that connects, in the program");
    close(fd);
    fd = accept(listening, NULL, NULL);
    VALUE("what it says", recv(fd, text, 5, MSG_WAITALL));
    say("the program", "%s", end_of(child));
    say("at last", "%s", seen_at_last_by(fd));
    close(fd);
    close(listening);

    group("a set of epoll");
    Pair both = pair();
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, both.server, &event);
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 3);
    end_of(start("watch", set, "a set of epoll, in the program"));
    close(set);
    close_pair(both);
}

/* What a program has said to the other end, and when it ends. */
static void answered(int client, const char *line)
{
    long n = 0, more;
    send(client, line, strlen(line), 0);
    shutdown(client, SHUT_WR);
    while ((more = recv(client, text + n, sizeof text - 1 - n, 0)) > 0)
        n += more;
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    say("what it says", "%s", text);
    VALUE("the end", more);
    close(client);
}

static void standard(void)
{
    static const char *const names[] = {"itself", "cat", "sh"};
    for (int i = 0; i < 3; i++) {
        group("standard input and output, %s", names[i]);
        Pair both = pair();
        fcntl(both.client, F_SETFD, FD_CLOEXEC);
        pid_t child = branch();
        if (child == 0) {
            dup2(both.server, 0);
            dup2(both.server, 1);
            close(both.server);
            switch (i) {
            case 0: execute("stand", 0, ""); break;
            case 1: execlp("cat", "cat", NULL); break;
            case 2: execl("/bin/sh", "sh", "-c", "read line; echo got $line; echo again >&1", NULL);
            }
            _exit(99);
        }
        close(both.server);
        answered(both.client, "line\n");
        say("the program", "%s", end_of(child));
    }
}

static void vforks(void)
{
    group("vfork");
    /* Not in a register, which the child might change. */
    static Pair both;
    both = pair();
    fcntl(both.client, F_SETFD, FD_CLOEXEC);
    fcntl(both.server, F_SETFD, FD_CLOEXEC);
    pid_t child = vfork();
    if (child == 0) {
        dup2(both.server, 0);
        dup2(both.server, 1);
        execl(self, self, "stand", "0", "", NULL);
        _exit(99);
    }
    VALUE("the parent's", fcntl(both.server, F_GETFD));
    close(both.server);
    answered(both.client, "line\n");
    say("the program", "%s", end_of(child));
    group("vfork and _exit");
    both = pair();
    child = vfork();
    if (child == 0) {
        close(both.server);
        close(both.client);
        _exit(3);
    }
    say("the child", "%s", end_of(child));
    VALUE("send", send(both.server, "abc", 3, 0));
    VALUE("recv", recv(both.client, text, 100, 0));
    close_pair(both);
}

static void spawns(void)
{
    static const char *const names[] = {"adddup2", "adddup2 with FD_CLOEXEC", "adddup2 to itself",
                                        "addclose", "addclosefrom_np", "no actions"};
    for (int i = 0; i < 6; i++) {
        group("posix_spawn, %s", names[i]);
        Pair both = waiting();
        recv(both.server, text, 6, 0);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        if (i == 1 || i == 2)
            fcntl(both.server, F_SETFD, FD_CLOEXEC);
        char number[20], title[100];
        snprintf(number, sizeof number, "%d", both.server);
        snprintf(title, sizeof title, "posix_spawn, %s, in the program", names[i]);
        char *arguments[] = {(char *)self, i < 2 ? "stand" : "find", number, title, NULL};
        switch (i) {
        case 0:
        case 1:
            posix_spawn_file_actions_adddup2(&actions, both.server, 0);
            posix_spawn_file_actions_adddup2(&actions, both.server, 1);
            break;
        case 2: posix_spawn_file_actions_adddup2(&actions, both.server, both.server); break;
        case 3: posix_spawn_file_actions_addclose(&actions, both.server); break;
        case 4: posix_spawn_file_actions_addclosefrom_np(&actions, 3); break;
        }
        pid_t child = -1;
        int error = posix_spawn(&child, self, &actions, NULL, arguments, environ);
        say("result", "%s", error ? error_name(error) : "ok");
        posix_spawn_file_actions_destroy(&actions);
        close(both.server);
        if (i < 2)
            answered(both.client, "line\n");
        say("the program", "%s", end_of(child));
        if (i >= 2) {
            VALUE("what came", recv(both.client, text, 100, 0));
            say("at last", "%s", seen_at_last_by(both.client));
            close(both.client);
        }
    }

    group("system");
    Pair both = waiting();
    dup2(both.server, 9);
    send(both.client, "\n", 1, 0);
    VALUE("result", system("read line <&9; echo got $line >&9"));
    VALUE("what it says", recv(both.client, text, 100, 0));
    VALUE("send after it", send(both.server, "abc", 3, 0));
    close(both.server);
    say("one closed", "%s", seen_by(both.client));
    close(9);
    say("both closed", "%s", seen_at_last_by(both.client));
    close(both.client);

    group("popen");
    both = waiting();
    dup2(both.server, 9);
    close(both.server);
    shutdown(both.client, SHUT_WR);
    FILE *pipe = popen("cat <&9", "r");
    VALUE("what it reads", fread(text, 1, 100, pipe));
    VALUE("pclose", pclose(pipe));
    pipe = popen("cat >&9", "w");
    VALUE("what it is given", fwrite("abcd", 1, 4, pipe));
    VALUE("pclose again", pclose(pipe));
    VALUE("what it writes", recv(both.client, text, 100, 0));
    say("then", "%s", seen_by(both.client));
    close(9);
    say("at last", "%s", seen_at_last_by(both.client));
    close(both.client);
}

int main(int count, char **arguments)
{
    self = arguments[0];
    if (count > 3)
        return perform(arguments);
    signal(SIGPIPE, SIG_IGN);
    programs();
    others();
    standard();
    vforks();
    spawns();
    return 0;
}
