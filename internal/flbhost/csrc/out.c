/* What the host says: chunks, events, sins, replies, metrics and calls as frames on stdout, log lines on stderr. */
#include "host.h"
#include <stdarg.h>
#include <time.h>

__thread int is_worker;

static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* Writes all, or gives up when nobody reads any more. */
static void put(int fd, const void *data, size_t len)
{
    const char *p = data;
    ssize_t n;

    while (len > 0) {
        n = write(fd, p, len);
        if (n <= 0)
            return;
        p += n;
        len -= n;
    }
}

void out_chunk(struct flb_input_instance *ins, const void *data, size_t len)
{
    char head[256];
    int n = snprintf(head, sizeof(head), "C\t%s\t%s\t%zu\n", conf_name(ins), ins->tag, len);

    pthread_mutex_lock(&out_lock);
    put(STDOUT_FILENO, head, n);
    put(STDOUT_FILENO, data, len);
    pthread_mutex_unlock(&out_lock);
}

/* Frames that are whole already. */
void out_lines(const char *frames, size_t len)
{
    pthread_mutex_lock(&out_lock);
    put(STDOUT_FILENO, frames, len);
    pthread_mutex_unlock(&out_lock);
}

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
    pthread_mutex_lock(&out_lock);
    put(STDOUT_FILENO, buf, n);
    pthread_mutex_unlock(&out_lock);
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
    pthread_mutex_lock(&out_lock);
    put(STDERR_FILENO, body, n);
    pthread_mutex_unlock(&out_lock);
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
