/* The floor: a ProtoBuf:1 server that answers and does nothing else; what any external server costs at least.
 *
 * floor SOCKET: accepts connections, and answers each frame with the end of the calls and an RpcReturn that repeats the
 * frame's sequence.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Reads the sequence of an RpcCall, a varint in field 1, wherever it starts the message; returns its size. */
static size_t sequence_size(const uint8_t *call) {
    size_t size = 1;
    while (call[size++] & 0x80)
        ;
    return size;
}

static int serve(int connection) {
    uint8_t in[4096], out[32] = {0};
    ssize_t received = recv(connection, in, sizeof in, 0);
    if (received <= 0) return 0;
    if (received == 4) received += recv(connection, in + 4, sizeof in - 4, 0); /* the length came alone */
    size_t size = sequence_size(in + 4);
    out[4] = (uint8_t)size; /* an empty frame, then the RpcReturn */
    memcpy(out + 8, in + 4, size);
    return send(connection, out, 8 + size, MSG_NOSIGNAL) > 0;
}

int main(int count, char **arguments) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (count != 2) return 2;
    strncpy(address.sun_path, arguments[1], sizeof address.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), poller = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 512)) return perror("floor"), 1;
    struct epoll_event ready[64], interest = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &interest);
    for (;;) {
        int ready_count = epoll_wait(poller, ready, 64, -1);
        for (int i = 0; i < ready_count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                interest.data.fd = accept(listener, NULL, NULL);
                epoll_ctl(poller, EPOLL_CTL_ADD, interest.data.fd, &interest);
            } else if (!serve(fd)) close(fd);
        }
    }
}
