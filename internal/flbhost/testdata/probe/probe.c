/*
 * A tiny input that speaks the Go proxy interface from C. Tests load it in the host and in a real Fluent Bit and compare
 * the calls it saw: it writes each one to the file named by PROBE_TRACE. Its stanza says what it does wrong.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct api {
    void *output_get_property;
    const char *(*input_get_property)(const char *, void *);
    void *cmt[2];
    void (*log_print)(int, const char *, int, const char *, ...);
    int (*input_log_check)(void *, int);
};
struct plugin { char *name; struct api *api; void *ins; char *context; };
struct def { int type, proxy, flags; char *name, *description; };

struct probe {
    int lines;        /* of the log, at each callback */
    char text[1000];
    struct api *api;
    char name[64];
    long tid;
    long seq, limit;
    int records, sleep_ms, exit_ms, heed, paused;
    char bad[32];
    void *ticks;      /* a counter; NULL: the core has no metrics */
    double ticked;
};

#define MAX 32
static struct probe *probes[MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long gettid_(void) { return syscall(SYS_gettid); }

static struct probe *mine(void)
{
    struct probe *found = NULL;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX; i++)
        if (probes[i] && probes[i]->tid == gettid_())
            found = probes[i];
    pthread_mutex_unlock(&lock);
    return found;
}

static void trace(const char *fmt, ...)
{
    char line[256];
    va_list args;
    const char *path = getenv("PROBE_TRACE");
    int fd, n;

    if (!path || (fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) < 0)
        return;
    va_start(args, fmt);
    n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    if (write(fd, line, n) < 0)
        perror("probe trace");
    close(fd);
}

static void wait_ms(int ms)
{
    struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&t, NULL);
}

static const char *name_of(struct probe *p) { return p ? p->name : "-"; }

int FLBPluginPreRegister(int reload) { trace("PreRegister %d\n", reload); return 0; }

int FLBPluginRegister(void *d)
{
    struct def *def = d;
    def->type = 1;
    def->proxy = 11;
    def->name = strdup("probe");
    def->description = strdup("a probe");
    if (getenv("PROBE_OVERRUN"))
        memset((char *) d + atoi(getenv("PROBE_OVERRUN")), 1, 8);
    trace("Register\n");
    return 0;
}

static void *stray(void *arg)
{
    struct probe *p = arg;
    p->api->log_print(3, "", 0, "%s", "a line from a stray thread");
    return NULL;
}

static void set(struct probe *p, double value)
{
    int (*counter_set)(void *, uint64_t, double, int, char **) = dlsym(RTLD_DEFAULT, "cmt_counter_set");
    char *labels[] = {p->name};

    if (p->ticks)
        counter_set(p->ticks, 1, value, 1, labels);
}

static void *stray_metric(void *arg)
{
    set(arg, 1e9);
    return NULL;
}

static void make_metric(struct probe *p, struct plugin *pl)
{
    void *(*context)(void *) = dlsym(RTLD_DEFAULT, "flb_input_get_cmt_instance");
    void *(*create)(void *, char *, char *, char *, char *, int, char **) = dlsym(RTLD_DEFAULT, "cmt_counter_create");
    char *keys[] = {"name"};

    if (!context || !create)
        return;
    p->ticks = create(context(pl->ins), "fluentbit", "probe", "ticks_total", "Callbacks.", 1, keys);
    if (strcmp(p->bad, "latemetric") != 0)
        set(p, 0);
}

static const char *property(struct plugin *pl, const char *key, const char *dflt)
{
    const char *v = pl->api->input_get_property(key, pl->ins);
    return v ? v : dflt;
}

int FLBPluginInit(void *arg)
{
    struct plugin *pl = arg;
    struct probe *p = calloc(1, sizeof(*p));
    const char *(*input_name)(void *) = (const char *(*)(void *)) dlsym(RTLD_DEFAULT, "flb_input_name");
    void **slot = (void **) (pl->context + 8);
    int new_core = *slot == NULL, i;

    p->api = pl->api;
    p->tid = gettid_();
    snprintf(p->name, sizeof(p->name), "%s", input_name ? input_name(pl->ins) : "?");
    snprintf(p->bad, sizeof(p->bad), "%s", property(pl, "bad", "none"));
    p->records = atoi(property(pl, "records", "1"));
    p->limit = atol(property(pl, "count", "1000000000"));
    p->sleep_ms = atoi(property(pl, "sleep_ms", "0"));
    p->lines = atoi(property(pl, "lines", "0"));
    memset(p->text, 'x', sizeof(p->text) - 1);
    p->exit_ms = atoi(property(pl, "exit_ms", "0"));
    p->heed = strcmp(property(pl, "heed", "on"), "on") == 0;
    trace("Init %s slot=%s tag=%s Mixed=%s\n", p->name, new_core ? "empty" : "proxy", property(pl, "tag", "hidden"),
          property(pl, "mIxEd", "none"));
    if (strcmp(property(pl, "fail_init", "off"), "on") == 0) {
        p->api->log_print(1, "", 0, "%s", "the probe was told to fail");
        free(p);
        return 0;
    }
    pthread_mutex_lock(&lock);
    for (i = 0; i < MAX && probes[i]; i++)
        ;
    probes[i] = p;
    pthread_mutex_unlock(&lock);
    if (new_core)
        *slot = p;
    make_metric(p, pl);
    if (strcmp(p->bad, "straylog") == 0) {
        pthread_t t;
        pthread_create(&t, NULL, stray, p);
        pthread_join(t, NULL);
    }
    if (p->api->input_log_check(pl->ins, 4))
        p->api->log_print(4, "", 0, "%s", "[input:probe] debug is on");
    return 1;
}

int FLBPluginInputPreRun(int reload) { trace("PreRun %s %d\n", name_of(mine()), reload); return 1; }

static size_t record(struct probe *p, uint8_t *b)
{
    struct timespec now;
    size_t n = 0, len = strlen(p->name);
    uint32_t sec;
    const char *bad = p->seq == 2 ? p->bad : "none"; /* the third record is the bad one */

    clock_gettime(CLOCK_REALTIME, &now);
    sec = strcmp(bad, "marker") == 0 ? 0xFFFFFFFF : (uint32_t) now.tv_sec;
    if (strcmp(bad, "marker") == 0)
        now.tv_nsec = 0;
    b[n++] = 0x92;
    b[n++] = 0xd7; b[n++] = 0;
    for (int i = 3; i >= 0; i--) b[n++] = sec >> (8 * i);
    for (int i = 3; i >= 0; i--) b[n++] = now.tv_nsec >> (8 * i);
    if (strcmp(bad, "notmap") == 0) { b[n++] = 0x90; p->seq++; return n; }
    b[n++] = 0x82;
    b[n++] = 0xa1; b[n++] = 'n';
    b[n++] = 0xce;
    for (int i = 3; i >= 0; i--) b[n++] = p->seq >> (8 * i);
    b[n++] = 0xa3; memcpy(b + n, "ins", 3); n += 3;
    if (strcmp(bad, "c1") == 0) b[n++] = 0xc1;
    if (strcmp(bad, "deep") == 0) { memset(b + n, 0x91, 40); n += 40; }
    b[n++] = 0xa0 | len; memcpy(b + n, p->name, len); n += len;
    if (strcmp(bad, "cut") == 0) n -= 2;
    p->seq++;
    return n;
}

static int collect(struct probe *p, void **data, size_t *len)
{
    uint8_t *b;

    set(p, strcmp(p->bad, "downmetric") == 0 ? -1 : ++p->ticked);
    if (strcmp(p->bad, "straymetric") == 0) {
        pthread_t t;
        pthread_create(&t, NULL, stray_metric, p);
        pthread_join(t, NULL);
    }
    if (p->sleep_ms)
        wait_ms(p->sleep_ms);
    for (int i = 0; i < p->lines; i++)
        p->api->log_print(3, "", 0, "%s", p->text);
    if (strcmp(p->bad, "crash") == 0)
        *(volatile int *) NULL = 1;
    if ((p->heed && p->paused) || p->seq >= p->limit)
        return 1;
    b = malloc(256 * p->records);
    *data = b;
    if (strcmp(p->bad, "zero") == 0)
        return 1;
    for (int i = 0; i < p->records && p->seq < p->limit; i++)
        *len += record(p, b + *len);
    return strcmp(p->bad, "minus") == 0 ? -1 : 1;
}

static struct probe *known(void *ctx)
{
    for (int i = 0; i < MAX; i++)
        if (probes[i] == ctx)
            return ctx;
    return NULL;
}

int FLBPluginInputCallbackCtx(void *ctx, void **data, size_t *len) { return collect(known(ctx), data, len); }
int FLBPluginInputCallback(void **data, size_t *len) { return collect(mine(), data, len); }
int FLBPluginInputCleanupCallbackCtx(void *ctx, void *data) { (void) ctx; free(data); return 1; }
int FLBPluginInputCleanupCallback(void *data) { free(data); return 1; }

static void set_paused(const char *what, int paused)
{
    struct probe *p = mine();
    trace("%s %s\n", what, name_of(p));
    if (p)
        p->paused = paused;
}

void FLBPluginInputPause(void) { set_paused("Pause", 1); }
void FLBPluginInputResume(void) { set_paused("Resume", 0); }
void FLBPluginInputPreExit(int reload) { trace("PreExit %s %d\n", name_of(mine()), reload); }

static struct probe *late; /* outlives its Exit */

int FLBPluginExit(void)
{
    struct probe *p = mine();

    if (p && p->exit_ms)
        wait_ms(p->exit_ms);
    trace("Exit %s\n", name_of(p));
    if (p && strcmp(p->bad, "deadmetric") == 0) {
        late = p;
        p = NULL;
    }
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX; i++)
        if (p && probes[i] == p)
            probes[i] = NULL;
    pthread_mutex_unlock(&lock);
    free(p);
    return 1;
}

void FLBPluginUnregister(void *d)
{
    struct def *def = d;
    trace("Unregister\n");
    if (late)
        set(late, 1e9);
    free(def->name);
    free(def->description);
}
