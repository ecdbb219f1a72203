/* The pipeline thread: starts the inputs, drains their rings, obeys commands, and stops in the order of Fluent Bit. */
#include "host.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* What an epoll event of the pipeline is about; anything else is an instance of a stanza with `threaded off`. */
static char on_command, on_drain, on_ring, on_stop, on_flush;

static void watch(struct engine *e, int fd, void *what)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = what};

    epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &ev);
}

static void pause_all(struct engine *e)
{
    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next)
        input_pause(ins);
}

static void shutdown_all(struct engine *e)
{
    e->ingestion_active = 0;
    pause_all(e);
    for (struct flb_input_instance *ins = e->last; ins; ins = ins->prev)
        input_exit(ins);
}

static void unlink_instance(struct engine *e, struct flb_input_instance *ins)
{
    *(ins->prev ? &ins->prev->next : &e->first) = ins->next;
    *(ins->next ? &ins->next->prev : &e->last) = ins->prev;
}

/* An input whose Init failed is taken out. Before 4.0.3 the start goes on without it where it has a thread of its own (-1: it does not). */
static int start_failed(struct engine *e, struct flb_input_instance *ins)
{
    int goes_on = opt.core < CORE(4, 0, 3) && ins->threaded;

    if (ins->started)
        pthread_join(ins->thread, NULL);
    unlink_instance(e, ins);
    ins->magic = DEAD;
    if (goes_on)
        host_log(1, "[input:%s] could not initialize threaded plugin instance", conf_name(ins));
    else
        host_log(1, "[engine] input initialization failed");
    return goes_on ? 0 : -1;
}

static int start_all(struct engine *e)
{
    for (struct flb_input_instance *ins = e->first, *next; ins; ins = next) {
        next = ins->next;
        if (input_start(ins) < 0 && start_failed(e, ins) < 0)
            return -1;
    }
    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next)
        if (!ins->threaded)
            proxy_pre_run(ins);
    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next)
        input_collectors_start(ins);
    return 0;
}

static void stop(struct engine *e)
{
    if (e->shutting_down)
        return;
    e->ingestion_active = 0;
    e->shutting_down = 1;
    host_log(3, "[engine] pausing all inputs..");
    pause_all(e);
    e->stop_timer = timer_create_ms(opt.tick_ms);
    watch(e, e->stop_timer, &on_stop);
}

/* While something is pending, cores up to 4.0.8 stop anew, and pause all inputs anew: before 4.0.3 at each tick, from then on at the first. */
static void stop_again(struct engine *e)
{
    if (opt.core < CORE(4, 0, 3) || (opt.core < CORE(4, 0, 9) && e->stop_count == 1))
        pause_all(e);
}

/* Returns 1 when the shutdown is done: nothing is pending, or the grace is over. */
static int stop_tick(struct engine *e)
{
    long pending = 0;

    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next)
        pending += ins->mem_used;
    if (pending > 0 && ++e->stop_count < opt.grace) {
        stop_again(e);
        return 0;
    }
    shutdown_all(e);
    return 1;
}

static void answer(struct engine *e, int value)
{
    if (write(e->replies[1], &value, sizeof(value)) != sizeof(value))
        host_log(1, "[host] cannot answer");
}

static void obey(struct engine *e, int *busy)
{
    struct command c;

    if (read(e->manager[0], &c, sizeof(c)) != sizeof(c))
        return;
    switch (c.op) {
    case CMD_PAUSE:
        if (!c.ins->paused)
            chunk_block(c.ins);
        break;
    case CMD_RESUME:
        if (c.ins->paused && e->ingestion_active)
            chunk_unblock(c.ins);
        break;
    case CMD_BUSY: *busy = 1; break;
    case CMD_IDLE: *busy = 0; break;
    case CMD_STOP: stop(e); break;
    }
    if (c.op != CMD_STOP)
        answer(e, 1);
}

static void *pipeline(void *arg)
{
    struct engine *e = arg;
    struct epoll_event got[16];
    int busy = 0; /* a busy engine drains no ring */

    is_worker = 1;
    pthread_setname_np(pthread_self(), "flb-pipeline");
    if (start_all(e) < 0) {
        shutdown_all(e);
        answer(e, 0);
        return NULL;
    }
    e->drain_timer = timer_create_ms(opt.drain_ms);
    e->flush_timer = timer_create_ms(1000);
    watch(e, e->manager[0], &on_command);
    watch(e, e->drain_timer, &on_drain);
    watch(e, e->flush_timer, &on_flush);
    watch(e, e->ring_event, &on_ring);
    answer(e, 1);
    for (;;) {
        int n = epoll_wait(e->epoll, got, 16, -1);

        for (int i = 0; i < n; i++) {
            void *what = got[i].data.ptr;

            if (what == &on_command)
                obey(e, &busy);
            else if (what == &on_drain || what == &on_ring) {
                timer_consume(what == &on_drain ? e->drain_timer : e->ring_event);
                if (!busy)
                    ring_drain(e);
            }
            else if (what == &on_flush) {
                timer_consume(e->flush_timer);
                chunk_flush(e);
            }
            else if (what == &on_stop) {
                timer_consume(e->stop_timer);
                if (stop_tick(e))
                    return NULL;
            }
            else
                input_tick(what);
        }
    }
}

/* 0 once every input runs; -1 when one could not, and all that Fluent Bit ends then has ended. */
int engine_start(struct engine *e)
{
    int ok = 0;

    e->ingestion_active = 1;
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->ring_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (pipe(e->manager) || pipe(e->replies) || pthread_create(&e->pipeline, NULL, pipeline, e))
        return -1;
    while (read(e->replies[0], &ok, sizeof(ok)) < 0 && errno == EINTR)
        ;
    if (ok)
        return 0;
    pthread_join(e->pipeline, NULL);
    return -1;
}

/* Main thread. All but CMD_STOP are done when it returns. */
void engine_command(struct engine *e, int op, struct flb_input_instance *ins)
{
    struct command c = {op, ins};
    int ok;

    if (write(e->manager[1], &c, sizeof(c)) != sizeof(c) || op == CMD_STOP)
        return;
    while (read(e->replies[0], &ok, sizeof(ok)) < 0 && errno == EINTR)
        ;
}

void engine_join(struct engine *e)
{
    pthread_join(e->pipeline, NULL);
    close(e->manager[0]);
    close(e->manager[1]);
    close(e->replies[0]);
    close(e->replies[1]);
    close(e->drain_timer);
    close(e->flush_timer);
    close(e->stop_timer);
    close(e->ring_event);
    close(e->epoll);
}

struct flb_input_instance *engine_find(struct engine *e, const char *name)
{
    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next)
        if (strcmp(conf_name(ins), name) == 0)
            return ins;
    return NULL;
}
