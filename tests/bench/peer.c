/* Whom the benchmark's jobs meet: a vendor and a receiver in one thread, so cheap that they cost the measured
 * process nothing but its own work.
 *
 * The vendor answers POST /v4/jobGroups and GET /v4/jobGroups/{id} as Trifacta does. A job takes DELAY milliseconds;
 * then its webhooks that report to a path below /v1/callbacks or /bare are sent, signed with their own secretKey.
 * The receiver counts what comes to /hook/{number}. GET /stats tells all counts and times (seconds of
 * CLOCK_MONOTONIC); POST /reset forgets them and every connection to whom webhooks were sent.
 *
 * Usage: peer DELAY. Prints its port; ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 65536, MOST_FILES = 4096, FIRST_ID = 1000000 };

/* --- SHA-256 and HMAC -------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} Sha;

static const uint32_t ROUNDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};

static uint32_t turned(uint32_t word, int by) { return word >> by | word << (32 - by); }

static void sha_block(Sha *sha) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)sha->block[4 * i] << 24 | sha->block[4 * i + 1] << 16 | sha->block[4 * i + 2] << 8 |
               sha->block[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] + (turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, sha->state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t one = s[7] + (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) +
                       ((s[4] & s[5]) ^ (~s[4] & s[6])) + ROUNDS[i] + w[i];
        uint32_t two = (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) +
                       ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) sha->state[i] += s[i];
}

static void sha_begin(Sha *sha) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(sha->state, start, sizeof start);
    sha->length = 0;
}

static void sha_add(Sha *sha, const void *data, size_t size) {
    for (const uint8_t *at = data; size--; at++) {
        sha->block[sha->length++ % 64] = *at;
        if (sha->length % 64 == 0) sha_block(sha);
    }
}

static void sha_end(Sha *sha, uint8_t out[32]) {
    uint64_t bits = sha->length * 8;
    sha_add(sha, "\x80", 1);
    while (sha->length % 64 != 56) sha_add(sha, "", 1);
    for (int i = 7; i >= 0; i--) sha_add(sha, &(uint8_t){(uint8_t)(bits >> 8 * i)}, 1);
    for (int i = 0; i < 32; i++) out[i] = (uint8_t)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
}

/* The hex HMAC of `<stamp>.<body>`; the key has at most 64 bytes. */
static void sign(const char *key, const char *stamp, const char *body, char hex[65]) {
    uint8_t inner[64] = {0}, outer[64] = {0}, digest[32];
    size_t size = strlen(key);
    for (size_t i = 0; i < 64; i++) {
        uint8_t byte = i < size ? (uint8_t)key[i] : 0;
        inner[i] = byte ^ 0x36;
        outer[i] = byte ^ 0x5c;
    }
    Sha sha;
    sha_begin(&sha);
    sha_add(&sha, inner, 64);
    sha_add(&sha, stamp, strlen(stamp));
    sha_add(&sha, ".", 1);
    sha_add(&sha, body, strlen(body));
    sha_end(&sha, digest);
    sha_begin(&sha);
    sha_add(&sha, outer, 64);
    sha_add(&sha, digest, 32);
    sha_end(&sha, digest);
    for (int i = 0; i < 32; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
}

/* --- what there is ----------------------------------------------------------------------------------------------- */

typedef struct {
    double due;
    int port; /* of whom it calls back; 0: nobody */
    char path[320];
    char secret[65];
} Job;

typedef struct {
    int fd;
    int port; /* where a webhook's connection leads; 0 for one that came in */
    int busy;
    size_t held, size;
    char in[BUFFER];
} Line;

static int loop;
static double delay;
static Line *lines[MOST_FILES];
static Job *jobs;
static size_t made, called, room;
static uint8_t *hit;
static size_t hit_room;
static struct {
    long submits, polls, webhooks, refused, hits, distinct;
    double first_submit, last_hit;
} counts;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + at.tv_nsec / 1e9;
}

static void die(const char *why) {
    perror(why);
    exit(1);
}

static Line *open_line(int fd, int port) {
    if (fd >= MOST_FILES) die("too many connections");
    Line *line = calloc(1, sizeof *line);
    if (!line) die("calloc");
    line->fd = fd;
    line->port = port;
    lines[fd] = line;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    return line;
}

static void close_line(Line *line) {
    if (line->port && line->busy) counts.refused++;
    lines[line->fd] = NULL;
    close(line->fd);
    free(line);
}

/* All of it: what is sent here is small, and the other end reads. */
static int send_all(Line *line, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(line->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) return -1;
        data += sent;
        size -= (size_t)sent;
    }
    return 0;
}

/* --- webhooks ---------------------------------------------------------------------------------------------------- */

static Line *line_to(int port) {
    for (int fd = 0; fd < MOST_FILES; fd++)
        if (lines[fd] && lines[fd]->port == port && !lines[fd]->busy) return lines[fd];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) {
        close(fd);
        return NULL;
    }
    return open_line(fd, port);
}

static void call_back(const Job *job, size_t id) {
    char body[128], stamp[32], hex[65], request[1024];
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    snprintf(body, sizeof body, "{\"jobid\":\"%zu\",\"jobstatus\":\"Complete\"}", id);
    snprintf(stamp, sizeof stamp, "%lld", (long long)at.tv_sec * 1000 + at.tv_nsec / 1000000);
    sign(job->secret, stamp, body, hex);
    int size = snprintf(request, sizeof request,
                        "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                        "X-Webhook-Signature: t=%s,sha256=%s\r\nContent-Length: %zu\r\n\r\n%s",
                        job->path, job->port, stamp, hex, strlen(body), body);
    Line *line = line_to(job->port);
    counts.webhooks++;
    if (!line) {
        counts.refused++;
        return;
    }
    line->busy = 1;
    if (send_all(line, request, (size_t)size)) close_line(line);
}

/* Milliseconds until the next webhook is due; -1: none is. */
static int call_back_those_due(void) {
    while (called < made) {
        double left = jobs[called].due - now();
        if (left > 0) return (int)(left * 1000) + 1;
        if (jobs[called].port) call_back(&jobs[called], FIRST_ID + called);
        called++;
    }
    return -1;
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static void answer(Line *line, const char *status, const char *body) {
    char text[2048];
    int size = snprintf(text, sizeof text,
                        "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status,
                        strlen(body), body);
    if (send_all(line, text, (size_t)size)) shutdown(line->fd, SHUT_RDWR);
}

/* The value of `"name":"…"` from here on; the callers' JSON is compact or has one space. */
static int text_after(const char *from, const char *name, char *into, size_t most) {
    const char *at = strstr(from, name);
    if (!at) return 0;
    at += strlen(name);
    while (*at == ':' || *at == ' ') at++;
    if (*at++ != '"') return 0;
    size_t size = strcspn(at, "\"");
    if (size >= most) return 0;
    memcpy(into, at, size);
    into[size] = 0;
    return 1;
}

static void submit(Line *line, const char *body) {
    if (made == room) {
        room = room ? room * 2 : 4096;
        jobs = realloc(jobs, room * sizeof *jobs);
        if (!jobs) die("realloc");
    }
    Job *job = &jobs[made];
    *job = (Job){.due = now() + delay};
    char url[400];
    const char *hook = strstr(body, "\"webhooks\"");
    if (hook && text_after(hook, "\"url\"", url, sizeof url) &&
        sscanf(url, "http://127.0.0.1:%d%319s", &job->port, job->path) == 2)
        text_after(hook, "\"secretKey\"", job->secret, sizeof job->secret);
    if (!counts.submits++) counts.first_submit = now();
    size_t id = FIRST_ID + made++;
    char text[400];
    snprintf(text, sizeof text,
             "{\"sessionId\":\"f4cd9c3c-8c5e-4bd8-a4d5-6f1f0a2f7d7e\",\"reason\":\"JobStarted\",\"jobGraph\":"
             "{\"vertices\":[21,22],\"edges\":[{\"source\":21,\"target\":22}]},\"id\":%zu,"
             "\"jobs\":{\"data\":[{\"id\":21},{\"id\":22}]}}",
             id);
    answer(line, "201 Created", text);
}

static void look(Line *line, size_t id) {
    counts.polls++;
    if (id < FIRST_ID || id >= FIRST_ID + made) {
        answer(line, "404 Not Found", "{\"exception\":{\"name\":\"ResourceNotFoundException\"}}");
        return;
    }
    const char *status = jobs[id - FIRST_ID].due <= now() ? "Complete" : "InProgress";
    char text[600];
    snprintf(text, sizeof text,
             "{\"id\":%zu,\"name\":null,\"description\":null,\"ranfrom\":\"ui\",\"ranfor\":\"recipe\","
             "\"status\":\"%s\",\"profilingEnabled\":true,\"createdAt\":\"2026-01-01T00:00:00.000Z\","
             "\"wrangledDataset\":{\"id\":7},\"flowRun\":null,\"jobs\":{\"data\":[{\"id\":21,\"jobType\":"
             "\"wrangle\",\"status\":\"%s\",\"percentComplete\":100,\"errorMessage\":null}]}}",
             id, status, status);
    answer(line, "200 OK", text);
}

static void receive(Line *line, size_t number) {
    if (number >= hit_room) {
        size_t wanted = number * 2 + 4096;
        hit = realloc(hit, wanted);
        if (!hit) die("realloc");
        memset(hit + hit_room, 0, wanted - hit_room);
        hit_room = wanted;
    }
    counts.distinct += !hit[number];
    hit[number] = 1;
    counts.hits++;
    counts.last_hit = now();
    answer(line, "204 No Content", "");
}

static void tell(Line *line) {
    char text[512];
    snprintf(text, sizeof text,
             "{\"submits\":%ld,\"polls\":%ld,\"webhooks\":%ld,\"webhooksRefused\":%ld,\"hits\":%ld,"
             "\"distinctHits\":%ld,\"firstSubmit\":%.6f,\"lastHit\":%.6f}",
             counts.submits, counts.polls, counts.webhooks, counts.refused, counts.hits, counts.distinct,
             counts.first_submit, counts.last_hit);
    answer(line, "200 OK", text);
}

static void reset(Line *line) {
    for (int fd = 0; fd < MOST_FILES; fd++)
        if (lines[fd] && lines[fd]->port && !lines[fd]->busy) close_line(lines[fd]);
    memset(&counts, 0, sizeof counts);
    if (hit) memset(hit, 0, hit_room);
    answer(line, "204 No Content", "");
}

static void serve(Line *line, const char *head, const char *body) {
    size_t number;
    if (sscanf(head, "POST /hook/%zu", &number) == 1)
        receive(line, number);
    else if (!strncmp(head, "POST /v4/jobGroups ", 19))
        submit(line, body);
    else if (sscanf(head, "GET /v4/jobGroups/%zu", &number) == 1)
        look(line, number);
    else if (!strncmp(head, "GET /stats ", 11))
        tell(line);
    else if (!strncmp(head, "POST /reset ", 12))
        reset(line);
    else
        answer(line, "404 Not Found", "{}");
}

static size_t content_length(const char *head, const char *end) {
    for (const char *at = head; at < end; at++)
        if (*at == '\n' && !strncasecmp(at + 1, "content-length:", 15)) return strtoul(at + 16, NULL, 10);
    return 0;
}

/* Deal with the first whole message that the line holds; 0: there is none. */
static int take_message(Line *line) {
    line->in[line->held] = 0;
    char *end = strstr(line->in, "\r\n\r\n");
    if (!end) return 0;
    char *body = end + 4;
    size_t size = (size_t)(body - line->in) + content_length(line->in, end);
    if (size > line->held) return 0;
    if (line->port) {
        int status = 0;
        sscanf(line->in, "HTTP/1.1 %d", &status);
        if (status < 200 || status > 299) counts.refused++;
        line->busy = 0;
    } else {
        char after = line->in[size];
        line->in[size] = 0;
        serve(line, line->in, body);
        line->in[size] = after;
    }
    line->held -= size;
    memmove(line->in, line->in + size, line->held);
    return 1;
}

static void hear(Line *line) {
    ssize_t got = recv(line->fd, line->in + line->held, BUFFER - 1 - line->held, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return; /* meant for a line that is closed, whose number this one has */
    if (got <= 0) {
        close_line(line);
        return;
    }
    line->held += (size_t)got;
    while (take_message(line)) {
    }
}

int main(int argc, char **argv) {
    delay = argc > 1 ? atof(argv[1]) / 1000 : 0.005;
    loop = epoll_create1(EPOLL_CLOEXEC);
    int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in here = {.sin_family = AF_INET};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    if (bind(door, (struct sockaddr *)&here, size) || listen(door, 1024) ||
        getsockname(door, (struct sockaddr *)&here, &size))
        die("listen");
    for (int each = 0; each < 2; each++) {
        int fd = each ? door : STDIN_FILENO;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    }
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    struct epoll_event events[256];
    for (;;) {
        int many = epoll_wait(loop, events, 256, call_back_those_due());
        for (int i = 0; i < many; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO) return 0;
            if (fd == door)
                open_line(accept4(door, NULL, NULL, SOCK_CLOEXEC), 0);
            else if (lines[fd])
                hear(lines[fd]);
        }
    }
}
