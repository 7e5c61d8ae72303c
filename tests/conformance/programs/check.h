/*
 * What the programs of the suite share. A check is one line on standard output, "NAME: OUTCOME". What
 * varies from run to run (descriptors, ports, times) is never part of an outcome.
 */
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Longest time that anything may take that is to happen, in milliseconds. */
#define LONG 10000
/* How long is waited for what is not to happen. */
#define SHORT 60

/* Begins a group of checks: its text stands before their names. A group that hangs ends the program. */
void group(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One check. */
void say(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The value of a call, or the name of its error. Lives until some calls later. */
const char *outcome(long value);
/* "ok" for whatever is no error, else the error's name: for values that vary. */
const char *success(long value);
/* The name of an error. */
const char *error_name(int error);

#define VALUE(name, call) say(name, "%s", outcome((errno = 0, (long)(call))))
#define OK(name, call) say(name, "%s", success((errno = 0, (long)(call))))

/* The address family under test, AF_INET unless `use_family` has changed it. */
extern int family;
void use_family(int which);

typedef struct {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
    };
    socklen_t len;
} Address;

/* An address of the family under test. */
Address address_of(const char *ip, int port);
Address loopback(int port);
Address any(int port);
Address local_of(int fd);
Address peer_of(int fd);
int port_of(Address address);
/* "127.0.0.1:port", with 0 as it is and any other number as "port". */
const char *text_of(Address address);

/* A TCP socket; the program ends if there is none. */
int tcp(void);
/* A socket that listens on the loopback. */
int listener(void);
/* A connection: [0] has connected, [1] was accepted. */
typedef struct {
    int client, server;
} Pair;
Pair pair(void);
void close_pair(Pair pair);
/* A connection whose server has reset it, which the client knows. */
int reset_client(void);

/* Waits for events; what came, or 0. */
int await(int fd, int events, int milliseconds);
/* Waits until so many bytes can be read. */
void await_bytes(int fd, int bytes);
/* The bytes that can be read. */
int pending(int fd);
/* The names of poll's events. */
const char *events_text(int events);
/* The socket's pending error, which is taken. */
int take_error(int fd);
void set_nonblocking(int fd, bool on);
bool is_nonblocking(int fd);
void set_option(int fd, int level, int option, int value);
int option_of(int fd, int level, int option);
long long milliseconds(void);

/* A child of fork(2), whose 0 it is; it is killed if it hangs. */
pid_t branch(void);
/* How a child ends, which is waited for; -1 for whichever ends first. */
const char *end_of(pid_t child);
/* What a peer hears of a socket now: "it is open", "it has ended", "it was reset". */
const char *seen_by(int peer);
/* The same, once it has ended. */
const char *seen_at_last_by(int peer);
