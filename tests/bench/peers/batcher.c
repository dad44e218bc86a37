/* The bare batcher in C, as the limit of what the machine can do: batcher SOURCE BROKER_PORT TOPIC QOS
 *
 * recvmmsg of up to 1024 frames after a window of 10 ms, each packed behind its capture time (24 bytes), published over
 * MQTT 3.1.1. It says nothing of what it lost. SOURCE is udp:PORT (0 picks one) or can:LINK. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/can.h>
#include <linux/can/raw.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { VECTOR = 1024, WINDOW_NS = 10000000, BUFFER = 4 * 1024 * 1024 };

struct record {
    unsigned sec, nsec;
    struct can_frame frame;
};
struct control {
    struct cmsghdr head;
    struct timespec stamp;
};

static struct record records[VECTOR];
static struct control controls[VECTOR];
static struct iovec parts[VECTOR];
static struct mmsghdr messages[VECTOR];

static void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int open_source(const char *source, int *port) {
    int fd, on = 1, size = BUFFER;
    *port = 0;
    if (!strncmp(source, "can:", 4)) {
        struct sockaddr_can at = {.can_family = AF_CAN, .can_ifindex = if_nametoindex(source + 4)};
        need((fd = socket(PF_CAN, SOCK_RAW, CAN_RAW)) >= 0, "socket");
        need(!bind(fd, (struct sockaddr *)&at, sizeof at), source);
    } else {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(source + 4))};
        socklen_t length = sizeof at;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        need((fd = socket(AF_INET, SOCK_DGRAM, 0)) >= 0, "socket");
        need(!bind(fd, (struct sockaddr *)&at, sizeof at) && !getsockname(fd, (struct sockaddr *)&at, &length), source);
        *port = ntohs(at.sin_port);
    }
    need(!setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on), "SO_TIMESTAMPNS");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return fd;
}

static int connect_broker(int port) {
    static const unsigned char hello[] = {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 1, 'c'};
    unsigned char answer[4];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    need(fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof to), "broker");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    need(write(fd, hello, sizeof hello) == sizeof hello, "CONNECT");
    need(recv(fd, answer, 4, MSG_WAITALL) == 4 && answer[3] == 0, "CONNACK");
    return fd;
}

static void publish(int fd, const char *topic, int qos, const void *payload, size_t size) {
    static unsigned short packet = 0;
    unsigned char head[256], acks[4096];
    size_t name = strlen(topic), n = 0, left = 2 + name + (qos ? 2 : 0) + size;
    head[n++] = 0x30 | qos << 1;
    do {
        head[n++] = (left & 127) | (left > 127 ? 128 : 0);
    } while (left >>= 7);
    head[n++] = name >> 8;
    head[n++] = name;
    memcpy(head + n, topic, name);
    n += name;
    if (qos) {
        packet = packet % 65535 + 1;
        head[n++] = packet >> 8;
        head[n++] = packet;
    }
    struct iovec both[2] = {{head, n}, {(void *)payload, size}};
    struct msghdr message = {.msg_iov = both, .msg_iovlen = 2};
    ssize_t sent = sendmsg(fd, &message, 0), more;
    need(sent >= (ssize_t)n, "PUBLISH");
    for (size_t rest; (rest = n + size - sent) > 0; sent += more)
        need((more = send(fd, (const char *)payload + size - rest, rest, 0)) > 0, "PUBLISH");
    while (recv(fd, acks, sizeof acks, MSG_DONTWAIT) > 0)
        ;
}

int main(int argc, char **argv) {
    int port;
    if (argc < 5) {
        fprintf(stderr, "usage: batcher udp:PORT|can:LINK BROKER_PORT TOPIC QOS\n");
        return 2;
    }
    int source = open_source(argv[1], &port), broker = connect_broker(atoi(argv[2]));
    struct timespec window = {0, WINDOW_NS};
    struct pollfd ready = {.fd = source, .events = POLLIN};
    for (int i = 0; i < VECTOR; i++)
        parts[i] = (struct iovec){&records[i].frame, sizeof records[i].frame};
    printf("{\"event\": \"ready\", \"port\": %d}\n", port);
    fflush(stdout);
    for (;;) {
        need(poll(&ready, 1, -1) == 1, "poll");
        nanosleep(&window, NULL);
        for (int n = VECTOR; n == VECTOR;) {
            for (int i = 0; i < VECTOR; i++)
                messages[i].msg_hdr = (struct msghdr){
                    .msg_iov = &parts[i], .msg_iovlen = 1, .msg_control = &controls[i], .msg_controllen = sizeof controls[i]};
            n = recvmmsg(source, messages, VECTOR, MSG_DONTWAIT, NULL);
            if (n <= 0)
                break;
            for (int i = 0; i < n; i++) {
                records[i].sec = controls[i].stamp.tv_sec;
                records[i].nsec = controls[i].stamp.tv_nsec;
            }
            publish(broker, argv[3], atoi(argv[4]), records, n * sizeof records[0]);
        }
    }
}
