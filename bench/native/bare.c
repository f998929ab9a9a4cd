/* The limit: the least that any check on a fresh connection costs. One non-blocking epoll loop, no
   parsing, no timeouts, no results; the same system calls as hale's checks.
   Usage: bare PORT CHECKS AT_A_TIME. Prints the CPU time of this process, in microseconds per check. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

static struct sockaddr_in address = {.sin_family = AF_INET};
static char request[256];
static int request_size, epoll;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void begin(void) {
    struct linger reset = {1, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) fail("connect");
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
    if (send(fd, request, request_size, MSG_NOSIGNAL) != request_size) event.events = EPOLLOUT;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Whether the connection is done with. */
static int go_on(int fd, unsigned happened) {
    char answer[16384];
    if (happened & EPOLLOUT) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
        if (send(fd, request, request_size, MSG_NOSIGNAL) != request_size) fail("send");
        epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
        return 0;
    }
    if (happened & EPOLLIN && recv(fd, answer, sizeof answer, 0) < 0) fail("recv");
    if (!(happened & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return 0;
    close(fd);
    return 1;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    int port = atoi(words[1]), left = atoi(words[2]), open = atoi(words[3]);
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    request_size = snprintf(request, sizeof request,
                            "GET /readiness/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: hale-probe/0.1.0\r\n"
                            "Accept: */*\r\nConnection: close\r\n\r\n", port);
    epoll = epoll_create1(0);
    int checks = left;
    left -= open;
    for (int i = 0; i < open; i++) begin();
    while (open) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (!go_on(events[i].data.fd, events[i].events)) continue;
            if (left-- > 0) begin();
            else open--;
        }
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double micros = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    printf("%.3f\n", micros / checks);
    return 0;
}
