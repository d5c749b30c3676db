/* The load generator: one thread, one epoll set, every byte checked.
 *
 * Goals, in this order: never accept a wrong answer; never hide a stall; cost less per echo than
 * the server it measures.
 *
 * What is sent: connection i sends the byte stream  pattern[(start_i + p) mod PERIOD],  p = 0, 1, ...
 * where pattern is fixed random noise and start_i differs between connections.  A byte that is
 * lost, doubled, changed, out of order or from another connection therefore differs from what is
 * expected, and is found by memcmp() without the generator having to make or keep payloads.
 *
 * Modes:
 *   pingpong  each connection sends one message and sends the next when it is back (closed loop)
 *   stream    each connection keeps up to one message in flight, sending and receiving at once
 *   open      messages are sent at a fixed rate, whatever comes back.  Latency counts from the time
 *             at which a message should have been sent, so a stall shows in every message that it
 *             delays, not only in one ("coordinated omission")
 *   accept    connect, echo one message, half-close, wait for the end, close
 *   histogram reads numbers from stdin and prints their quantiles: for the test of the histogram
 *
 * Built with -DTLS it does the same over TLS 1.3, with one cipher and one group, so that all peers
 * compute the same: AES-128-GCM and X25519.  No session is resumed.  close_notify is the half-close.
 *
 * Steps, as lines on stdout (>) and stdin (<):
 *   > warm    connected, warmed up and quiet       < anything
 *   > idle    the idle neighbours are open         < anything
 *   > done    the measured run is over and quiet   < anything
 *   > {...}   the result; all connections closed cleanly
 * At a fault the next line is {"fault": "what happened"} and the exit code is 1.  It exits when
 * its stdin ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#define PERIOD 131071u       /* prime, so that no power of two of bytes is a multiple of it */
#define CHUNK (256u * 1024u) /* most that one recv() or send() moves */
#define FIRST_MESSAGE 64u    /* what a new connection echoes to prove that it is served */
#define CONNECTING_AT_ONCE 10 /* a short accept queue must not overflow */
#define SOURCES 32           /* 127.0.0.2 and up: 28,232 ports to each */

/* ---- histogram --------------------------------------------------------------------------------
 * Log-linear as in HDR histograms: values below 2^BITS are exact; above, each power of two is cut
 * into 2^(BITS-1) equal steps.  A quantile is reported as the upper edge of its step, so it is
 * never too low and at most 2^-(BITS-1) = 0.4% too high. */
#define BITS 9
#define HALF (1u << (BITS - 1))
#define BUCKETS ((64 - BITS + 2) * HALF)

struct histogram {
    uint64_t count, sum, min, max;
    uint64_t buckets[BUCKETS];
};

static unsigned bucket_of(uint64_t value)
{
    if (value < 2 * HALF)
        return (unsigned)value;
    unsigned shift = 64 - BITS - (unsigned)__builtin_clzll(value);
    return shift * HALF + (unsigned)(value >> shift);
}

static uint64_t upper_edge(unsigned bucket)
{
    if (bucket < 2 * HALF)
        return bucket;
    unsigned shift = bucket / HALF - 1;
    uint64_t base = bucket - shift * HALF;
    return ((base + 1) << shift) - 1;
}

static void record(struct histogram *h, uint64_t value)
{
    if (!h->count || value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
    h->count++;
    h->sum += value;
    h->buckets[bucket_of(value)]++;
}

/* The smallest recorded value that at least `permille` of all values do not exceed, rounded up to
 * the edge of its step. */
static uint64_t quantile(const struct histogram *h, uint64_t permille)
{
    uint64_t wanted = (h->count * permille + 999) / 1000, seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen && seen >= wanted) {
            uint64_t edge = upper_edge(i);
            return edge > h->max ? h->max : edge;
        }
    }
    return h->max;
}

static void print_histogram(const char *name, const struct histogram *h)
{
    printf("\"%s\": {\"count\": %" PRIu64 ", \"min\": %" PRIu64 ", \"mean\": %" PRIu64
           ", \"p50\": %" PRIu64 ", \"p90\": %" PRIu64 ", \"p99\": %" PRIu64 ", \"p99.9\": %" PRIu64
           ", \"max\": %" PRIu64 "}",
           name, h->count, h->min, h->count ? h->sum / h->count : 0, quantile(h, 500),
           quantile(h, 900), quantile(h, 990), quantile(h, 999), h->max);
}

/* ---- state ----------------------------------------------------------------------------------- */
enum mode { PINGPONG, STREAM, OPEN, ACCEPT };
enum phase { CONNECTING, TALKING, ENDING, CLOSED };

struct connection {
    int fd;
#ifdef TLS
    SSL *tls;
#endif
    uint32_t id, start;
    enum phase phase;
    bool wants_out;             /* EPOLLOUT is asked for */
    uint64_t sent, received;    /* bytes of this connection's stream */
    uint64_t due;               /* bytes that may have left by now */
    uint64_t base;              /* where the present run began in the stream */
    uint64_t completed;         /* messages of the present run that came back */
    uint64_t began[4];          /* when message k left: at k % 4 */
};

static enum mode mode;
static struct sockaddr_in server;
static struct connection *connections;
static unsigned active = 1, idle;
static uint64_t size = 64;
static double rate = 1000, stall = 5;
static int epoll_fd;
static const uint8_t *pattern;
static uint8_t *buffer;
static uint32_t next_id;

static bool sending;            /* the run still starts new messages */
static uint64_t run_began, run_ends, last_progress, echoes, bytes;
static uint64_t open_sent;      /* open loop: messages that are due */
static unsigned unfinished;     /* accept: connections under way */
static struct histogram latency, late;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((format(printf, 1, 2), noreturn)) static void fault(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("{\"fault\": \"");
    vprintf(format, arguments);
    printf("\"}\n");
    fflush(stdout);
    exit(1);
}

/* Reports a step to the parent and waits until it answers. */
static void tell(const char *what)
{
    char line[16];
    puts(what);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        exit(3);
}

static void make_pattern(void)
{
    size_t length = PERIOD + CHUNK;
    uint8_t *noise = malloc(length);
    buffer = malloc(CHUNK);
    if (!noise || !buffer)
        fault("out of memory");
    uint64_t state = 862; /* splitmix64, any seed */
    for (size_t i = 0; i < PERIOD; i++) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        noise[i] = (uint8_t)(z >> 56);
    }
    for (size_t i = PERIOD; i < length; i++)
        noise[i] = noise[i - PERIOD];
    pattern = noise;
}

/* ---- bytes ------------------------------------------------------------------------------------
 * transmit() and receive() return as send() and recv() do.  EINPROGRESS: a handshake waits for
 * input before anything can be sent. */
#ifdef TLS
static SSL_CTX *tls;

static void prepare(void)
{
    signal(SIGPIPE, SIG_IGN);
    tls = SSL_CTX_new(TLS_client_method());
    if (!tls || !SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION)
        || !SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256")
        || !SSL_CTX_set1_groups_list(tls, "X25519"))
        fault("TLS: %s", ERR_reason_error_string(ERR_peek_error()));
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Several records with one system call. */
    SSL_CTX_set_read_ahead(tls, 1);
    SSL_CTX_set_default_read_buffer_len(tls, CHUNK / 4);
}

static void secure(struct connection *c)
{
    c->tls = SSL_new(tls);
    if (!c->tls || !SSL_set_fd(c->tls, c->fd))
        fault("out of memory");
    SSL_set_connect_state(c->tls);
}

static ssize_t outcome(struct connection *c, int n, bool writing)
{
    if (n > 0)
        return n;
    switch (SSL_get_error(c->tls, n)) {
    case SSL_ERROR_WANT_READ: errno = writing ? EINPROGRESS : EAGAIN; return -1;
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL: return -1;
    }
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    fault("connection %u: TLS: %s after %" PRIu64 " bytes sent, %" PRIu64 " back", c->id,
          reason ? reason : "failed", c->sent, c->received);
}

static ssize_t transmit(struct connection *c, const void *data, size_t length)
{
    ERR_clear_error();
    return outcome(c, SSL_write(c->tls, data, (int)length), true);
}

static ssize_t receive(struct connection *c)
{
    ERR_clear_error();
    return outcome(c, SSL_read(c->tls, buffer, CHUNK), false);
}

/* Whether there may be input that epoll does not report, since it is in the process already. */
static bool pending(const struct connection *c)
{
    return c->tls && SSL_has_pending(c->tls);
}

static int finish_sending(struct connection *c)
{
    return SSL_shutdown(c->tls) < 0;
}

static void forget(struct connection *c)
{
    SSL_free(c->tls);
    c->tls = NULL;
    close(c->fd);
}
#else
static void prepare(void) {}
static void secure(struct connection *c) { (void)c; }
static ssize_t transmit(struct connection *c, const void *data, size_t length)
{
    return send(c->fd, data, length, MSG_NOSIGNAL);
}
static ssize_t receive(struct connection *c) { return recv(c->fd, buffer, CHUNK, 0); }
static bool pending(const struct connection *c) { return (void)c, false; }
static int finish_sending(struct connection *c) { return shutdown(c->fd, SHUT_WR); }
static void forget(struct connection *c) { close(c->fd); }
#endif

/* ---- one connection -------------------------------------------------------------------------- */
static void watch(struct connection *c, bool out)
{
    if (out == c->wants_out)
        return;
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event))
        fault("epoll_ctl: %s", strerror(errno));
    c->wants_out = out;
}

static void flush_due(struct connection *c);

/* Connects and sends the first `message` bytes, at once if the kernel connects at once. */
static void begin_connecting(struct connection *c, uint64_t message)
{
    const int on = 1;
    memset(c, 0, sizeof *c);
    c->id = next_id++;
    c->start = (uint32_t)((uint64_t)c->id * 40503u % PERIOD);
    c->phase = CONNECTING;
    c->began[0] = now_ns();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fault("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (ntohl(server.sin_addr.s_addr) >> 24 == 127) {
        struct sockaddr_in source = {.sin_family = AF_INET};
        source.sin_addr.s_addr = htonl(0x7f000002u + c->id % SOURCES);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(c->fd, (struct sockaddr *)&source, sizeof source))
            fault("bind: %s", strerror(errno));
    }
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        fault("connection %u: connect: %s", c->id, strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event))
        fault("epoll_ctl: %s", strerror(errno));
    secure(c);
    c->due = message;
    flush_due(c);
}

/* Sends what is due; asks for EPOLLOUT if the kernel does not take all of it. */
static void flush_due(struct connection *c)
{
    while (c->sent < c->due) {
        uint64_t left = c->due - c->sent;
        size_t want = left > CHUNK ? CHUNK : (size_t)left;
        ssize_t n = transmit(c, pattern + (c->start + c->sent) % PERIOD, want);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN) {
                watch(c, true);
                return;
            }
            if (errno == EINPROGRESS)
                break;
            fault("connection %u: send: %s after %" PRIu64 " bytes sent, %" PRIu64 " back", c->id,
                  strerror(errno), c->sent, c->received);
        }
        c->sent += (uint64_t)n;
        c->phase = TALKING;
    }
    watch(c, false);
}

/* Reads once and checks what came: the number of bytes, 0 at the end, -1 if there is nothing. */
static ssize_t take(struct connection *c)
{
    ssize_t n;
    do
        n = receive(c);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno == EAGAIN)
            return -1;
        fault("connection %u: recv: %s after %" PRIu64 " bytes sent, %" PRIu64 " back", c->id,
              strerror(errno), c->sent, c->received);
    }
    if (n == 0) {
        if (c->phase == ENDING)
            return 0;
        fault("connection %u: closed by the peer after %" PRIu64 " bytes sent, %" PRIu64 " back",
              c->id, c->sent, c->received);
    }
    if (c->received + (uint64_t)n > c->sent)
        fault("connection %u: more came back than was sent: %" PRIu64 " bytes sent, %" PRIu64
              " back", c->id, c->sent, c->received + (uint64_t)n);
    const uint8_t *expected = pattern + (c->start + c->received) % PERIOD;
    if (memcmp(buffer, expected, (size_t)n)) {
        ssize_t i = 0;
        while (buffer[i] == expected[i])
            i++;
        fault("connection %u: byte %" PRIu64 " came back as 0x%02x, sent was 0x%02x", c->id,
              c->received + (uint64_t)i, buffer[i], expected[i]);
    }
    c->received += (uint64_t)n;
    return n;
}

/* ---- what each mode does with a connection ---------------------------------------------------- */
static void next_message(struct connection *c, uint64_t now)
{
    c->began[(c->due - c->base) / size % 4] = now;
    c->due += size;
    flush_due(c);
}

/* Keeps up to one message in flight; at the end of the run completes the message begun. */
static void keep_streaming(struct connection *c, uint64_t now)
{
    uint64_t whole = c->base + (c->due - c->base + size - 1) / size * size;
    uint64_t due = sending ? c->received + size : whole;
    if (due > c->due && (!sending || size < CHUNK || due - c->sent >= CHUNK / 4)) {
        uint64_t first = (c->due - c->base + size - 1) / size;
        if (first * size + c->base < due)
            c->began[first % 4] = now;
        c->due = due;
    }
    if (c->sent < c->due && !c->wants_out)
        flush_due(c);
}

static void complete(struct connection *c, uint64_t now)
{
    while (c->received - c->base >= (c->completed + 1) * size) {
        uint64_t began = c->began[c->completed % 4];
        if (mode == OPEN)
            began = run_began
                    + (uint64_t)((double)(c->completed * active + (c->id % active)) * 1e9 / rate);
        record(&latency, now > began ? now - began : 0);
        c->completed++;
        echoes++;
        bytes += size;
    }
}

static void end_connection(struct connection *c)
{
    c->phase = ENDING;
    if (finish_sending(c))
        fault("connection %u: shutdown: %s", c->id, strerror(errno));
}

static void close_connection(struct connection *c)
{
    forget(c);
    c->phase = CLOSED;
}

static void on_input(struct connection *c, ssize_t n)
{
    uint64_t now = last_progress = now_ns();
    /* An open loop sends all that is due in the run, however late. */
    sending = sending && (mode == OPEN || now < run_ends);
    if (n == 0) {
        close_connection(c);
        unfinished--;
        if (mode == ACCEPT && sending) {
            begin_connecting(c, size);
            unfinished++;
        }
        return;
    }
    complete(c, now);
    switch (mode) {
    case PINGPONG:
        if (sending && c->received == c->due)
            next_message(c, now);
        break;
    case STREAM:
        keep_streaming(c, now);
        break;
    case ACCEPT:
        if (c->received == c->due)
            end_connection(c);
        break;
    case OPEN:
        break;
    }
}

static void on_event(struct connection *c, uint32_t events)
{
    if (events & EPOLLOUT)
        flush_due(c);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    do {
        ssize_t n = take(c);
        if (n < 0) {
            /* A handshake has ended, and what waited for it can be sent. */
            if (c->sent < c->due && !c->wants_out)
                flush_due(c);
            return;
        }
        on_input(c, n);
    } while (pending(c));
}

static void stalled(void)
{
    for (unsigned i = 0; i < active + idle; i++) {
        struct connection *c = &connections[i];
        if (c->phase == CONNECTING)
            fault("connection %u: not connected after %.1f s", c->id, stall);
        if (c->phase == TALKING && c->received < c->due)
            fault("connection %u: stalled for %.1f s with %" PRIu64 " bytes sent, %" PRIu64 " back",
                  c->id, stall, c->sent, c->received);
        if (c->phase == ENDING)
            fault("connection %u: not closed by the peer %.1f s after the end of input", c->id,
                  stall);
    }
    fault("stalled for %.1f s", stall);
}

/* Waits for events and handles them; a fault if nothing at all moves for `stall` seconds. */
static void turn(int timeout_ms)
{
    struct epoll_event events[1024];
    int n = epoll_wait(epoll_fd, events, 1024, timeout_ms);
    for (int i = 0; i < n; i++)
        on_event(events[i].data.ptr, events[i].events);
    if (n <= 0 && now_ns() - last_progress > (uint64_t)(stall * 1e9))
        stalled();
}

/* ---- the run ---------------------------------------------------------------------------------- */
static bool quiet(unsigned first, unsigned last)
{
    for (unsigned i = first; i < last; i++)
        if (connections[i].phase != CLOSED && connections[i].received < connections[i].due)
            return false;
    return true;
}

/* Opens connections [first, last) and echoes one short message on each. */
static void open_connections(unsigned first, unsigned last)
{
    enum mode wanted = mode;
    uint64_t message = size;
    mode = OPEN; /* on_event() then only sends what is due and checks what comes */
    size = UINT64_MAX / 2; /* and counts nothing */
    last_progress = now_ns();
    unsigned settled = first;
    for (unsigned i = first; i < last; i++) {
        begin_connecting(&connections[i], FIRST_MESSAGE);
        while (i - settled >= CONNECTING_AT_ONCE) {
            turn(100);
            while (settled < i && connections[settled].received == FIRST_MESSAGE)
                settled++;
        }
    }
    while (!quiet(first, last))
        turn(100);
    mode = wanted;
    size = message;
}

static void start_run(double seconds)
{
    memset(&latency, 0, sizeof latency);
    memset(&late, 0, sizeof late);
    echoes = bytes = open_sent = 0;
    sending = true;
    run_began = last_progress = now_ns();
    run_ends = run_began + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; i < active; i++) {
        struct connection *c = &connections[i];
        if (mode == ACCEPT) {
            begin_connecting(c, size);
            unfinished++;
            continue;
        }
        c->base = c->due;
        c->completed = 0;
        if (mode == PINGPONG)
            next_message(c, now_ns());
        else if (mode == STREAM)
            keep_streaming(c, now_ns());
    }
}

static void send_due_messages(void)
{
    for (int burst = 0; burst < 16; burst++) {
        uint64_t intended = run_began + (uint64_t)((double)open_sent * 1e9 / rate);
        uint64_t now = now_ns();
        if (intended >= run_ends) {
            sending = false;
            return;
        }
        if (now < intended)
            return;
        record(&late, now - intended);
        if (echoes == open_sent) /* nothing was on its way, so nothing could stall */
            last_progress = now;
        struct connection *c = &connections[open_sent++ % active];
        c->due += size;
        if (!c->wants_out)
            flush_due(c);
    }
}

static void run(double seconds)
{
    start_run(seconds);
    if (mode == OPEN)
        while (sending) {
            send_due_messages();
            turn(0);
        }
    while (sending) {
        turn(100);
        sending = now_ns() < run_ends;
    }
    /* Streams in the middle of a message complete it. */
    if (mode == STREAM)
        for (unsigned i = 0; i < active; i++)
            keep_streaming(&connections[i], now_ns());
    /* Messages in flight are completed and counted; turn() faults a connection that stalls. A peer
     * that fell far behind an open loop gets the length of the run once more; after that it is
     * overloaded, and its latency has no meaning. */
    uint64_t patience = run_ends + (uint64_t)((seconds + stall) * 1e9);
    while (mode == ACCEPT ? unfinished > 0 : !quiet(0, active)) {
        turn(100);
        if (mode == OPEN && now_ns() > patience)
            fault("overloaded: still answering %.1f s after the run", seconds + stall);
    }
}

/* Half-closes every connection and waits for the peer to do the same, a few hundred at a time. */
static void close_all(void)
{
    last_progress = now_ns();
    for (unsigned i = 0; i < active + idle; i++) {
        struct connection *c = &connections[i];
        if (c->phase == CLOSED)
            continue;
        end_connection(c);
        unfinished++;
        while (unfinished > CONNECTING_AT_ONCE)
            turn(100);
    }
    while (unfinished)
        turn(100);
}

static int print_quantiles(void)
{
    uint64_t value;
    while (scanf("%" SCNu64, &value) == 1)
        record(&latency, value);
    printf("{");
    print_histogram("quantiles", &latency);
    printf("}\n");
    return 0;
}

static double number(const char *option, const char *text, double least)
{
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= least)) {
        fprintf(stderr, "load: --%s %s: a number of at least %g is needed\n", option, text, least);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},    {"connections", required_argument, NULL, 'c'},
        {"size", required_argument, NULL, 's'},    {"seconds", required_argument, NULL, 't'},
        {"warmup", required_argument, NULL, 'w'},  {"idle", required_argument, NULL, 'i'},
        {"rate", required_argument, NULL, 'r'},    {"stall", required_argument, NULL, 'l'},
        {NULL, 0, NULL, 0}};
    static const char *const modes[] = {"pingpong", "stream", "open", "accept"};
    double seconds = 1, warmup = 0.1;
    int port = 0, option, index;
    while ((option = getopt_long(argc, argv, "", options, &index)) != -1) {
        if (option == '?')
            return 2;
        const char *name = options[index].name;
        switch (option) {
        case 'p': port = (int)number(name, optarg, 1); break;
        case 'c': active = (unsigned)number(name, optarg, 1); break;
        case 's': size = (uint64_t)number(name, optarg, 1); break;
        case 't': seconds = number(name, optarg, 0); break;
        case 'w': warmup = number(name, optarg, 0); break;
        case 'i': idle = (unsigned)number(name, optarg, 0); break;
        case 'r': rate = number(name, optarg, 1); break;
        case 'l': stall = number(name, optarg, 0.01); break;
        }
    }
    if (optind + 1 == argc && !strcmp(argv[optind], "histogram"))
        return print_quantiles();
    int chosen = -1;
    for (int i = 0; i < 4; i++)
        if (optind + 1 == argc && !strcmp(argv[optind], modes[i]))
            chosen = i;
    if (chosen < 0 || !port) {
        fprintf(stderr, "usage: load --port PORT [--connections N] [--size BYTES] [--seconds S]\n"
                        "            [--warmup S] [--idle N] [--rate PER_SECOND] [--stall S]\n"
                        "            pingpong | stream | open | accept\n"
                        "       load histogram < numbers\n");
        return 2;
    }
    mode = (enum mode)chosen;
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)port);
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc(active + idle, sizeof *connections);
    make_pattern();
    prepare();
    /* A last guard: whatever goes wrong, here or in the peer, this process ends. */
    alarm((unsigned)(2 * (seconds + warmup) + 4 * stall + 60));

    for (unsigned i = 0; i < active + idle; i++)
        connections[i].phase = CLOSED;
    if (mode != ACCEPT)
        open_connections(0, active);
    run(warmup);
    tell("warm");
    open_connections(active, active + idle);
    tell("idle");
    double cpu = cpu_seconds();
    run(seconds);
    double took = (double)(now_ns() - run_began) * 1e-9;
    cpu = cpu_seconds() - cpu;
    tell("done");
    close_all();
    printf("{\"echoes\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"seconds\": %.9f, \"load_cpu\": %.9f, ",
           echoes, bytes, took, cpu);
    print_histogram("latency_ns", &latency);
    printf(", ");
    print_histogram("late_ns", &late);
    printf("}\n");
    return 0;
}
