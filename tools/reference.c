/* The kernel's limit for a relay on one core, to hold the others against: recvmmsg, then sendmmsg
 * with UDP_SEGMENT, and nothing else: no sessions, no statistics, no error handling per destination.
 * A run of equal sizes, perhaps with one shorter datagram at its end, is copied together once, so
 * that each destination costs one message with one buffer.  udp(7), recvmmsg(2), sendmmsg(2).
 *
 * usage: reference INGEST_PORT DESTINATION_PORT...   (all on 127.0.0.1)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
    BATCH = 64,             /* UDP_MAX_SEGMENTS of the older kernels */
    LARGEST = 65507,        /* an IPv4 UDP payload; also the most that one send may carry */
    MESSAGES = 1024,        /* UIO_MAXIOV, the most that one sendmmsg takes */
    RECEIVE_BUFFER = 8 << 20,
    SEND_BUFFER = 4 << 20,
};

static char slots[BATCH][LARGEST];
static char joined[LARGEST];
static struct mmsghdr incoming[BATCH];
static struct iovec incoming_iov[BATCH], outgoing_iov;
static struct mmsghdr *outgoing;
static int destinations;
static union {
    char space[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr align;
} control;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void set_buffer(int fd, int option, int forced, int bytes) {
    if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof bytes) < 0)
        setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes);
}

static void prepare_incoming(void) {
    for (int i = 0; i < BATCH; i++) {
        incoming_iov[i] = (struct iovec){slots[i], LARGEST};
        incoming[i].msg_hdr = (struct msghdr){.msg_iov = &incoming_iov[i], .msg_iovlen = 1};
    }
}

static void prepare_outgoing(char **ports) {
    struct sockaddr_in *addresses = calloc(destinations, sizeof *addresses);
    outgoing = calloc(destinations, sizeof *outgoing);
    if (!addresses || !outgoing)
        die("calloc");
    for (int i = 0; i < destinations; i++) {
        addresses[i] = loopback(ports[i]);
        outgoing[i].msg_hdr = (struct msghdr){
            .msg_name = &addresses[i],
            .msg_namelen = sizeof addresses[i],
            .msg_iov = &outgoing_iov,
            .msg_iovlen = 1,
            .msg_control = control.space,
            .msg_controllen = sizeof control.space,
        };
    }
}

static void set_segment(uint16_t size) {
    control.align = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof size), .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT};
    memcpy(CMSG_DATA(&control.align), &size, sizeof size);
}

/* Join the run that begins at datagram `first` of `count`; return the index after it. */
static int join_run(int first, int count) {
    unsigned size = incoming[first].msg_len;
    size_t bytes = 0;
    int next = first;
    while (next < count && incoming[next].msg_len <= size &&
           bytes + incoming[next].msg_len <= LARGEST) {
        memcpy(joined + bytes, slots[next], incoming[next].msg_len);
        bytes += incoming[next].msg_len;
        if (incoming[next++].msg_len < size)
            break;
    }
    outgoing_iov = (struct iovec){joined, bytes};
    set_segment(size);
    return next;
}

static void send_run(int fd) {
    for (int done = 0; done < destinations;) {
        int left = destinations - done;
        int sent = sendmmsg(fd, outgoing + done, left < MESSAGES ? left : MESSAGES, 0);
        if (sent > 0)
            done += sent;
        else if (errno == ECONNREFUSED || errno == EAGAIN)
            done++; /* of no concern here, and the others still want it */
        else if (errno != EINTR)
            die("sendmmsg");
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fputs("usage: reference INGEST_PORT DESTINATION_PORT...\n", stderr);
        return 2;
    }
    destinations = argc - 2;
    prepare_incoming();
    prepare_outgoing(argv + 2);
    int in = socket(AF_INET, SOCK_DGRAM, 0), out = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = loopback(argv[1]);
    set_buffer(in, SO_RCVBUF, SO_RCVBUFFORCE, RECEIVE_BUFFER);
    set_buffer(out, SO_SNDBUF, SO_SNDBUFFORCE, SEND_BUFFER);
    if (bind(in, (struct sockaddr *)&here, sizeof here) < 0)
        die("bind");
    for (;;) {
        int count = recvmmsg(in, incoming, BATCH, MSG_WAITFORONE, NULL);
        if (count < 0 && errno != EINTR)
            die("recvmmsg");
        for (int next = 0; next < count;)
            next = join_run(next, count), send_run(out);
    }
}
