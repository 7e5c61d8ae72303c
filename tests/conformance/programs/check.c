#include "check.h"

/* A group that takes longer hangs. */
#define PATIENCE 30

int family = AF_INET;
static char prefix[200];

void group(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int at = snprintf(prefix, sizeof prefix, "%s", family == AF_INET6 ? "ipv6, " : "");
    vsnprintf(prefix + at, sizeof prefix - at, format, arguments);
    va_end(arguments);
    alarm(PATIENCE);
}

void say(const char *name, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s, %s: ", prefix, name);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    va_end(arguments);
}

static char *room(void)
{
    static char texts[16][256];
    static int next;
    return texts[next++ % 16];
}

const char *error_name(int error)
{
    const char *name = strerrorname_np(error);
    return name ? name : "unknown error";
}

const char *outcome(long value)
{
    if (value == -1 && errno != 0)
        return error_name(errno);
    char *text = room();
    snprintf(text, 256, "%ld", value);
    return text;
}

const char *success(long value)
{
    return value < 0 ? outcome(value) : "ok";
}

void use_family(int which)
{
    family = which;
}

Address address_of(const char *ip, int port)
{
    Address address = {0};
    if (strchr(ip, ':')) {
        address.v6.sin6_family = AF_INET6;
        address.v6.sin6_port = htons(port);
        inet_pton(AF_INET6, ip, &address.v6.sin6_addr);
        address.len = sizeof address.v6;
    } else {
        address.v4.sin_family = AF_INET;
        address.v4.sin_port = htons(port);
        inet_pton(AF_INET, ip, &address.v4.sin_addr);
        address.len = sizeof address.v4;
    }
    return address;
}

Address loopback(int port)
{
    return address_of(family == AF_INET6 ? "::1" : "127.0.0.1", port);
}

Address any(int port)
{
    return address_of(family == AF_INET6 ? "::" : "0.0.0.0", port);
}

Address local_of(int fd)
{
    Address address = {.len = sizeof address.storage};
    if (getsockname(fd, &address.any, &address.len) != 0)
        address.len = 0;
    return address;
}

Address peer_of(int fd)
{
    Address address = {.len = sizeof address.storage};
    if (getpeername(fd, &address.any, &address.len) != 0)
        address.len = 0;
    return address;
}

int port_of(Address address)
{
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

const char *text_of(Address address)
{
    char *text = room(), ip[INET6_ADDRSTRLEN] = "?";
    if (address.len == 0)
        return error_name(errno);
    if (address.any.sa_family == AF_INET)
        inet_ntop(AF_INET, &address.v4.sin_addr, ip, sizeof ip);
    else if (address.any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &address.v6.sin6_addr, ip, sizeof ip);
    snprintf(text, 256, "%s %s", ip, port_of(address) ? "port" : "0");
    return text;
}

static void must(bool good, const char *what)
{
    if (good)
        return;
    printf("%s, the program ends at %s: %s\n", prefix, what, error_name(errno));
    exit(1);
}

int tcp(void)
{
    int fd = socket(family, SOCK_STREAM, 0);
    must(fd >= 0, "socket");
    return fd;
}

int listener(void)
{
    int fd = tcp();
    Address at = loopback(0);
    must(bind(fd, &at.any, at.len) == 0, "bind");
    must(listen(fd, 16) == 0, "listen");
    return fd;
}

Pair pair(void)
{
    int listening = listener();
    Pair pair = {.client = tcp()};
    Address to = local_of(listening);
    must(connect(pair.client, &to.any, to.len) == 0, "connect");
    pair.server = accept(listening, NULL, NULL);
    must(pair.server >= 0, "accept");
    close(listening);
    return pair;
}

void close_pair(Pair pair)
{
    close(pair.client);
    close(pair.server);
}

int reset_client(void)
{
    Pair both = pair();
    struct linger hard = {.l_onoff = 1};
    setsockopt(both.server, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(both.server);
    must(await(both.client, POLLERR, LONG) & POLLERR, "a reset");
    return both.client;
}

int await(int fd, int events, int milliseconds)
{
    struct pollfd watched = {.fd = fd, .events = events};
    return poll(&watched, 1, milliseconds) == 1 ? watched.revents : 0;
}

void await_bytes(int fd, int bytes)
{
    long long end = milliseconds() + LONG;
    while (pending(fd) < bytes && milliseconds() < end)
        usleep(200);
}

int pending(int fd)
{
    int bytes = -1;
    ioctl(fd, FIONREAD, &bytes);
    return bytes;
}

const char *events_text(int events)
{
    static const struct {
        int bit;
        const char *name;
    } names[] = {
        {POLLIN, "IN"},         {POLLPRI, "PRI"},       {POLLOUT, "OUT"},
        {POLLERR, "ERR"},       {POLLHUP, "HUP"},       {POLLNVAL, "NVAL"},
        {POLLRDNORM, "RDNORM"}, {POLLRDBAND, "RDBAND"}, {POLLWRNORM, "WRNORM"},
        {POLLWRBAND, "WRBAND"}, {POLLRDHUP, "RDHUP"},
    };
    char *text = room();
    *text = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (events & names[i].bit) {
            if (*text)
                strcat(text, "|");
            strcat(text, names[i].name);
        }
    }
    return *text ? text : "nothing";
}

int take_error(int fd)
{
    int error = -1;
    socklen_t len = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    return error;
}

void set_nonblocking(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

bool is_nonblocking(int fd)
{
    return fcntl(fd, F_GETFL) & O_NONBLOCK;
}

void set_option(int fd, int level, int option, int value)
{
    setsockopt(fd, level, option, &value, sizeof value);
}

int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t len = sizeof value;
    getsockopt(fd, level, option, &value, &len);
    return value;
}

long long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

pid_t branch(void)
{
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0)
        alarm(PATIENCE);
    return child;
}

const char *end_of(pid_t child)
{
    int status = 0;
    if (waitpid(child, &status, 0) < 0)
        return error_name(errno);
    char *text = room();
    if (WIFSIGNALED(status))
        snprintf(text, 256, "signal %d", WTERMSIG(status));
    else
        snprintf(text, 256, "exit %d", WEXITSTATUS(status));
    return text;
}

static const char *seen_within(int peer, int milliseconds)
{
    int events = await(peer, POLLRDHUP, milliseconds);
    if (events & POLLERR)
        return "it was reset";
    return events ? "it has ended" : "it is open";
}

const char *seen_by(int peer)
{
    return seen_within(peer, SHORT);
}

const char *seen_at_last_by(int peer)
{
    return seen_within(peer, LONG);
}
