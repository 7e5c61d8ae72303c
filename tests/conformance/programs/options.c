/* getsockopt and setsockopt: defaults, what is taken, sizes, levels; fresh, listening and connected. */
#include "check.h"
#include <netinet/ip.h>

static const struct {
    const char *name;
    int level, option;
    /* Values that are tried, as integers. */
    int values[4];
} options[] = {
#define OF(level, option, ...) {#option, level, option, {__VA_ARGS__}}
    OF(SOL_SOCKET, SO_DEBUG, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_REUSEADDR, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_TYPE, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_ERROR, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_DONTROUTE, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_BROADCAST, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_SNDBUF, 1000, 20000, -1, 1 << 30),
    OF(SOL_SOCKET, SO_RCVBUF, 1000, 20000, -1, 1 << 30),
    OF(SOL_SOCKET, SO_KEEPALIVE, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_OOBINLINE, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_NO_CHECK, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_PRIORITY, 0, 6, -1, 7),
    OF(SOL_SOCKET, SO_REUSEPORT, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_PASSCRED, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_RCVLOWAT, 0, 1, -1, 2000),
    OF(SOL_SOCKET, SO_SNDLOWAT, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_TIMESTAMP, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_TIMESTAMPNS, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_ACCEPTCONN, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_PROTOCOL, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_DOMAIN, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_MARK, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_RXQ_OVFL, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_PEEK_OFF, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_LOCK_FILTER, 0, 0, 0, 0),
    OF(SOL_SOCKET, SO_SELECT_ERR_QUEUE, 0, 1, -1, 2),
    OF(SOL_SOCKET, SO_BUSY_POLL, 0, 1, -1, 50),
    OF(SOL_SOCKET, SO_ZEROCOPY, 0, 0, -1, 2),
    OF(SOL_SOCKET, 200, 0, 1, -1, 2),
    OF(IPPROTO_TCP, TCP_NODELAY, 0, 1, -1, 2),
    OF(IPPROTO_TCP, TCP_MAXSEG, 50, 1000, -1, 40000),
    OF(IPPROTO_TCP, TCP_CORK, 0, 1, -1, 0),
    OF(IPPROTO_TCP, TCP_KEEPIDLE, 0, 1, -1, 32768),
    OF(IPPROTO_TCP, TCP_KEEPINTVL, 0, 1, -1, 32768),
    OF(IPPROTO_TCP, TCP_KEEPCNT, 0, 1, -1, 128),
    OF(IPPROTO_TCP, TCP_SYNCNT, 0, 1, -1, 128),
    OF(IPPROTO_TCP, TCP_LINGER2, 0, 10, -1, 1000),
    OF(IPPROTO_TCP, TCP_DEFER_ACCEPT, 0, 3, -1, 40),
    OF(IPPROTO_TCP, TCP_WINDOW_CLAMP, 0, 1, -1, 50000),
    OF(IPPROTO_TCP, TCP_QUICKACK, 0, 1, -1, 2),
    OF(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 0, 1, -1, 2),
    OF(IPPROTO_TCP, TCP_THIN_DUPACK, 0, 1, -1, 2),
    OF(IPPROTO_TCP, TCP_USER_TIMEOUT, 0, 1, -1, 20000),
    OF(IPPROTO_TCP, TCP_FASTOPEN, 0, 5, -1, 1 << 30),
    OF(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0, 0, -1, 2),
    OF(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 0, 0, -1, 2),
    OF(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0, 1, -1, 70000),
    OF(IPPROTO_TCP, TCP_SAVE_SYN, 0, 1, -1, 3),
    OF(IPPROTO_TCP, TCP_INQ, 0, 1, -1, 2),
    OF(IPPROTO_TCP, TCP_TX_DELAY, 0, 0, -1, 0),
    OF(IPPROTO_TCP, 99, 0, 1, -1, 2),
    OF(IPPROTO_IP, IP_TOS, 0, 0x10, -1, 0xff),
    OF(IPPROTO_IP, IP_TTL, 0, 1, -1, 256),
    OF(IPPROTO_IP, IP_HDRINCL, 0, 1, -1, 2),
    OF(IPPROTO_IP, IP_RECVTTL, 0, 1, -1, 0),
    OF(IPPROTO_IP, IP_RECVTOS, 0, 1, -1, 0),
    OF(IPPROTO_IP, IP_PKTINFO, 0, 1, -1, 0),
    OF(IPPROTO_IP, IP_RECVERR, 0, 1, -1, 0),
    OF(IPPROTO_IP, IP_MTU_DISCOVER, 0, 2, -1, 9),
    OF(IPPROTO_IP, IP_FREEBIND, 0, 1, -1, 0),
    OF(IPPROTO_IP, IP_TRANSPARENT, 0, 1, -1, 0),
    OF(IPPROTO_IP, IP_MINTTL, 0, 1, -1, 256),
    OF(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0, 1, -1, 2),
    OF(IPPROTO_IP, IP_MULTICAST_TTL, 0, 1, -1, 256),
    OF(IPPROTO_IP, IP_MULTICAST_LOOP, 0, 1, -1, 2),
    OF(IPPROTO_IP, 99, 0, 1, -1, 2),
    OF(IPPROTO_IPV6, IPV6_V6ONLY, 0, 1, -1, 2),
    OF(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 0, 1, -1, 256),
    OF(IPPROTO_IPV6, IPV6_TCLASS, 0, 0x20, -1, 256),
    OF(IPPROTO_IPV6, IPV6_RECVPKTINFO, 0, 1, -1, 0),
    OF(IPPROTO_IPV6, IPV6_MTU_DISCOVER, 0, 2, -1, 9),
    OF(IPPROTO_IPV6, IPV6_RECVERR, 0, 1, -1, 0),
    OF(IPPROTO_IPV6, IPV6_FREEBIND, 0, 1, -1, 0),
    OF(IPPROTO_IPV6, 250, 0, 1, -1, 2),
    OF(IPPROTO_UDP, 1, 0, 1, -1, 2),
    OF(77, 1, 0, 1, -1, 2),
};
#define COUNT (sizeof options / sizeof *options)

/* The value of an option with its length, or the error. */
static const char *value_of(int fd, int level, int option)
{
    static char text[100];
    int value = 0;
    socklen_t len = sizeof value;
    if (getsockopt(fd, level, option, &value, &len) != 0)
        return error_name(errno);
    snprintf(text, sizeof text, "%d, %d bytes", value, (int)len);
    return text;
}

static void in_state(const char *state, int fd)
{
    group("%s", state);
    for (size_t i = 0; i < COUNT; i++) {
        char name[100];
        snprintf(name, sizeof name, "%s of level %d", options[i].name, options[i].level);
        say(name, "%s", value_of(fd, options[i].level, options[i].option));
    }
}

static void defaults(void)
{
    int fd = tcp();
    in_state("fresh", fd);
    close(fd);
    fd = listener();
    in_state("listening", fd);
    close(fd);
}

static void values(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        group("%s of level %d", options[i].name, options[i].level);
        int fd = tcp();
        for (int v = 0; v < 4; v++) {
            int value = options[i].values[v];
            char name[100];
            snprintf(name, sizeof name, "value %d, number %d", value, v + 1);
            errno = 0;
            int result = setsockopt(fd, options[i].level, options[i].option, &value, sizeof value);
            const char *said = outcome(result);
            say(name, "%s, then %s", said, value_of(fd, options[i].level, options[i].option));
        }
        close(fd);
    }
}

static void sizes(void)
{
    static const struct {
        const char *name;
        int level, option;
    } some[] = {
        {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE}, {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF},
        {"SO_LINGER", SOL_SOCKET, SO_LINGER},       {"SO_RCVTIMEO", SOL_SOCKET, SO_RCVTIMEO},
        {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},  {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE},
        {"IP_TOS", IPPROTO_IP, IP_TOS},             {"IP_TTL", IPPROTO_IP, IP_TTL},
    };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        group("sizes of %s", some[i].name);
        static const int lengths[] = {0, 1, 2, 3, 4, 5, 8, 16, 40, -1};
        for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
            int fd = tcp();
            char name[100], bytes[64] = {1};
            snprintf(name, sizeof name, "set with %d bytes", lengths[n]);
            VALUE(name, setsockopt(fd, some[i].level, some[i].option, bytes, lengths[n]));
            socklen_t len = lengths[n];
            memset(bytes, 0x55, sizeof bytes);
            errno = 0;
            int result = getsockopt(fd, some[i].level, some[i].option, bytes, &len);
            snprintf(name, sizeof name, "get with %d bytes", lengths[n]);
            say(name, "%s, length %d", outcome(result), (int)len);
            close(fd);
        }
        int fd = tcp();
        VALUE("set from null", setsockopt(fd, some[i].level, some[i].option, NULL, 4));
        socklen_t len = 4;
        VALUE("get to null", getsockopt(fd, some[i].level, some[i].option, NULL, &len));
        char byte;
        VALUE("get without a length", getsockopt(fd, some[i].level, some[i].option, &byte, NULL));
        close(fd);
    }
    group("what is no socket");
    int ends[2], one = 1;
    socklen_t len = sizeof one;
    pipe(ends);
    VALUE("set of a pipe", setsockopt(ends[0], SOL_SOCKET, SO_KEEPALIVE, &one, len));
    VALUE("get of a pipe", getsockopt(ends[0], SOL_SOCKET, SO_KEEPALIVE, &one, &len));
    close(ends[0]);
    close(ends[1]);
    VALUE("set of a closed one", setsockopt(ends[0], SOL_SOCKET, SO_KEEPALIVE, &one, len));
    VALUE("get of a closed one", getsockopt(ends[0], SOL_SOCKET, SO_KEEPALIVE, &one, &len));
}

static void structures(void)
{
    group("SO_LINGER");
    int fd = tcp();
    static const struct linger lingers[] = {{1, 5}, {0, 7}, {-1, 3}, {1, -1}, {1, 0}, {1, 1 << 30}};
    for (size_t i = 0; i < sizeof lingers / sizeof *lingers; i++) {
        char name[100];
        struct linger now = {9, 9};
        socklen_t len = sizeof now;
        snprintf(name, sizeof name, "%d %d", lingers[i].l_onoff, lingers[i].l_linger);
        errno = 0;
        int result = setsockopt(fd, SOL_SOCKET, SO_LINGER, &lingers[i], sizeof *lingers);
        const char *said = outcome(result);
        getsockopt(fd, SOL_SOCKET, SO_LINGER, &now, &len);
        say(name, "%s, then %d %d, %d bytes", said, now.l_onoff, now.l_linger, (int)len);
    }
    group("timeouts");
    static const struct timeval times[] = {
        {0, 0}, {1, 500000}, {0, 1}, {0, 1000000}, {0, -1}, {-1, 0}, {-1, 500000}, {1L << 40, 0}};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        for (int which = SO_RCVTIMEO; which <= SO_SNDTIMEO; which++) {
            char name[100];
            struct timeval now = {9, 9};
            socklen_t len = sizeof now;
            snprintf(name, sizeof name, "%s of %ld.%ld", which == SO_RCVTIMEO ? "receive" : "send",
                     (long)times[i].tv_sec, (long)times[i].tv_usec);
            errno = 0;
            int result = setsockopt(fd, SOL_SOCKET, which, &times[i], sizeof *times);
            const char *said = outcome(result);
            getsockopt(fd, SOL_SOCKET, which, &now, &len);
            /* The kernel keeps ticks, of 1 to 10 ms. */
            long ms = now.tv_usec / 10000 * 10;
            say(name, "%s, then %ld s and about %ld ms", said, (long)now.tv_sec, ms);
        }
    }
    close(fd);
    group("names");
    fd = tcp();
    char name[64] = "";
    socklen_t len = sizeof name;
    VALUE("TCP_CONGESTION", getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    /* Which it is depends on the machine. */
    say("TCP_CONGESTION by default", "%d bytes", (int)len);
    static const char *const algorithms[] = {"reno", "cubic", "none-of-these", ""};
    for (size_t i = 0; i < 4; i++) {
        char check[100];
        errno = 0;
        int size = strlen(algorithms[i]);
        int result = setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, algorithms[i], size);
        const char *said = outcome(result);
        memset(name, 0, sizeof name);
        len = sizeof name;
        getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len);
        snprintf(check, sizeof check, "TCP_CONGESTION %s", algorithms[i]);
        say(check, "%s, then %s", said, name);
    }
    len = 3;
    VALUE("TCP_CONGESTION, short buffer", getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    say("its length", "%d", (int)len);
    len = sizeof name;
    VALUE("SO_BINDTODEVICE", getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
    say("its default", "%d bytes", (int)len);
    VALUE("to what is not there", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "nothing0", 8));
    VALUE("to nothing", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
    len = sizeof name;
    VALUE("TCP_ULP", getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &len));
    VALUE("TCP_ULP, unknown", setsockopt(fd, IPPROTO_TCP, TCP_ULP, "nothing", 7));
    len = sizeof name;
    VALUE("SO_PEERNAME", getsockopt(fd, SOL_SOCKET, SO_PEERNAME, name, &len));
    struct {
        int pid, uid, gid;
    } peer;
    len = sizeof peer;
    VALUE("SO_PEERCRED", getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len));
    say("its values", "%d %d %d, %d bytes", peer.pid, peer.uid, peer.gid, (int)len);
    close(fd);
}

static void connected(void)
{
    group("connected");
    Pair both = pair();
    static const struct {
        const char *name;
        int level, option;
    } some[] = {
        {"SO_TYPE", SOL_SOCKET, SO_TYPE},
        {"SO_DOMAIN", SOL_SOCKET, SO_DOMAIN},
        {"SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL},
        {"SO_ERROR", SOL_SOCKET, SO_ERROR},
        {"SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN},
        {"TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG},
        {"TCP_CORK", IPPROTO_TCP, TCP_CORK},
        {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY},
        {"TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT},
        {"IP_MTU", IPPROTO_IP, IP_MTU},
    };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        say(some[i].name, "%s", value_of(both.client, some[i].level, some[i].option));
    }
    int value = 500, one = 1;
    VALUE("TCP_MAXSEG, set", setsockopt(both.client, IPPROTO_TCP, TCP_MAXSEG, &value, 4));
    VALUE("IPV6_V6ONLY, set", setsockopt(both.client, IPPROTO_IPV6, IPV6_V6ONLY, &one, 4));
    VALUE("SO_REUSEPORT, set", setsockopt(both.client, SOL_SOCKET, SO_REUSEPORT, &one, 4));
    VALUE("TCP_FASTOPEN, set", setsockopt(both.client, IPPROTO_TCP, TCP_FASTOPEN, &one, 4));
    VALUE("TCP_FASTOPEN_CONNECT, set",
          setsockopt(both.client, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, 4));
    VALUE("IP_TRANSPARENT, set", setsockopt(both.client, IPPROTO_IP, IP_TRANSPARENT, &one, 4));
    VALUE("TCP_REPAIR, get", getsockopt(both.client, IPPROTO_TCP, TCP_REPAIR, &value,
                                        &(socklen_t){sizeof value}));
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    VALUE("TCP_INFO", getsockopt(both.client, IPPROTO_TCP, TCP_INFO, &info, &len));
    say("its length", "%d", (int)len);
    say("its state", "%d", info.tcpi_state);
    say("its options", "%d", info.tcpi_options & 7);
    say("its MSS", "%u %u", info.tcpi_snd_mss, info.tcpi_advmss);
    say("its MTU", "%u", info.tcpi_pmtu);
    say("its window of congestion", "%u", info.tcpi_snd_cwnd);
    len = 8;
    VALUE("TCP_INFO, 8 bytes", getsockopt(both.client, IPPROTO_TCP, TCP_INFO, &info, &len));
    say("its length then", "%d", (int)len);
    len = 1000;
    char much[1000];
    VALUE("TCP_INFO, more than there is", getsockopt(both.client, IPPROTO_TCP, TCP_INFO, much, &len));
    len = 0;
    VALUE("TCP_INFO, no bytes", getsockopt(both.client, IPPROTO_TCP, TCP_INFO, much, &len));
    VALUE("TCP_INFO, set", setsockopt(both.client, IPPROTO_TCP, TCP_INFO, &info, sizeof info));
    close_pair(both);
}

int main(void)
{
    for (int i = 0; i < 2; i++) {
        use_family(i ? AF_INET6 : AF_INET);
        defaults();
        connected();
    }
    use_family(AF_INET);
    values();
    sizes();
    structures();
    return 0;
}
