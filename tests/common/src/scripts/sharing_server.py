"""A server whose sockets are used by several processes: sharing_server.py CASE PORT

Each case serves as its function says; what a client reads is told in tests/sharing.rs.
"""

import ctypes
import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile


def listener(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port))
    s.listen(128)
    return s


def child(body):
    """Runs body in a child, which ends after it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return pid


def reap(*pids):
    for pid in pids:
        if os.waitpid(pid, 0)[1] != 0:
            sys.exit("a child has failed")


def accepted(s):
    """The parent closes its copy of a connection before the child has said a word."""
    c, _ = s.accept()
    reading, writing = os.pipe()

    def talk():
        os.read(reading, 1)
        c.sendall(b"from the child\n")
        c.sendall(b"echo " + c.recv(100))

    pid = child(talk)
    c.close()
    os.write(writing, b"x")
    reap(pid)


def closes_everything(s):
    """A child closes all it has inherited (as redis does to save), the parent goes on."""
    c, _ = s.accept()
    reap(child(lambda: os.closerange(3, 1000)))
    c.sendall(b"echo " + c.recv(100))
    again, _ = s.accept()
    again.sendall(b"still listening\n")


def readers(s):
    """Two processes read one connection until its end, and tell how much each got, and of what."""
    c, _ = s.accept()
    reading, writing = os.pipe()

    def read():
        count, total = 0, 0
        while piece := c.recv(1000):
            count += len(piece)
            total += sum(piece)
        os.write(writing, b"%d %d\n" % (count, total))

    reap(child(read), child(read))
    os.close(writing)
    counts = [line.split() for line in os.fdopen(reading)]
    count, total = (sum(int(line[i]) for line in counts) for i in (0, 1))
    c.sendall(b"%d bytes, sum %d\n" % (count, total))


def writers(s):
    """Two processes write to one connection, a line at a time."""
    c, _ = s.accept()

    def write(word):
        for _ in range(1000):
            c.sendall(word)

    reap(child(lambda: write(b"abcdefg\n")), child(lambda: write(b"1234567\n")))


def workers(s):
    """Three workers share the listener, each with an epoll set of its own."""
    s.setblocking(False)

    def work(number):
        epoll = select.epoll()
        epoll.register(s, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        while True:
            epoll.poll()
            try:
                c, _ = s.accept()
            except BlockingIOError:
                continue
            with c:
                c.sendall(b"worker %d\n" % number)

    pids = [child(lambda: work(number)) for number in range(3)]
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGKILL) for pid in pids])
    for pid in pids:
        os.waitpid(pid, 0)


def blocking_workers(s):
    """Two workers block in accept; each serves one connection."""

    def work():
        c, _ = s.accept()
        c.sendall(b"served\n")

    pids = [child(work), child(work)]
    s.close()
    reap(*pids)


def daemon(s):
    """Becomes a daemon after listen()."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    c, _ = s.accept()
    c.sendall(b"from the daemon\n")


def epoll(s):
    """A child waits with the epoll set that its parent has filled."""
    c, _ = s.accept()
    poller = select.epoll()
    poller.register(c, select.EPOLLIN)

    def wait():
        assert poller.poll() == [(c.fileno(), select.EPOLLIN)]
        c.sendall(b"echo " + c.recv(100))

    pid = child(wait)
    c.close()
    reap(pid)


def killed(s):
    """The only process that has the connection is killed."""
    c, _ = s.accept()
    pid = child(signal.pause)
    c.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    s.accept()


def generations(s):
    """A connection goes from child to grandchild, each of which has one more."""
    c, _ = s.accept()
    for depth in range(5):
        if os.fork():
            os._exit(0)
        c.sendall(b"generation %d\n" % depth)


def talk(fd):
    """What a program does that was executed with a connection under `fd`."""
    c = socket.socket(fileno=fd)
    assert (c.family, c.type) == (socket.AF_INET, socket.SOCK_STREAM)
    c.sendall(b"after exec from %s\n" % c.getpeername()[0].encode())
    c.sendall(b"echo " + c.recv(100))


def serve_one(fd):
    """What a program does that was executed with a listener under `fd`."""
    s = socket.socket(fileno=fd)
    with s.accept()[0] as c:
        c.sendall(b"served after exec\n")


def again(function, fd, *rest):
    """The command that runs a function of this script in a fresh interpreter."""
    return [sys.executable, __file__, "--call", function, str(fd), *rest]


def exec_connection(s):
    """A child executes a program with the connection as its descriptors 0 and 1, as inetd does."""
    c, _ = s.accept()

    def become():
        for fd in (0, 1):
            os.dup2(c.fileno(), fd)
        os.execv(sys.executable, again("talk", 0))

    pid = child(become)
    c.close()
    reap(pid)


def exec_with_environment_cut(s):
    """The program is executed with an empty environment."""
    c, _ = s.accept()
    c.set_inheritable(True)
    os.execve(sys.executable, again("talk", c.fileno()), {})


def exec_listener(s):
    """The program itself is executed anew with its listener, as haproxy and nginx do to upgrade."""
    s.set_inheritable(True)
    os.execv(sys.executable, again("serve_one", s.fileno()))


def exec_that_fails(s):
    """A failed exec changes nothing."""
    c, _ = s.accept()
    c.set_inheritable(True)
    s.set_inheritable(True)
    for path in ("/does/not/exist", "/etc/passwd"):
        try:
            os.execv(path, [path])
        except OSError:
            pass
    c.sendall(b"echo " + c.recv(100))
    again, _ = s.accept()
    again.sendall(b"still listening\n")


def spawned(s):
    """A program that posix_spawn starts has the connection; the parent closes it at once."""
    c, _ = s.accept()
    c.set_inheritable(True)
    pid = os.posix_spawn(sys.executable, again("talk", c.fileno()), os.environ)
    c.close()
    reap(pid)


def spawned_with_actions(s):
    """posix_spawn copies a descriptor that has FD_CLOEXEC."""
    c, _ = s.accept()
    actions = [(os.POSIX_SPAWN_DUP2, c.fileno(), 0)]
    pid = os.posix_spawn(sys.executable, again("talk", 0), {}, file_actions=actions)
    c.close()
    reap(pid)


def vforked(s):
    """subprocess uses vfork, and its child closes what it has not been told to keep."""
    c, _ = s.accept()
    other, _ = s.accept()
    process = subprocess.Popen(again("talk", c.fileno()), pass_fds=[c.fileno()])
    as_input = subprocess.Popen(again("talk", 0), stdin=other.fileno())
    c.close()
    other.close()
    assert process.wait() == as_input.wait() == 0
    with s.accept()[0] as c:
        c.sendall(b"still listening\n")


def closes_in_vfork(s):
    """The child of a vfork closes everything; nothing is taken from the parent."""
    c, _ = s.accept()
    for close_fds in (True, False):
        subprocess.run(["true"], close_fds=close_fds, check=True)
    assert os.system("exec 3>&- 4>&- 5>&- 6>&-") == 0
    with os.popen("cat /dev/null") as pipe:
        assert pipe.read() == ""
    c.sendall(b"echo " + c.recv(100))


def cloned_by_number(s):
    """A child for each connection, made by the number of a system call; the parent closes at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    # SIGCHLD in clone3's struct clone_args.
    arguments = struct.pack("8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    fork, clone, clone3 = 57, 56, 435
    for call in (fork, 0), (clone, signal.SIGCHLD, 0, 0, 0, 0), (clone3, arguments, len(arguments)):
        c, _ = s.accept()
        reading, writing = os.pipe()
        by_number = (ctypes.c_long(a) if isinstance(a, int) else a for a in call)
        pid = libc.syscall(*by_number)
        if pid == 0:
            os.read(reading, 1)
            c.sendall(b"echo " + c.recv(100))
            os._exit(0)
        c.close()
        os.write(writing, b"x")
        reap(pid)


def by_shell(s):
    """A shell writes to the connection."""
    c, _ = s.accept()
    c.set_inheritable(True)
    assert os.system("echo from the shell >&%d" % c.fileno()) == 0


def passed(s):
    """A connection goes to another process in a message, and the sender closes it at once."""
    c, _ = s.accept()
    ours, theirs = socket.socketpair()
    ready, go = os.pipe()

    def receive():
        s.close()
        os.read(ready, 1)
        _, fds, _, _ = socket.recv_fds(theirs, 10, 4)
        os.close(go)
        talk(fds[0])

    pid = child(receive)
    socket.send_fds(ours, [b"here"], [c.fileno()])
    c.close()
    os.write(go, b"x")
    reap(pid)


def passed_to_stranger(s):
    """A connection and the listener go to a program that was started before there were any."""
    ours, theirs = socket.socketpair()
    receiver = subprocess.Popen(again("receive", theirs.fileno()), pass_fds=[theirs.fileno()])
    theirs.close()
    c, _ = s.accept()
    socket.send_fds(ours, [b"here"], [c.fileno(), s.fileno()])
    c.close()
    s.close()
    sys.exit(receiver.wait())


def receive(fd):
    """Takes a connection and a listener from a message, serves both, and passes a connection on."""
    theirs = socket.socket(fileno=fd)
    _, fds, _, _ = socket.recv_fds(theirs, 10, 4)
    c, s = (socket.socket(fileno=fd) for fd in fds)
    assert c.type == s.type == socket.SOCK_STREAM and not os.isatty(fds[0])
    c.sendall(b"passed\n")
    c.close()
    last, _ = s.accept()
    # In the message alone for a moment.
    here, there = socket.socketpair()
    socket.send_fds(here, [b"x"], [last.fileno()])
    last.close()
    last = socket.socket(fileno=socket.recv_fds(there, 10, 4)[1][0])
    last.sendall(b"served by the receiver\n")


def bound_in_message(s):
    """A socket that is bound and does not listen goes to two programs, of which the second listens."""
    c, _ = s.accept()
    s.close()
    bound = socket.socket()
    bound.bind(("0.0.0.0", 0))
    port = bound.getsockname()[1]
    receivers = []
    for part in "leave", "listen":
        ours, theirs = socket.socketpair()
        command = again("receive_bound", theirs.fileno(), part)
        receiver = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        socket.send_fds(ours, [b"here"], [bound.fileno()])
        receivers.append((ours, receiver))
    bound.close()
    for ours, receiver in receivers:
        assert ours.recv(10) == b"ready"
    (_, leaves), (goes_on, listens) = receivers
    assert leaves.wait() == 0
    goes_on.send(b"go")
    assert goes_on.recv(10) == b"listening"
    c.sendall(b"%d\n" % port)
    c.close()
    sys.exit(listens.wait())


def receive_bound(fd, part):
    """Takes a bound socket from a message, and serves a connection or leaves."""
    theirs = socket.socket(fileno=fd)
    s = socket.socket(fileno=socket.recv_fds(theirs, 10, 4)[1][0])
    theirs.send(b"ready")
    if part == "listen":
        assert theirs.recv(10) == b"go"
        s.listen(16)
        theirs.send(b"listening")
        c, _ = s.accept()
        c.sendall(b"served by the receiver\n")


def taken(s):
    """pidfd_getfd of a socket of the stack fails with an error that says so."""
    c, _ = s.accept()
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(os.getpid())
    SYS_pidfd_getfd = 438
    results = [libc.syscall(SYS_pidfd_getfd, pidfd, c.fileno(), 0), ctypes.get_errno()]
    file = os.open("/dev/null", os.O_RDONLY)
    assert libc.syscall(SYS_pidfd_getfd, pidfd, file, 0) > 0
    assert results == [-1, errno.EOPNOTSUPP], results
    c.sendall(b"refused\n")


def confined(s):
    """A child that may only read, write, poll and exit, as that of sshd, talks."""
    c, _ = s.accept()
    c.setblocking(False)
    reading, writing = os.pipe()

    def confined_talk():
        poller = select.poll()
        poller.register(c, 0)
        poller.register(reading, select.POLLIN)
        confine()
        # After a second, a wait looks whether the engine lives.
        assert poller.poll(1200) == []
        poller.modify(c, select.POLLIN)
        assert poller.poll() == [(c.fileno(), select.POLLIN)]
        os.write(c.fileno(), b"echo " + os.read(c.fileno(), 100))

    pid = child(confined_talk)
    c.close()
    reap(pid)


def confine():
    """Kills this process at any system call that sends a message or makes a descriptor."""
    forbidden = [41, 42, 44, 45, 46, 47, 53, 55, 290, 291]
    program = [(0x20, 0, 0, 0)]
    for number in forbidden:
        program += [(0x15, 0, 1, number), (0x06, 0, 0, 0x80000000)]
    program += [(0x06, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) == 0


def cannot_enter(s):
    """A static program is executed with a connection as its output."""
    c, _ = s.accept()
    with tempfile.TemporaryDirectory() as folder:
        program = folder + "/program"
        source = b"#include <stdio.h>\nint main(void) { puts(\"x\"); return fflush(stdout) != EOF; }"
        command = ["cc", "-static", "-x", "c", "-", "-o", program]
        subprocess.run(command, input=source, check=True)

        def become():
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            os.dup2(c.fileno(), 1)
            os.execv(program, [program])

        pid = child(become)
        c.close()
        reap(pid)


if __name__ == "__main__":
    if sys.argv[1] == "--call":
        globals()[sys.argv[2]](int(sys.argv[3]), *sys.argv[4:])
        sys.exit()
    case, port = globals()[sys.argv[1]], int(sys.argv[2])
    case(listener(port))
