/* What the host says: chunks, events, sins, replies, metrics and calls as frames on stdout, log lines on stderr. */
#include "host.h"
#include <errno.h>
#include <stdarg.h>
#include <time.h>

__thread int is_worker;

double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* How long this thread waited for a processor since it began: a machine that is busy with other things is not the plugin's fault. */
double starved_ms(void)
{
    unsigned long long ran = 0, waited = 0;
    FILE *f = fopen("/proc/thread-self/schedstat", "re");

    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    fclose(f);
    return waited / 1e6;
}

/* Writes all; -1 when nobody reads any more. */
static int put(int fd, const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        p += n;
        len -= n;
    }
    return 0;
}

/* What waits for a stream. A thread of its own writes it, so that a reader that is slow holds up neither a callback nor another
 * instance's line; the real one queues its log in the same way. */
struct item { struct item *next; size_t len; char data[]; };

#define MOST_WAITING (64u << 20) /* bytes; chunks wait for room beyond it, lines are dropped */

static struct stream {
    int fd, started, gone, writing;
    struct item *first, **last;
    size_t waiting, dropped;
    pthread_mutex_t lock;
    pthread_cond_t more, less;
} streams[2] = {
    {.fd = STDOUT_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .less = PTHREAD_COND_INITIALIZER},
    {.fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .less = PTHREAD_COND_INITIALIZER},
};

static void *write_stream(void *arg)
{
    struct stream *s = arg;

    pthread_setname_np(pthread_self(), "host-out");
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct item *it = s->first;

        if (!it) {
            s->writing = 0;
            pthread_cond_broadcast(&s->less);
            pthread_cond_wait(&s->more, &s->lock);
            continue;
        }
        s->writing = 1;
        s->first = it->next;
        if (!s->first)
            s->last = &s->first;
        pthread_mutex_unlock(&s->lock);
        if (!s->gone && put(s->fd, it->data, it->len) < 0)
            s->gone = 1;
        pthread_mutex_lock(&s->lock);
        s->waiting -= it->len;
        pthread_cond_broadcast(&s->less);
        free(it);
    }
    return NULL;
}

/* Waits, a minute at most, until all was written. */
void out_flush(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    for (int i = 0; i < 2; i++) {
        struct stream *s = &streams[i];

        pthread_mutex_lock(&s->lock);
        while (s->started && (s->first || s->writing))
            if (pthread_cond_timedwait(&s->less, &s->lock, &until))
                break;
        pthread_mutex_unlock(&s->lock);
    }
}

/* In the child of a fork: no thread writes here yet. */
void out_forked(void)
{
    for (int i = 0; i < 2; i++) {
        struct stream *s = &streams[i];

        s->started = 0;
        pthread_mutex_init(&s->lock, NULL);
        pthread_cond_init(&s->more, NULL); /* the parent's waiter is none of ours */
        pthread_cond_init(&s->less, NULL);
    }
}

/* Queues two texts as one. wait: where there is no room, until there is. */
static void say(struct stream *s, int wait, const void *a, size_t alen, const void *b, size_t blen)
{
    struct item *it = malloc(sizeof(*it) + alen + blen);
    pthread_t writer;

    if (!it)
        return;
    memcpy(it->data, a, alen);
    if (blen)
        memcpy(it->data + alen, b, blen);
    it->len = alen + blen;
    it->next = NULL;
    pthread_mutex_lock(&s->lock);
    if (!s->started) { /* here, not at the start: daemon mode forks, and threads do not survive that */
        s->started = 1;
        s->last = &s->first;
        if (pthread_create(&writer, NULL, write_stream, s))
            abort();
        pthread_detach(writer);
    }
    while (wait && s->waiting > MOST_WAITING)
        pthread_cond_wait(&s->less, &s->lock);
    if (s->waiting > MOST_WAITING) {
        s->dropped++;
        free(it);
    }
    else {
        *s->last = it;
        s->last = &it->next;
        s->waiting += it->len;
        pthread_cond_signal(&s->more);
    }
    pthread_mutex_unlock(&s->lock);
}

void out_chunk(struct flb_input_instance *ins, const void *data, size_t len)
{
    char head[256];
    int n = snprintf(head, sizeof(head), "C\t%s\t%s\t%zu\n", conf_name(ins), ins->tag, len);

    say(&streams[0], 1, head, n, data, len);
}

/* Frames that are whole already. */
void out_lines(const char *frames, size_t len) { say(&streams[0], 1, frames, len, NULL, 0); }

static void line(char kind, const char *fmt, va_list args)
{
    char buf[4096];
    int n = snprintf(buf, sizeof(buf), "%c\t", kind);

    n += vsnprintf(buf + n, sizeof(buf) - n - 1, fmt, args);
    if (n > (int) sizeof(buf) - 2)
        n = sizeof(buf) - 2;
    for (int i = 0; i < n; i++)
        if (buf[i] == '\n')
            buf[i] = ' ';
    buf[n++] = '\n';
    say(&streams[0], 0, buf, n, NULL, 0);
}

#define LINE(kind)                \
    va_list args;                 \
    va_start(args, fmt);          \
    line(kind, fmt, args);        \
    va_end(args)

void event(const char *fmt, ...) { LINE('E'); }
void reply(const char *fmt, ...) { LINE('R'); }
void sin_(const char *fmt, ...) { LINE('S'); }

void trace(const char *fmt, ...)
{
    if (opt.trace) {
        LINE('T');
    }
}

static void render(int level, const char *fmt, va_list args)
{
    static const char *names[] = {"off", "error", " warn", " info", "debug", "trace"};
    char body[4088]; /* the real one cuts a line at this length too */
    struct timespec t;
    struct tm tm;
    int n;

    clock_gettime(CLOCK_REALTIME, &t);
    localtime_r(&t.tv_sec, &tm);
    n = strftime(body, sizeof(body), "[%Y/%m/%d %H:%M:%S", &tm);
    n += snprintf(body + n, sizeof(body) - n, ".%09ld] [%s] ", t.tv_nsec, names[level < 0 || level > 5 ? 0 : level]);
    n += vsnprintf(body + n, sizeof(body) - n - 1, fmt, args);
    if (n > (int) sizeof(body) - 2)
        n = sizeof(body) - 2;
    body[n++] = '\n';
    say(&streams[1], 0, body, n, NULL, 0);
}

void host_log(int level, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    render(level, fmt, args);
    va_end(args);
}

/* The log_print of struct flb_api. It does not look at levels: that is the plugin's part, through input_log_check. */
void api_log_print(int level, const char *file, int line, const char *fmt, ...)
{
    va_list args;

    (void) file;
    (void) line;
    if (!is_worker)
        sin_("log_print from a thread that is not the instance's: the line never reaches log_file");
    if (strcmp(fmt, "%s") != 0)
        sin_("log_print with text as format: %s", fmt);
    if (level < 1 || level > 5)
        sin_("log_print with level %d", level);
    va_start(args, fmt);
    render(level, fmt, args);
    va_end(args);
}
