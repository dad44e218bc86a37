/* Sends CAN frames at a constant rate: sender SOURCE RATE SECONDS RUN [PAUSE_MS]
 *
 * SOURCE is udp:PORT (a frame is a datagram of 16 bytes to the loopback) or can:LINK. A frame carries a counter and
 * RUN, both 32 bit. Datagrams are cut by the kernel from one piece, which lets one processor send more than another
 * receives. PAUSE_MS after the last one (default 300) the sentinel follows: "STOP" and RUN. Every 250 us the
 * frames that are due are sent, in one system call up to 64. Prints how many were sent, the sentinel among them. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/can.h>
#include <linux/can/raw.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { VECTOR = 64, TICK_NS = 250000 };

static struct can_frame frames[VECTOR];
static struct iovec parts[VECTOR];
static struct mmsghdr messages[VECTOR];
static int is_cut; /* the kernel cuts the frames apart */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void nap(long ns) {
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    nanosleep(&t, NULL);
}

static int open_source(const char *source) {
    int fd = -1, failed = 1;
    if (!strncmp(source, "udp:", 4)) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(source + 4))};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd = socket(AF_INET, SOCK_DGRAM, 0);
        int size = sizeof(struct can_frame);
        failed = fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) ||
                 setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
        is_cut = 1;
    } else if (!strncmp(source, "can:", 4)) {
        struct sockaddr_can on = {.can_family = AF_CAN, .can_ifindex = if_nametoindex(source + 4)};
        fd = socket(PF_CAN, SOCK_RAW, CAN_RAW);
        failed = fd < 0 || setsockopt(fd, SOL_CAN_RAW, CAN_RAW_FILTER, NULL, 0) || bind(fd, (struct sockaddr *)&on, sizeof on);
    }
    if (failed) {
        perror(source);
        exit(1);
    }
    return fd;
}

/* Sends the first n frames, waiting where the kernel has no room. */
static void send_all(int fd, int n) {
    for (int done = 0; done < n;) {
        int sent = is_cut ? send(fd, frames + done, (n - done) * sizeof *frames, 0) / (int)sizeof *frames
                          : sendmmsg(fd, messages + done, n - done, 0);
        if (sent > 0) {
            done += sent;
        } else if (errno == ENOBUFS || errno == EAGAIN || errno == ECONNREFUSED) {
            nap(100000);
        } else {
            perror("sending");
            exit(1);
        }
    }
}

static void fill(struct can_frame *frame, canid_t id, unsigned a, unsigned b) {
    frame->can_id = id;
    frame->can_dlc = 8;
    memcpy(frame->data, &a, 4);
    memcpy(frame->data + 4, &b, 4);
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: sender udp:PORT|can:LINK RATE SECONDS RUN [PAUSE_MS]\n");
        return 2;
    }
    int fd = open_source(argv[1]);
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    unsigned run = strtoul(argv[4], NULL, 10), sent = 0, stop;
    long pause_ms = argc > 5 ? atol(argv[5]) : 300;
    for (int i = 0; i < VECTOR; i++) {
        parts[i] = (struct iovec){&frames[i], sizeof frames[i]};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    double start = now(), elapsed = 0;
    while ((elapsed = now() - start) < seconds) {
        long due = (long)(elapsed * rate) - (long)sent;
        if (due <= 0) {
            nap(TICK_NS);
            continue;
        }
        int n = due < VECTOR ? due : VECTOR;
        for (int i = 0; i < n; i++, sent++)
            fill(&frames[i], 0x100 + sent % 256, sent, run);
        send_all(fd, n);
        if (due < VECTOR)
            nap(TICK_NS);
    }
    nap(pause_ms * 1000000);
    memcpy(&stop, "STOP", 4);
    fill(&frames[0], 0x7ff, stop, run);
    send_all(fd, 1);
    printf("{\"event\": \"sent\", \"sent\": %u, \"seconds\": %.4f}\n", sent + 1, elapsed);
    return 0;
}
