/* A server that is never the bottleneck: answers every connection's first bytes with one fixed answer
   and closes. Listens on a free loopback port, or on as many as it is told to, prints them, and ends when its
   standard input does. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256 };

static const char ANSWER[] =
    "HTTP/1.1 200 OK\r\ndate: Sun, 02 Nov 2025 10:00:00 GMT\r\nserver: uvicorn\r\n"
    "content-length: 15\r\ncontent-type: application/json\r\nConnection: close\r\n\r\n{\"status\":\"ok\"}";

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void answer(int fd) {
    char request[4096];
    if (recv(fd, request, sizeof request, 0) > 0) send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
    close(fd);
}

/* A listening socket on a free port, which is printed; -1 if there is none to be had. */
static int listening(void) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) return -1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d ", ntohs(address.sin_port));
    return listener;
}

int main(int count, char **words) {
    int wanted = count > 1 ? atoi(words[1]) : 1, epoll = epoll_create1(0), last = STDIN_FILENO;
    watch(epoll, STDIN_FILENO);
    /* Listeners are opened first and in a row: their numbers are those up to the last. */
    while (wanted--) {
        if ((last = listening()) < 0) return 1;
        watch(epoll, last);
    }
    putchar('\n');
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd, accepted;
            if (fd == STDIN_FILENO) return 0;
            if (fd > last) { answer(fd); continue; }
            while ((accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) watch(epoll, accepted);
        }
    }
}
