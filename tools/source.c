/* The benchmark's stream: datagrams of seven MPEG-TS packets, each stamped with the time it was sent.
 *
 * Standard input is a UDP socket that the benchmark has connected to the relay under test and has sent
 * its first datagrams on: so these and the stream have one source, and there is no address to parse.
 * Written in C so that a thousand wake-ups a second leave the machine to the relay.
 *
 * Each datagram holds 7 packets of PID 256 with running continuity counters; in the first packet's
 * payload, at offset 4, CLOCK_REALTIME in nanoseconds (that clock, because the kernel's receive time
 * stamps have no other).  A burst is one send with UDP_SEGMENT, see udp(7); the last of its datagrams
 * holds TAIL packets.  With a FILE, the packets are those of that, over and over; a datagram is
 * stamped where its first packet is a null packet.
 *
 * usage: source RATE BURST TAIL SECONDS [FILE] <&SOCKET     prints the number of datagrams sent
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { PACKET = 188, PACKETS = 7, SIZE = PACKET * PACKETS, BURST_LIMIT = 49, STAMP_AT = 4 };

static const unsigned char *film;
static uint64_t film_length; /* in datagrams */

static int64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void sleep_until(int64_t when) {
    struct timespec time = {when / 1000000000, when % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static int open_film(const char *path) {
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) < 0 || status.st_size < SIZE)
        return -1;
    film_length = status.st_size / SIZE;
    film = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    return film == MAP_FAILED ? -1 : 0;
}

static void fill(unsigned char *datagram, int packets, uint64_t number) {
    static unsigned counter;
    int64_t stamp = now(CLOCK_REALTIME);
    if (film) {
        memcpy(datagram, film + number % film_length * SIZE, SIZE);
        if ((datagram[1] & 0x1f) == 0x1f && datagram[2] == 0xff)
            memcpy(datagram + STAMP_AT, &stamp, sizeof stamp);
        return;
    }
    for (int i = 0; i < packets; i++) {
        unsigned char header[] = {0x47, 0x01, 0x00, 0x10 | (counter++ & 15)};
        memcpy(datagram + i * PACKET, header, sizeof header);
    }
    memcpy(datagram + STAMP_AT, &stamp, sizeof stamp);
}

int main(int argc, char **argv) {
    static unsigned char burst[BURST_LIMIT * SIZE];
    int understood = argc == 5 || argc == 6;
    double rate = understood ? atof(argv[1]) : 0;
    int count = understood ? atoi(argv[2]) : 0;
    int tail = understood ? atoi(argv[3]) : 0;
    if (rate <= 0 || count < 1 || count > BURST_LIMIT || tail < 1 || tail > PACKETS) {
        fputs("usage: source RATE BURST TAIL SECONDS [FILE] <&SOCKET\n", stderr);
        return 2;
    }
    if (argc == 6 && open_film(argv[5]) < 0) {
        perror(argv[5]);
        return 1;
    }
    int size = SIZE;
    if (count > 1 && setsockopt(0, SOL_UDP, UDP_SEGMENT, &size, sizeof size) < 0) {
        perror("UDP_SEGMENT");
        return 1;
    }
    size_t length = (size_t)(count - 1) * SIZE + tail * PACKET;
    uint64_t sent = 0;
    int64_t start = now(CLOCK_MONOTONIC), end = start + (int64_t)(atof(argv[4]) * 1e9);
    for (int64_t due = start; due < end; due = start + (int64_t)(sent * 1e9 / rate)) {
        sleep_until(due);
        for (int i = 0; i < count; i++)
            fill(burst + i * SIZE, i < count - 1 ? PACKETS : tail, sent + i);
        if (send(0, burst, length, 0) >= 0)
            sent += count;
        else if (now(CLOCK_MONOTONIC) >= end)
            break; /* nobody listens any more */
    }
    printf("%llu\n", (unsigned long long)sent);
    return 0;
}
