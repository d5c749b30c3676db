/* The limit: what an echo server costs when nothing but the system calls is left.
 *
 * One thread, one level-triggered epoll set, one shared buffer: a wake-up for a batch of
 * connections, one recv() and one send() for each.  Level-triggered is cheaper here: an
 * edge-triggered server must read until EAGAIN or trust a short read, and saves nothing, because
 * the interest in a descriptor changes only when the peer does not read.  Bytes that the kernel
 * does not accept are kept, and nothing is read from that connection until they are sent.  At the
 * end of input the rest is sent, then the connection is closed.
 *
 * usage: echo_epoll        serves a free port of 127.0.0.1
 */
#define _GNU_SOURCE
#include <errno.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER (256 * 1024)

struct connection {
    int fd;
    char *kept; /* NULL, or what the kernel did not take */
    size_t kept_length, kept_sent;
};

static int epoll_fd;
static char buffer[BUFFER];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void finish(struct connection *c)
{
    close(c->fd);
    free(c->kept);
    free(c);
}

static void watch(struct connection *c, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event))
        die("epoll_ctl");
}

static void on_readable(struct connection *c)
{
    ssize_t n = recv(c->fd, buffer, BUFFER, 0);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            finish(c);
        return;
    }
    ssize_t sent = send(c->fd, buffer, (size_t)n, MSG_NOSIGNAL);
    if (sent == n)
        return;
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            finish(c);
            return;
        }
        sent = 0;
    }
    c->kept_length = (size_t)(n - sent);
    c->kept_sent = 0;
    c->kept = malloc(c->kept_length);
    if (!c->kept)
        die("malloc");
    memcpy(c->kept, buffer + sent, c->kept_length);
    watch(c, EPOLLOUT);
}

static void on_writable(struct connection *c)
{
    ssize_t sent = send(c->fd, c->kept + c->kept_sent, c->kept_length - c->kept_sent, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR)
            finish(c);
        return;
    }
    c->kept_sent += (size_t)sent;
    if (c->kept_sent < c->kept_length)
        return;
    free(c->kept);
    c->kept = NULL;
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
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
            die("epoll_ctl");
    }
}

int main(void)
{
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
            else if (c->kept)
                on_writable(c);
            else
                on_readable(c);
        }
    }
}
