/* sendfile, splice, tee, copy_file_range, and stdio streams on sockets. */
#include "check.h"
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

static char text[100000];

/* A file of so many bytes. */
static int file_of(int bytes)
{
    int file = memfd_create("file", 0);
    for (int i = 0; i < bytes; i++)
        text[i] = 'a' + i % 26;
    write(file, text, bytes);
    lseek(file, 0, SEEK_SET);
    return file;
}

static void sending_files(void)
{
    group("sendfile");
    Pair both = pair();
    int file = file_of(5000);
    VALUE("from the file's place", sendfile(both.client, file, NULL, 100));
    VALUE("the file's place then", lseek(file, 0, SEEK_CUR));
    off_t offset = 1000;
    VALUE("from an offset", sendfile(both.client, file, &offset, 200));
    say("the offset then", "%ld", (long)offset);
    VALUE("the file's place still", lseek(file, 0, SEEK_CUR));
    VALUE("more than there is", sendfile(both.client, file, NULL, 100000));
    VALUE("at the end", sendfile(both.client, file, NULL, 100));
    VALUE("nothing", sendfile(both.client, file, NULL, 0));
    VALUE("what came", recv(both.server, text, 5100, MSG_WAITALL));
    say("it begins and ends with", "%c %c", text[0], text[5099]);
    offset = -1;
    VALUE("from a negative offset", sendfile(both.client, file, &offset, 10));
    offset = 9999;
    VALUE("from beyond the end", sendfile(both.client, file, &offset, 10));
    send(both.client, "abc", 3, 0);
    await_bytes(both.server, 3);
    int copy = memfd_create("copy", 0);
    VALUE("from a socket to a file", sendfile(copy, both.server, NULL, 3));
    offset = 0;
    VALUE("from a socket with an offset", sendfile(copy, both.server, &offset, 3));
    VALUE("from a socket to a socket", sendfile(both.client, both.server, NULL, 3));
    VALUE("from a closed one", sendfile(both.client, 999, NULL, 3));
    VALUE("to a closed one", sendfile(999, file, NULL, 3));
    int read_only = open("/proc/self/exe", O_RDONLY), write_only = open("/dev/null", O_WRONLY);
    VALUE("from a file that cannot be read", sendfile(both.client, write_only, NULL, 3));
    VALUE("from a program", sendfile(both.client, read_only, NULL, 3));
    close(read_only);
    close(write_only);
    shutdown(both.client, SHUT_WR);
    lseek(file, 0, SEEK_SET);
    VALUE("after shutdown", sendfile(both.client, file, NULL, 3));
    int fresh = tcp();
    VALUE("to a fresh socket", sendfile(fresh, file, NULL, 3));
    close(fresh);
    close(file);
    close(copy);
    close_pair(both);

    both = pair();
    file = file_of(100000);
    set_nonblocking(both.client, true);
    long total = 0;
    for (int refused = 0; refused < 10;) {
        lseek(file, 0, SEEK_SET);
        ssize_t n = sendfile(both.client, file, NULL, 100000);
        total += n > 0 ? n : 0;
        refused = n > 0 ? 0 : refused + 1;
        if (n <= 0)
            usleep(SHORT * 1000);
    }
    VALUE("when full", sendfile(both.client, file, NULL, 100000));
    close(both.client);
    long got = 0;
    ssize_t n;
    while ((n = recv(both.server, text, sizeof text, 0)) > 0)
        got += n;
    say("all that was sent", "%s", got == total ? "came" : "did not come");
    close(both.server);
    close(file);
}

static void splices(void)
{
    group("splice");
    Pair both = pair();
    int pipes[2], others[2];
    pipe(pipes);
    pipe(others);
    write(pipes[1], "piped", 5);
    VALUE("from a pipe", splice(pipes[0], NULL, both.client, NULL, 5, 0));
    VALUE("what came", recv(both.server, text, 10, 0));
    VALUE("from an empty pipe", splice(pipes[0], NULL, both.client, NULL, 5, SPLICE_F_NONBLOCK));
    send(both.client, "abcdef", 6, 0);
    await_bytes(both.server, 6);
    VALUE("to a pipe", splice(both.server, NULL, pipes[1], NULL, 4, 0));
    VALUE("what is in the pipe", read(pipes[0], text, 10));
    say("it is", "%.4s", text);
    VALUE("the rest", splice(both.server, NULL, pipes[1], NULL, 100, SPLICE_F_MOVE | SPLICE_F_MORE));
    VALUE("tee", tee(pipes[0], others[1], 10, 0));
    VALUE("what was teed", read(others[0], text, 10));
    VALUE("onwards to a socket", splice(pipes[0], NULL, both.client, NULL, 10, 0));
    await_bytes(both.server, 2);
    VALUE("what arrived", recv(both.server, text, 10, 0));
    set_nonblocking(both.server, true);
    VALUE("of an empty stream", splice(both.server, NULL, pipes[1], NULL, 4, 0));
    VALUE("nothing", splice(both.server, NULL, pipes[1], NULL, 0, 0));
    loff_t offset = 0;
    VALUE("with an offset of the socket", splice(both.server, &offset, pipes[1], NULL, 4, 0));
    VALUE("with an offset of the pipe", splice(both.server, NULL, pipes[1], &offset, 4, 0));
    VALUE("between sockets", splice(both.server, NULL, both.client, NULL, 4, 0));
    VALUE("with unknown flags", splice(both.server, NULL, pipes[1], NULL, 4, 0x100));
    VALUE("of a closed one", splice(999, NULL, pipes[1], NULL, 4, 0));
    VALUE("to a closed one", splice(pipes[0], NULL, 999, NULL, 4, 0));
    VALUE("tee of a socket", tee(both.server, pipes[1], 4, 0));
    VALUE("vmsplice to a socket", vmsplice(both.client, &(struct iovec){text, 1}, 1, 0));
    VALUE("copy_file_range", copy_file_range(both.server, NULL, both.client, NULL, 4, 0));
    close(others[0]);
    write(pipes[1], "x", 1);
    shutdown(both.client, SHUT_WR);
    VALUE("after shutdown", splice(pipes[0], NULL, both.client, NULL, 1, 0));
    await(both.server, POLLRDHUP, LONG);
    VALUE("at the end", splice(both.server, NULL, pipes[1], NULL, 4, 0));
    int fresh = tcp();
    VALUE("of a fresh socket", splice(fresh, NULL, pipes[1], NULL, 4, 0));
    VALUE("to a fresh socket", splice(pipes[0], NULL, fresh, NULL, 1, 0));
    close(fresh);
    close(pipes[0]);
    close(pipes[1]);
    close(others[1]);
    close_pair(both);
}

static void streams(void)
{
    group("stdio");
    Pair both = pair();
    FILE *stream = fdopen(both.client, "r+");
    say("fdopen", "%s", stream ? "ok" : error_name(errno));
    VALUE("fileno", fileno(stream) == both.client);
    VALUE("fprintf", fprintf(stream, "hello %d\n", 42));
    VALUE("fflush", fflush(stream));
    VALUE("what came", recv(both.server, text, 100, 0));
    send(both.server, "line one\nline two\n", 18, 0);
    char line[100] = "";
    say("fgets", "%s", fgets(line, sizeof line, stream) ? "ok" : "nothing");
    say("the line", "%.8s", line);
    say("fgets again", "%s", fgets(line, sizeof line, stream) ? "ok" : "nothing");
    VALUE("ungetc", ungetc('x', stream));
    VALUE("fgetc", fgetc(stream));
    VALUE("fseek", fseek(stream, 0, SEEK_SET));
    VALUE("ftell", ftell(stream));
    VALUE("setvbuf", setvbuf(stream, NULL, _IONBF, 0));
    VALUE("fputs", fputs("unbuffered", stream));
    VALUE("what came of it", recv(both.server, text, 100, 0));
    shutdown(both.server, SHUT_WR);
    VALUE("fgetc at the end", fgetc(stream));
    VALUE("feof", feof(stream) != 0);
    VALUE("ferror", ferror(stream) != 0);
    VALUE("fclose", fclose(stream));
    VALUE("recv there", recv(both.server, text, 100, 0));
    VALUE("the number", fcntl(both.client, F_GETFD));
    close(both.server);

    both = pair();
    VALUE("dprintf", dprintf(both.client, "%s %d", "formatted", 7));
    VALUE("what came of dprintf", recv(both.server, text, 100, 0));
    FILE *in = fdopen(both.server, "r"), *out = fdopen(both.client, "w");
    VALUE("fwrite", fwrite("0123456789", 1, 10, out));
    VALUE("nothing before a flush", await(both.server, POLLIN, SHORT));
    VALUE("fclose of the writer", fclose(out));
    VALUE("fread", fread(text, 1, 100, in));
    VALUE("fread again", fread(text, 1, 100, in));
    VALUE("fclose of the reader", fclose(in));
    say("fdopen of a closed one", "%s", fdopen(both.client, "r") ? "ok" : error_name(errno));
    both = pair();
    say("fdopen with a bad mode", "%s", fdopen(both.client, "x") ? "ok" : error_name(errno));
    char *read_line = NULL;
    size_t room = 0;
    in = fdopen(both.server, "r");
    send(both.client, "a whole line\n", 13, 0);
    VALUE("getline", getline(&read_line, &room, in));
    free(read_line);
    fclose(in);
    VALUE("send to who has closed", send(both.client, "x", 1, MSG_NOSIGNAL));
    close(both.client);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    sending_files();
    splices();
    streams();
    return 0;
}
