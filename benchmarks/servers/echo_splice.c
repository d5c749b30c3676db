/* The limit in bulk: splice(2) from the socket into a pipe and back, so that the bytes never enter
 * the process.
 *
 * One thread, one level-triggered epoll set, a pipe for each connection.  What is in the pipe and
 * does not fit into the socket stays there, and nothing is read from that connection until it is
 * out.  At the end of input the connection is closed; by then its pipe is empty.
 *
 * usage: echo_splice       serves a free port of 127.0.0.1
 */
#define _GNU_SOURCE
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPE (256 * 1024)

struct connection {
    int fd;
    int pipe[2];
    size_t held; /* bytes in the pipe */
};

static int epoll_fd;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void finish(struct connection *c)
{
    close(c->fd);
    close(c->pipe[0]);
    close(c->pipe[1]);
    free(c);
}

static void watch(struct connection *c, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event))
        die("epoll_ctl");
}

/* Moves what the pipe holds to the socket; returns whether the connection is still there. */
static int empty_pipe(struct connection *c)
{
    ssize_t n = splice(c->pipe[0], NULL, c->fd, NULL, c->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n > 0)
        c->held -= (size_t)n;
    else if (errno != EAGAIN && errno != EINTR) {
        finish(c);
        return 0;
    }
    return 1;
}

static void on_readable(struct connection *c)
{
    ssize_t n = splice(c->fd, NULL, c->pipe[1], NULL, PIPE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            finish(c);
        return;
    }
    c->held = (size_t)n;
    if (empty_pipe(c) && c->held)
        watch(c, EPOLLOUT);
}

static void on_writable(struct connection *c)
{
    if (empty_pipe(c) && !c->held)
        watch(c, EPOLLIN);
}

static void on_listening(int listener)
{
    const int on = 1;
    for (int i = 0; i < 128; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return; /* EAGAIN; anything else comes again or goes with its client */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = calloc(1, sizeof *c);
        if (!c)
            die("calloc");
        c->fd = fd;
        if (pipe2(c->pipe, O_NONBLOCK | O_CLOEXEC))
            die("pipe2");
        /* Beyond the limit of pipe(7), it stays at 64 KiB. */
        fcntl(c->pipe[1], F_SETPIPE_SZ, PIPE);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
            die("epoll_ctl");
    }
}

int main(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address)
        || listen(listener, 4096))
        die("listen");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    socklen_t length = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &length))
        die("getsockname");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event))
        die("epoll");
    for (;;) {
        struct epoll_event events[1024];
        int n = epoll_wait(epoll_fd, events, 1024, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c)
                on_listening(listener);
            else if (c->held)
                on_writable(c);
            else
                on_readable(c);
        }
    }
}
