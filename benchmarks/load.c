/* Load generator: one nginx worker of Kong, as a plugin server sees it.
 *
 * load SOCKET SCRIPT CONCURRENCY SECONDS MOST
 *
 * It sends events, answers the PDK calls of the handlers from a table, and starts the next request when one is done.
 * SCRIPT describes what is sent, a line each, with bytes in hexadecimal:
 *
 *   protocol protobuf|msgpack
 *   event HEX                  ProtoBuf:1: an RpcCall without its sequence; MsgPack:1: the arguments of HandleEvent
 *   reply METHOD STEP HEX      the answer to a PDK call: the result's message, or the value of a step (- for none).
 *                              STEP is the name of the RPC that brings it over MsgPack:1, - over ProtoBuf:1
 *   pace REQUEST CALL          microseconds that Kong computes for a request, and for a PDK call: spent busily, since
 *                              one thread of a worker does everything
 *   ends METHOD                a PDK call that ends the request, like kong.response.exit: Kong does not answer it
 *
 * After a warm-up it writes "ready" and waits for a line on its standard input. It ends after SECONDS, or after MOST
 * events where that is not 0, and writes one line of JSON. Like Kong it takes the connection that was idle for the
 * shortest time; over ProtoBuf:1 an event keeps its connection, over MsgPack:1 each RPC takes one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REPLIES = 64, MAX_CONCURRENCY = 4096, PATIENCE_S = 20, READ_SIZE = 1 << 17 };

typedef struct {
    uint8_t *data;
    size_t size, room;
} Bytes;

typedef struct {
    char *method;
    char *step;
    Bytes value;
    int has_value, ends;
} Reply;

typedef enum { METHOD, ARGUMENTS, RETURN } Expected; /* of the frames of ProtoBuf:1 */

typedef struct Connection {
    int fd;
    struct Request *request;
    Bytes in, out;
    int waits_for_room;
    Expected expected;
    const Reply *reply;
    uint64_t sequence;
} Connection;

typedef struct Request {
    int active;
    uint64_t began;
} Request;

static const char *socket_path;
static int is_msgpack, poller;
static Bytes event;
static Reply replies[MAX_REPLIES];
static int reply_count;
static Request requests[MAX_CONCURRENCY];
static Connection *idle[MAX_CONCURRENCY];
static int idle_count, active_count, concurrency;
static uint64_t next_id, deadline, most, begun, finished;
static int measuring;
static uint64_t request_pace, call_pace, spent_pace; /* in nanoseconds */
static uint32_t *latencies; /* in units of 100 ns */
static size_t latency_room;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

static void *need(void *memory) {
    if (!memory) fail("no memory");
    return memory;
}

static void append(Bytes *bytes, const void *data, size_t size) {
    if (bytes->size + size > bytes->room) {
        bytes->room = (bytes->size + size) * 2;
        bytes->data = need(realloc(bytes->data, bytes->room));
    }
    if (size) memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void consume(Bytes *bytes, size_t size) {
    memmove(bytes->data, bytes->data + size, bytes->size - size);
    bytes->size -= size;
}

/* Computes as long as Kong does; a server sees the pauses between what a worker sends. */
static void compute(uint64_t nanoseconds) {
    if (!nanoseconds) return;
    uint64_t start = read_clock(CLOCK_THREAD_CPUTIME_ID), spent;
    while ((spent = read_clock(CLOCK_THREAD_CPUTIME_ID) - start) < nanoseconds)
        ;
    spent_pace += spent;
}

/* The script. */

static Bytes from_hex(const char *text) {
    Bytes bytes = {0};
    unsigned value;
    for (; text[0] && text[1]; text += 2) {
        if (sscanf(text, "%2x", &value) != 1) fail("not hexadecimal: %s", text);
        uint8_t byte = (uint8_t)value;
        append(&bytes, &byte, 1);
    }
    return bytes;
}

static void read_script(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail("%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) {
        char *word = strtok(line, " \n"), *method = strtok(NULL, " \n");
        if (!word || !method) continue;
        if (!strcmp(word, "protocol")) is_msgpack = !strcmp(method, "msgpack");
        else if (!strcmp(word, "event")) event = from_hex(method);
        else if (!strcmp(word, "pace")) {
            char *call = strtok(NULL, " \n");
            request_pace = strtoull(method, NULL, 10) * 1000;
            call_pace = call ? strtoull(call, NULL, 10) * 1000 : 0;
        }
        else {
            if (reply_count == MAX_REPLIES) fail("more than %d replies", MAX_REPLIES);
            Reply *reply = &replies[reply_count++];
            reply->method = need(strdup(method));
            reply->ends = !strcmp(word, "ends");
            if (reply->ends) continue;
            char *step = strtok(NULL, " \n"), *value = strtok(NULL, " \n");
            reply->step = need(strdup(step ? step : "-"));
            reply->has_value = !value || strcmp(value, "-");
            if (reply->has_value) reply->value = from_hex(value ? value : "");
        }
    }
    free(line);
    fclose(file);
}

static const Reply *reply_to(const uint8_t *method, size_t size) {
    for (int i = 0; i < reply_count; i++)
        if (strlen(replies[i].method) == size && !memcmp(replies[i].method, method, size)) return &replies[i];
    fail("the script has no reply to %.*s", (int)size, (const char *)method);
    return NULL;
}

/* Connections. */

static Connection *take_connection(void) {
    if (idle_count) return idle[--idle_count];
    Connection *connection = need(calloc(1, sizeof *connection));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, socket_path, sizeof address.sun_path - 1);
    connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address))
        fail("%s: %s", socket_path, strerror(errno));
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &interest)) fail("epoll: %s", strerror(errno));
    return connection;
}

static void wait_for_room(Connection *connection, int waits) {
    if (connection->waits_for_room == waits) return;
    connection->waits_for_room = waits;
    struct epoll_event interest = {.events = EPOLLIN | (waits ? EPOLLOUT : 0), .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &interest);
}

static void send_bytes(Connection *connection, const void *data, size_t size) {
    size_t sent = 0;
    while (!connection->out.size && sent < size) {
        ssize_t count = send(connection->fd, (const char *)data + sent, size - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) fail("the server closed a connection in an event: %s", strerror(errno));
        sent += (size_t)count;
    }
    if (sent < size) {
        append(&connection->out, (const char *)data + sent, size - sent);
        wait_for_room(connection, 1);
    }
}

static void flush(Connection *connection) {
    ssize_t count = send(connection->fd, connection->out.data, connection->out.size, MSG_NOSIGNAL);
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) fail("the server closed a connection in an event: %s", strerror(errno));
    consume(&connection->out, (size_t)count);
    if (!connection->out.size) wait_for_room(connection, 0);
}

static void give_back(Connection *connection) {
    connection->request = NULL;
    if (connection->in.size) fail("the server sent %zu bytes more than its answer", connection->in.size);
    idle[idle_count++] = connection;
}

static void drop(Connection *connection) {
    for (int i = 0; i < idle_count; i++)
        if (idle[i] == connection) idle[i] = idle[--idle_count];
    close(connection->fd);
    free(connection->in.data);
    free(connection->out.data);
    free(connection);
}

/* Requests. */

static void finish(Request *request) {
    if (measuring) {
        if (finished == latency_room) {
            latency_room = latency_room ? latency_room * 2 : 1 << 16;
            latencies = need(realloc(latencies, latency_room * sizeof *latencies));
        }
        latencies[finished] = (uint32_t)((now() - request->began) / 100);
    }
    finished++;
    request->active = 0;
    active_count--;
}

/* ProtoBuf:1. */

static void send_frame(Connection *connection, const uint8_t *data, uint32_t size) {
    uint8_t length[4] = {(uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16), (uint8_t)(size >> 24)};
    send_bytes(connection, length, sizeof length); /* Kong writes the two one after the other */
    send_bytes(connection, data, size);
}

static void begin_protobuf(Request *request) {
    uint8_t call[4096];
    if (event.size + 16 > sizeof call) fail("an event of %zu bytes is too long", event.size);
    Connection *connection = take_connection();
    connection->request = request;
    connection->expected = METHOD;
    uint64_t sequence = connection->sequence = ++next_id;
    size_t size = 0;
    call[size++] = 0x08; /* field 1, a varint */
    for (; sequence > 0x7f; sequence >>= 7) call[size++] = (uint8_t)(sequence | 0x80);
    call[size++] = (uint8_t)sequence;
    memcpy(call + size, event.data, event.size);
    send_frame(connection, call, (uint32_t)(size + event.size));
}

static void check_return(const Connection *connection, const uint8_t *data, size_t size) {
    uint64_t sequence = 0;
    if (size < 2 || data[0] != 0x08) fail("an event was answered with something else than an RpcReturn");
    for (size_t i = 1, shift = 0; i < size; i++, shift += 7) {
        sequence |= (uint64_t)(data[i] & 0x7f) << shift;
        if (!(data[i] & 0x80)) break;
    }
    if (sequence != connection->sequence) fail("call %lu was answered as %lu", connection->sequence, sequence);
}

/* Reads what came; afterwards the connection may be gone. */
static void read_protobuf(Connection *connection) {
    size_t at = 0;
    while (connection->in.size - at >= 4) {
        const uint8_t *head = connection->in.data + at;
        size_t size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        if (connection->in.size - at - 4 < size) break;
        const uint8_t *content = head + 4;
        at += 4 + size;
        Request *request = connection->request;
        if (!request) fail("the server sent a frame outside of an event");
        switch (connection->expected) {
        case METHOD:
            connection->reply = size ? reply_to(content, size) : NULL;
            connection->expected = size ? ARGUMENTS : RETURN;
            break;
        case ARGUMENTS:
            if (connection->reply->ends) {
                finish(request);
                drop(connection);
                return;
            }
            compute(call_pace);
            send_frame(connection, connection->reply->value.data, (uint32_t)connection->reply->value.size);
            connection->expected = METHOD;
            break;
        case RETURN:
            check_return(connection, content, size);
            consume(&connection->in, at);
            finish(request);
            give_back(connection);
            return;
        }
    }
    consume(&connection->in, at);
}

/* MsgPack:1. */

typedef struct {
    const uint8_t *at, *end;
} Cursor;

static int available(const Cursor *cursor, uint64_t size) { return (uint64_t)(cursor->end - cursor->at) >= size; }

static int read_number(Cursor *cursor, unsigned size, uint64_t *value) {
    if (!available(cursor, size)) return 0;
    for (*value = 0; size; size--) *value = *value << 8 | *cursor->at++;
    return 1;
}

typedef enum { OTHER, TEXT, LIST, MAP } Kind;

/* Reads the head of a value: the size of a text in bytes, of a list or map in items; other values are skipped whole.
 * Returns 0 where more has to come. */
static int read_head(Cursor *cursor, Kind *kind, uint64_t *size) {
    if (!available(cursor, 1)) return 0;
    uint8_t head = *cursor->at++;
    *kind = OTHER;
    *size = 0;
    if (head <= 0x7f || head >= 0xe0 || (head >= 0xc0 && head <= 0xc3)) return 1;
    if (head <= 0x8f) return *kind = MAP, *size = head & 0x0f, 1;
    if (head <= 0x9f) return *kind = LIST, *size = head & 0x0f, 1;
    if (head <= 0xbf) return *kind = TEXT, *size = head & 0x1f, 1;
    if (head >= 0xc4 && head <= 0xc6) return *kind = TEXT, read_number(cursor, 1u << (head - 0xc4), size);
    if (head >= 0xd9 && head <= 0xdb) return *kind = TEXT, read_number(cursor, 1u << (head - 0xd9), size);
    if (head == 0xdc || head == 0xdd) return *kind = LIST, read_number(cursor, head == 0xdc ? 2 : 4, size);
    if (head == 0xde || head == 0xdf) return *kind = MAP, read_number(cursor, head == 0xde ? 2 : 4, size);
    uint64_t skipped;
    if (head >= 0xc7 && head <= 0xc9) {
        if (!read_number(cursor, 1u << (head - 0xc7), &skipped)) return 0;
        skipped += 1;
    } else if (head >= 0xd4) skipped = 1 + (1u << (head - 0xd4));
    else skipped = head == 0xca ? 4 : head == 0xcb ? 8 : 1u << ((head - 0xcc) & 3);
    if (!available(cursor, skipped)) return 0;
    cursor->at += skipped;
    return 1;
}

static int skip(Cursor *cursor) {
    Kind kind;
    uint64_t size;
    if (!read_head(cursor, &kind, &size)) return 0;
    if (kind == TEXT) {
        if (!available(cursor, size)) return 0;
        cursor->at += size;
        return 1;
    }
    for (uint64_t items = kind == MAP ? 2 * size : kind == LIST ? size : 0; items; items--)
        if (!skip(cursor)) return 0;
    return 1;
}

/* Finds the value of a key of a map; the cursor is at the map, and stays there. */
static Cursor member(Cursor map, const char *name) {
    Kind kind;
    uint64_t count, size;
    Cursor value = {NULL, NULL};
    if (!read_head(&map, &kind, &count) || kind != MAP) return value;
    for (; count; count--) {
        if (!read_head(&map, &kind, &size) || kind != TEXT) return value;
        int found = strlen(name) == size && !memcmp(name, map.at, size);
        map.at += size;
        if (found) value.at = map.at;
        skip(&map);
        if (found) return value.end = map.at, value;
    }
    return value;
}

static void append_text(Bytes *bytes, const char *text) {
    uint8_t head[2] = {0xd9, (uint8_t)strlen(text)};
    append(bytes, head, 2);
    append(bytes, text, head[1]);
}

static void send_rpc(Request *request, const char *method, const Bytes *argument) {
    static Bytes message;
    Connection *connection = take_connection();
    connection->request = request;
    connection->sequence = ++next_id & 0xffffffff;
    uint8_t head[7] = {0x94, 0x00, 0xce, (uint8_t)(connection->sequence >> 24), (uint8_t)(connection->sequence >> 16),
                       (uint8_t)(connection->sequence >> 8), (uint8_t)connection->sequence};
    message.size = 0;
    append(&message, head, sizeof head);
    append_text(&message, method);
    append(&message, argument->data, argument->size);
    send_bytes(connection, message.data, message.size);
}

static void send_step(Request *request, const Reply *reply, Cursor event_id) {
    static Bytes argument;
    compute(call_pace);
    uint8_t head[2] = {0x91, reply->has_value ? 0x82 : 0x81}; /* a list of one map */
    argument.size = 0;
    append(&argument, head, sizeof head);
    append_text(&argument, "EventId");
    append(&argument, event_id.at, (size_t)(event_id.end - event_id.at));
    if (reply->has_value) {
        append_text(&argument, "Data");
        append(&argument, reply->value.data, reply->value.size);
    }
    send_rpc(request, reply->step, &argument);
}

static void read_response(Connection *connection, Cursor message) {
    static Bytes kept; /* the message: the connection may be used again while it is read */
    Kind kind;
    uint64_t size, type, id;
    read_head(&message, &kind, &size);
    const uint8_t *head = message.at++;
    type = head[0];
    if (kind != LIST || (type != 1 && type != 2)) fail("the server sent a message that is no response");
    if (type == 2) return; /* a notification */
    if (!connection->request) fail("the server sent a response outside of a call");
    Cursor at = message;
    uint8_t form = *at.at++;
    id = form;
    if (form >= 0xcc && form <= 0xcf) read_number(&at, 1u << (form - 0xcc), &id);
    if (id != connection->sequence) fail("call %lu was answered as %lu", connection->sequence, id);
    if (*at.at != 0xc0) fail("an event was answered with an error: %.*s", (int)(at.end - at.at), (const char *)at.at);
    at.at++;
    kept.size = 0;
    append(&kept, at.at, (size_t)(at.end - at.at));
    at = (Cursor){kept.data, kept.data + kept.size};
    Request *request = connection->request;
    give_back(connection);
    Cursor data = member(at, "Data"), method = member(data, "Method");
    if (!data.at) fail("an event was answered without Data");
    if (!method.at) { /* "ret": the handler's end */
        finish(request);
        return;
    }
    read_head(&method, &kind, &size);
    const Reply *reply = reply_to(method.at, size);
    if (reply->ends) finish(request);
    else send_step(request, reply, member(at, "EventId"));
}

static void read_msgpack(Connection *connection) {
    while (connection->in.size) {
        static Bytes message;
        Cursor cursor = {connection->in.data, connection->in.data + connection->in.size};
        if (!skip(&cursor)) break;
        size_t size = (size_t)(cursor.at - connection->in.data);
        message.size = 0;
        append(&message, connection->in.data, size);
        consume(&connection->in, size);
        read_response(connection, (Cursor){message.data, message.data + size});
    }
}

/* The loop. */

static void begin(Request *request) {
    compute(request_pace);
    request->active = 1;
    request->began = now();
    active_count++;
    begun++;
    if (!is_msgpack) {
        begin_protobuf(request);
        return;
    }
    send_rpc(request, "plugin.HandleEvent", &event);
}

static void receive(Connection *connection) {
    static uint8_t buffer[READ_SIZE];
    ssize_t count = recv(connection->fd, buffer, sizeof buffer, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        if (connection->request) fail("the server closed a connection in an event");
        drop(connection);
        return;
    }
    append(&connection->in, buffer, (size_t)count);
    if (is_msgpack) read_msgpack(connection);
    else read_protobuf(connection);
}

static int may_begin(void) { return now() < deadline && (!most || begun < most); }

static void check_patience(void) {
    for (int i = 0; i < concurrency; i++)
        if (requests[i].active && now() - requests[i].began > PATIENCE_S * 1000000000ull)
            fail("an event has no answer after %d s", PATIENCE_S);
}

/* Runs requests until the deadline, or until so many are begun; returns when all are done. */
static void run(uint64_t until, uint64_t count) {
    deadline = until;
    most = count;
    begun = finished = 0;
    struct epoll_event ready[256];
    uint64_t checked = now();
    for (;;) {
        for (int i = 0; i < concurrency && active_count < concurrency && may_begin(); i++)
            if (!requests[i].active) begin(&requests[i]);
        if (!active_count) return;
        int ready_count = epoll_wait(poller, ready, 256, 1000);
        for (int i = 0; i < ready_count; i++) {
            Connection *connection = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT) flush(connection);
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(connection);
        }
        if (now() - checked > 1000000000ull) {
            checked = now();
            check_patience();
        }
    }
}

static int by_size(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int count, char **arguments) {
    if (count != 6) fail("usage: load SOCKET SCRIPT CONCURRENCY SECONDS MOST");
    socket_path = arguments[1];
    read_script(arguments[2]);
    concurrency = atoi(arguments[3]);
    double seconds = atof(arguments[4]);
    if (concurrency < 1 || concurrency > MAX_CONCURRENCY) fail("not a number of requests: %s", arguments[3]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    uint64_t limit = strtoull(arguments[5], NULL, 10);
    run(now() + (uint64_t)(seconds * 0.2e9), limit ? (uint64_t)concurrency : 0);
    run(UINT64_MAX, (uint64_t)concurrency);
    printf("ready\n");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    measuring = 1;
    spent_pace = 0;
    double cpu = cpu_seconds();
    uint64_t start = now();
    run(start + (uint64_t)(seconds * 1e9), limit);
    double elapsed = (double)(now() - start) / 1e9;
    cpu = cpu_seconds() - cpu - (double)spent_pace / 1e9;
    if (!finished) fail("no event was finished");
    qsort(latencies, finished, sizeof *latencies, by_size);
    printf("{\"events\": %lu, \"seconds\": %.6f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"cpu_seconds\": %.6f}\n", finished,
           elapsed, latencies[finished / 2] / 1e4, latencies[finished * 99 / 100] / 1e4, cpu);
    return 0;
}
