/* dup and its kin, fcntl, close_range, fstat, ioctl, /proc: what a socket is as a descriptor. */
#include "check.h"
#include <dirent.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <termios.h>

static char text[200];

/* Whether two descriptors are ends of one stream: what is sent into one comes out of the other. */
static const char *joined(int from, int to)
{
    if (send(from, "j", 1, MSG_NOSIGNAL) != 1)
        return error_name(errno);
    return await(to, POLLIN, LONG) && recv(to, text, 1, 0) == 1 ? "joined" : "apart";
}

static void duplicates(void)
{
    group("dup");
    Pair both = pair();
    int copy = dup(both.client);
    OK("dup", copy);
    say("the copy and the peer", "%s", joined(copy, both.server));
    VALUE("its descriptor flags", fcntl(copy, F_GETFD));
    say("names", "%s", port_of(local_of(copy)) == port_of(local_of(both.client)) ? "same" : "other");
    VALUE("closing the first", close(both.client));
    say("the copy then", "%s", joined(copy, both.server));
    say("and back", "%s", joined(both.server, copy));
    close(copy);
    VALUE("the end comes with the last", recv(both.server, text, 1, 0));
    close(both.server);

    both = pair();
    VALUE("dup of a closed one", dup(999));
    VALUE("dup2 to itself", dup2(both.client, both.client) == both.client ? 0 : -1);
    VALUE("dup3 to itself", dup3(both.client, both.client, 0));
    VALUE("dup2 of a closed one", dup2(999, both.client));
    VALUE("dup2 to a negative number", dup2(both.client, -1));
    VALUE("dup3 with unknown flags", dup3(both.client, 100, 1));
    VALUE("dup2 to a free number", dup2(both.client, 100) == 100 ? 0 : -1);
    say("the number and the peer", "%s", joined(100, both.server));
    VALUE("dup3, close-on-exec", dup3(both.client, 101, O_CLOEXEC) == 101 ? 0 : -1);
    VALUE("its flags", fcntl(101, F_GETFD));
    Pair other = pair();
    VALUE("dup2 over another connection", dup2(both.client, other.client) == other.client ? 0 : -1);
    VALUE("the other's end", recv(other.server, text, 1, 0));
    say("the number then", "%s", joined(other.client, both.server));
    int pipes[2];
    pipe(pipes);
    VALUE("dup2 of a pipe over a socket", dup2(pipes[1], 100) == 100 ? 0 : -1);
    VALUE("writing to it", write(100, "p", 1));
    VALUE("reading the pipe", read(pipes[0], text, 5));
    VALUE("dup2 of a socket over a pipe", dup2(both.client, pipes[1]) == pipes[1] ? 0 : -1);
    VALUE("send through it", send(pipes[1], "s", 1, 0));
    VALUE("recv of that", recv(both.server, text, 5, 0));
    close(pipes[0]);
    close(pipes[1]);
    close(100);
    close(101);
    close_pair(other);
    close_pair(both);
}

static void control(void)
{
    group("fcntl");
    Pair both = pair();
    int fd = both.client;
    int copy = fcntl(fd, F_DUPFD, 200);
    say("F_DUPFD from 200 on", "%s", copy >= 200 && copy < 210 ? "as asked" : outcome(copy));
    close(copy);
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    VALUE("F_DUPFD_CLOEXEC, its flags", fcntl(copy, F_GETFD));
    say("the copy and the peer", "%s", joined(copy, both.server));
    VALUE("F_SETFL of the copy", fcntl(copy, F_SETFL, O_NONBLOCK));
    VALUE("F_GETFL of the first", fcntl(fd, F_GETFL));
    VALUE("recv of the first", recv(fd, text, 1, 0));
    VALUE("F_SETFD of the copy", fcntl(copy, F_SETFD, 0));
    VALUE("F_GETFD of the copy", fcntl(copy, F_GETFD));
    VALUE("F_GETFD of the first", fcntl(fd, F_GETFD));
    close(copy);
    VALUE("F_DUPFD beyond the limit", fcntl(fd, F_DUPFD, 1 << 30));
    VALUE("F_DUPFD of a negative number", fcntl(fd, F_DUPFD, -1));
    VALUE("F_SETFL with more flags", fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND));
    VALUE("F_GETFL then", fcntl(fd, F_GETFL));
    VALUE("F_SETFL to nothing", fcntl(fd, F_SETFL, 0));
    VALUE("F_GETFL at last", fcntl(fd, F_GETFL));
    VALUE("unknown command", fcntl(fd, 9999, 0));
    VALUE("F_GETOWN", fcntl(fd, F_GETOWN));
    VALUE("F_GETSIG", fcntl(fd, F_GETSIG));
    struct flock lock = {.l_type = F_RDLCK};
    VALUE("F_GETLK", fcntl(fd, F_GETLK, &lock));
    VALUE("F_GETPIPE_SZ", fcntl(fd, F_GETPIPE_SZ));
    VALUE("F_GET_SEALS", fcntl(fd, F_GET_SEALS));
    VALUE("F_GETFL of a closed one", fcntl(999, F_GETFL));
    int one = 1;
    VALUE("FIONBIO", ioctl(fd, FIONBIO, &one));
    VALUE("F_GETFL after FIONBIO", fcntl(fd, F_GETFL));
    one = 0;
    ioctl(fd, FIONBIO, &one);
    VALUE("FIOCLEX", ioctl(fd, FIOCLEX));
    VALUE("F_GETFD after FIOCLEX", fcntl(fd, F_GETFD));
    VALUE("FIONCLEX", ioctl(fd, FIONCLEX));
    VALUE("F_GETFD after FIONCLEX", fcntl(fd, F_GETFD));
    close_pair(both);
}

static void ioctls(void)
{
    group("ioctl");
    Pair both = pair();
    int value = -1;
    VALUE("FIONREAD", ioctl(both.server, FIONREAD, &value));
    say("FIONREAD of nothing", "%d", value);
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 3);
    VALUE("SIOCINQ", ioctl(both.server, SIOCINQ, &value));
    say("SIOCINQ of three bytes", "%d", value);
    usleep(SHORT * 1000);
    VALUE("SIOCOUTQ", ioctl(both.client, SIOCOUTQ, &value));
    say("SIOCOUTQ of what was taken", "%d", value);
    VALUE("SIOCOUTQNSD", ioctl(both.client, SIOCOUTQNSD, &value));
    say("SIOCOUTQNSD of what was sent", "%d", value);
    VALUE("SIOCATMARK", ioctl(both.server, SIOCATMARK, &value));
    struct termios modes;
    VALUE("TCGETS", ioctl(both.client, TCGETS, &modes));
    VALUE("unknown", ioctl(both.client, 0x12345678, &value));
    VALUE("FIONREAD to null", ioctl(both.client, FIONREAD, NULL));
    struct ifreq interface = {.ifr_name = "lo"};
    VALUE("SIOCGIFINDEX", ioctl(both.client, SIOCGIFINDEX, &interface));
    strcpy(interface.ifr_name, "lo");
    VALUE("SIOCGIFFLAGS", ioctl(both.client, SIOCGIFFLAGS, &interface));
    VALUE("isatty", isatty(both.client));
    VALUE("tcgetattr", tcgetattr(both.client, &modes));
    close_pair(both);
    int listening = listener();
    VALUE("FIONREAD of a listener", ioctl(listening, FIONREAD, &value));
    VALUE("SIOCOUTQ of a listener", ioctl(listening, SIOCOUTQ, &value));
    close(listening);
    int fresh = tcp();
    VALUE("FIONREAD of a fresh one", ioctl(fresh, FIONREAD, &value));
    VALUE("SIOCATMARK of a fresh one", ioctl(fresh, SIOCATMARK, &value));
    VALUE("SIOCOUTQ of a fresh one", ioctl(fresh, SIOCOUTQ, &value));
    close(fresh);
    VALUE("FIONREAD of a closed one", ioctl(999, FIONREAD, &value));
}

static void files(void)
{
    group("as a file");
    Pair both = pair();
    int fd = both.client;
    struct stat status, other;
    VALUE("fstat", fstat(fd, &status));
    say("kind", "%o", status.st_mode & S_IFMT);
    say("permissions", "%o", status.st_mode & 07777);
    say("size", "%ld", (long)status.st_size);
    say("links", "%ld", (long)status.st_nlink);
    fstat(both.server, &other);
    say("inodes", "%s", status.st_ino == other.st_ino ? "same" : "different");
    int copy = dup(fd);
    fstat(copy, &other);
    say("inode of a copy", "%s", status.st_ino == other.st_ino ? "same" : "different");
    close(copy);
    VALUE("fstatat of an empty path", fstatat(fd, "", &other, AT_EMPTY_PATH));
    say("kind by fstatat", "%o", other.st_mode & S_IFMT);
    struct statx extended;
    VALUE("statx", statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &extended));
    say("kind by statx", "%o", extended.stx_mode & S_IFMT);
    struct statfs system;
    VALUE("fstatfs", fstatfs(fd, &system));
    say("kind of file system", "%lx", (long)system.f_type);
    char path[100], target[100] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    say("/proc/self/fd", "%s", n > 0 && strncmp(target, "socket:[", 8) == 0 ? "a socket" : target);
    VALUE("open of /proc/self/fd", open(path, O_RDWR));
    VALUE("fsync", fsync(fd));
    VALUE("fdatasync", fdatasync(fd));
    VALUE("ftruncate", ftruncate(fd, 0));
    VALUE("fallocate", fallocate(fd, 0, 0, 1));
    VALUE("posix_fadvise", posix_fadvise(fd, 0, 1, POSIX_FADV_NORMAL));
    VALUE("lseek", lseek(fd, 0, SEEK_CUR));
    VALUE("mmap", mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    VALUE("fchdir", fchdir(fd));
    VALUE("getdents", syscall(217, fd, text, sizeof text));
    VALUE("flock", flock(fd, LOCK_SH | LOCK_NB));
    VALUE("fgetxattr", fgetxattr(fd, "user.x", text, sizeof text));
    VALUE("readahead", readahead(fd, 0, 1));
    VALUE("sync_file_range", sync_file_range(fd, 0, 1, 0));
    VALUE("openat below it", openat(fd, "x", O_RDONLY));
    close_pair(both);
}

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void ranges(void)
{
    group("close_range");
    Pair both = pair();
    int low = 300;
    dup2(both.client, low);
    dup2(both.server, low + 1);
    dup2(0, low + 2);
    VALUE("bad range", close_range(low + 1, low, 0));
    VALUE("unknown flags", close_range(low, low + 2, 1 << 10));
    VALUE("close-on-exec", close_range(low, low + 2, CLOSE_RANGE_CLOEXEC));
    VALUE("flags of a socket", fcntl(low, F_GETFD));
    VALUE("flags of a file", fcntl(low + 2, F_GETFD));
    VALUE("closing", close_range(low, low + 2, 0));
    say("what is open", "%d %d %d", is_open(low), is_open(low + 1), is_open(low + 2));
    say("the connection", "%s", joined(both.client, both.server));
    dup2(both.client, low);
    close(both.client);
    VALUE("closing the last", close_range(low, low + 5, 0));
    VALUE("the end", recv(both.server, text, 1, 0));
    VALUE("closing nothing", close_range(low, low + 5, 0));
    dup2(both.server, low);
    closefrom(low);
    VALUE("after closefrom", fcntl(low, F_GETFD));
    VALUE("the server", fcntl(both.server, F_GETFD));
    close(both.server);
}

static void numbers(void)
{
    group("numbers");
    int fd = tcp();
    close(fd);
    VALUE("recv of a closed one", recv(fd, text, 1, 0));
    VALUE("read of a closed one", read(fd, text, 1));
    VALUE("fcntl of a closed one", fcntl(fd, F_GETFL));
    VALUE("fstat of a closed one", fstat(fd, &(struct stat){0}));
    VALUE("dup of a closed one", dup(fd));
    say("poll of a closed one", "%s", events_text(await(fd, POLLIN, 0)));
    int again = tcp();
    say("the next socket", "%s", again == fd ? "has its number" : "has another");
    VALUE("it is", fcntl(again, F_GETFL));
    close(again);
    int file = open("/dev/null", O_RDWR);
    VALUE("a file's write", write(file, "x", 1));
    VALUE("a file's send", send(file, "x", 1, 0));
    close(file);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    duplicates();
    control();
    ioctls();
    files();
    ranges();
    numbers();
    return 0;
}
