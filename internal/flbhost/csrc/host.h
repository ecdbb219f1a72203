/*
 * A host that treats a Go input as Fluent Bit 5.1.1 does: the same structs, the same threads, the same order of calls and
 * the same bugs. Behaviour was read from the sources of Fluent Bit and compared call by call with a real one (see the tests).
 */
#ifndef HOST_H
#define HOST_H

#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- the interface towards the plugin ---- */

struct flb_input_instance;

struct flb_api {
    const char *(*output_get_property)(const char *, void *);
    const char *(*input_get_property)(const char *, struct flb_input_instance *);
    void *(*output_get_cmt_instance)(void *);
    void *(*input_get_cmt_instance)(struct flb_input_instance *);
    void (*log_print)(int, const char *, int, const char *, ...);
    int (*input_log_check)(struct flb_input_instance *, int);
    int (*output_log_check)(void *, int);
    const char *(*custom_get_property)(const char *, void *);
    int (*custom_log_check)(void *, int);
};

struct proxy_def {
    int type, proxy, flags;
    char *name, *description;
    int event_type;
    void *config_map;
};

/* What Init is given: one per loaded .so, overwritten by each Init. */
struct go_input {
    char *name;
    struct flb_api *api;
    struct flb_input_instance *i_ins;
    void *context;
    int (*init)(struct go_input *);
    int (*collect)(void **, size_t *);
    int (*collect_ctx)(void *, void **, size_t *);
    int (*cleanup)(void *);
    int (*cleanup_ctx)(void *, void *);
    int (*exit)(void);
};

struct proxy {
    struct proxy_def *def;
    struct flb_api *api;
    struct flb_input_instance *instance; /* the last one initialised: the bug of pause and resume lives here */
    void *handle;
    struct go_input *plugin;
};

/* The input context from 4.1 on. Before that byte 8 holds the proxy and the struct ends there. */
struct context_new { int coll_fd; void *remote_context; struct proxy *proxy; };
struct context_old { int coll_fd; struct proxy *proxy; };

/* ---- options ---- */

struct options {
    const char *plugin, *config;
    int core;          /* major * 10000 + minor * 100 + patch */
    int interval_ms;   /* between callbacks */
    int drain_ms;      /* between two drains of the ring buffers */
    int tick_ms;       /* of the stop: real 1000 */
    int grace;         /* ticks at most */
    int slow_ms;       /* a callback longer than this is a sin */
    int ring;          /* entries */
    long output_rate;  /* bytes a second that leave memory, 0: at once */
    int daemon, trace;
};
extern struct options opt;

#define CORE(major, minor, patch) ((major) * 10000 + (minor) * 100 + (patch))

/* ---- configuration (conf.c) ---- */

struct property { char *key, *value; struct property *next; };

/* The metrics context of an instance (cmt.c). */
struct cmt { struct flb_input_instance *ins; struct metric *first, **tail; };

struct flb_input_instance {
    uint32_t magic;               /* ALIVE or DEAD: the memory is never freed, so late use is seen */
    char name[64], *alias, *tag;
    struct property *properties;  /* what the plugin may see */
    int log_level, threaded, ring_size;
    long mem_limit;
    struct engine *engine;
    void *context;                /* context_new or context_old */
    struct proxy *proxy;
    struct flb_input_instance *next, *prev;
    struct cmt cmt;
    pthread_t owner;              /* the thread that Init ran on */
    int in_init;

    int started;                  /* the thread exists */
    pthread_t thread;
    int epoll, pipe[2], status_pipe[2];
    pthread_mutex_t lock;         /* of the collector */
    int timer, running;
    int paused;                   /* by back-pressure: mem_buf_status */
    long mem_used;

    pthread_mutex_t ring_lock;
    struct chunk *ring;
    int ring_head, ring_used, ring_signalled;
};
#define ALIVE 0xA11FE001u
#define DEAD 0xDEADDEADu

struct chunk { void *data; size_t len; };

/* One run of a configuration: what Fluent Bit calls a context. */
struct engine {
    struct proxy *proxy;
    struct flb_input_instance *first, *last;
    int log_level, hot_reload;
    int ingestion_active, shutting_down, by_reload;
    pthread_t pipeline;
    int epoll, manager[2], replies[2], drain_timer, stop_timer, flush_timer, ring_event, stop_count;
};

struct engine *conf_load(const char *path, struct proxy *proxy);
const char *conf_name(struct flb_input_instance *ins);

/* ---- the plugin (proxy.c) ---- */

struct proxy *proxy_load(const char *path, int hot_reloading);
void proxy_unregister(struct proxy *proxy);
int proxy_init(struct flb_input_instance *ins);
void proxy_pre_run(struct flb_input_instance *ins);
void proxy_collect(struct flb_input_instance *ins);
void proxy_pause(struct flb_input_instance *ins);
void proxy_resume(struct flb_input_instance *ins);
void proxy_exit(struct flb_input_instance *ins);

/* ---- inputs (input.c) ---- */

enum { OP_START = 1, OP_PAUSE, OP_RESUME, OP_EXIT };

int input_start(struct flb_input_instance *ins);
void input_collectors_start(struct flb_input_instance *ins);
int input_pause(struct flb_input_instance *ins);
void input_resume(struct flb_input_instance *ins);
void input_exit(struct flb_input_instance *ins);
void input_tick(struct flb_input_instance *ins);
void collector_pause(struct flb_input_instance *ins);
void collector_resume(struct flb_input_instance *ins);
void collector_start(struct flb_input_instance *ins);

/* ---- chunks (ring.c) ---- */

void ring_create(struct flb_input_instance *ins);
void ring_append(struct flb_input_instance *ins, const void *data, size_t len);
void ring_drain(struct engine *e);
int ring_waiting(struct flb_input_instance *ins);
int ring_cleanup(struct flb_input_instance *ins);
void chunk_append(struct flb_input_instance *ins, const void *data, size_t len);
void chunk_flush(struct engine *e);
void chunk_block(struct flb_input_instance *ins);
void chunk_unblock(struct flb_input_instance *ins);

/* ---- engine (engine.c) ---- */

enum { CMD_PAUSE = 1, CMD_RESUME, CMD_BUSY, CMD_IDLE, CMD_STOP };
struct command { int op; struct flb_input_instance *ins; };

int engine_start(struct engine *e);
void engine_command(struct engine *e, int op, struct flb_input_instance *ins);
void engine_join(struct engine *e);
struct flb_input_instance *engine_find(struct engine *e, const char *name);
int timer_create_ms(int ms);
void timer_consume(int fd);

/* ---- records (check.c) ---- */

/* Bytes of data that hold whole, well-formed records; less than len means *why says what is wrong after them. */
size_t check_chunk(const uint8_t *data, size_t len, int max_depth, int *records, const char **why);

/* ---- metrics (cmt.c) ---- */

void cmt_init(struct flb_input_instance *ins);
void *cmt_slot(void);
void cmt_print(struct engine *e, FILE *f);

/* ---- output (out.c) ---- */

extern __thread int is_worker; /* a thread of the host: log_print from any other is a sin */

void out_chunk(struct flb_input_instance *ins, const void *data, size_t len);
void out_lines(const char *frames, size_t len);
void out_flush(void);
void out_forked(void);
void event(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void reply(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void sin_(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void host_log(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void api_log_print(int level, const char *file, int line, const char *fmt, ...);
double now_ms(void);
double starved_ms(void);

#endif
