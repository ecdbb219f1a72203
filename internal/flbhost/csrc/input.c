/* An input instance: its thread, its timer, and the messages that pause, resume and end it. */
#include "host.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

int timer_create_ms(int ms)
{
    struct itimerspec t = {{ms / 1000, ms % 1000 * 1000000L}, {ms / 1000, ms % 1000 * 1000000L}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    timerfd_settime(fd, 0, &t, NULL);
    return fd;
}

/* However many ticks were missed, one read takes them all. */
void timer_consume(int fd)
{
    uint64_t n;

    if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
        host_log(1, "[host] timer: %s", strerror(errno));
}

static void start_locked(struct flb_input_instance *ins)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = ins};

    ins->timer = timer_create_ms(opt.interval_ms);
    epoll_ctl(ins->epoll, EPOLL_CTL_ADD, ins->timer, &ev);
    ins->running = 1;
}

void collector_start(struct flb_input_instance *ins)
{
    pthread_mutex_lock(&ins->lock);
    if (!ins->running && ins->epoll > 0)
        start_locked(ins);
    pthread_mutex_unlock(&ins->lock);
}

/* Called from any instance's thread: that is the bug. */
void collector_pause(struct flb_input_instance *ins)
{
    pthread_mutex_lock(&ins->lock);
    if (ins->running) {
        epoll_ctl(ins->epoll, EPOLL_CTL_DEL, ins->timer, NULL);
        close(ins->timer);
        ins->timer = -1;
        ins->running = 0;
    }
    pthread_mutex_unlock(&ins->lock);
}

void collector_resume(struct flb_input_instance *ins)
{
    pthread_mutex_lock(&ins->lock);
    if (ins->running)
        host_log(1, "[input] cannot resume collector %s:0, already running", ins->name);
    else if (ins->engine->ingestion_active)
        start_locked(ins);
    pthread_mutex_unlock(&ins->lock);
}

void input_tick(struct flb_input_instance *ins)
{
    int running;

    pthread_mutex_lock(&ins->lock);
    running = ins->running;
    if (running)
        timer_consume(ins->timer);
    pthread_mutex_unlock(&ins->lock);
    if (running)
        proxy_collect(ins);
}

static void send_op(struct flb_input_instance *ins, int op)
{
    if (write(ins->pipe[1], &op, sizeof(op)) != sizeof(op))
        host_log(1, "[host] cannot send to the thread of %s", conf_name(ins));
}

static int receive_op(struct flb_input_instance *ins)
{
    int op = 0;

    while (read(ins->pipe[0], &op, sizeof(op)) < 0 && errno == EINTR)
        ;
    return op;
}

static void *input_thread(void *arg)
{
    struct flb_input_instance *ins = arg;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, got[4];
    char name[32];
    int ok, op;

    is_worker = 1;
    snprintf(name, sizeof(name), "flb-in-%.8s", ins->name);
    pthread_setname_np(pthread_self(), name);
    ok = proxy_init(ins) == 0;
    if (!ok)
        host_log(1, "failed initialize input %s", conf_name(ins));
    if (write(ins->status_pipe[1], &ok, sizeof(ok)) != sizeof(ok) || !ok)
        return NULL;
    op = receive_op(ins);
    if (op != OP_START) {
        /* A later instance failed. The thread ends as it is: this one sees no Exit. */
        host_log(1, "could not retrieve collectors signal from parent thread on '%s'", conf_name(ins));
        return NULL;
    }
    epoll_ctl(ins->epoll, EPOLL_CTL_ADD, ins->pipe[0], &ev);
    collector_start(ins);
    proxy_pre_run(ins);
    for (;;) {
        int n = epoll_wait(ins->epoll, got, 4, -1);

        for (int i = 0; i < n; i++) {
            if (got[i].data.ptr) {
                input_tick(ins);
                continue;
            }
            switch (receive_op(ins)) {
            case OP_PAUSE: proxy_pause(ins); break;
            case OP_RESUME: proxy_resume(ins); break;
            case OP_EXIT: proxy_exit(ins); return NULL;
            }
        }
    }
}

/* Runs Init, on the instance's own thread unless the stanza says `threaded off`. -1: it failed. */
int input_start(struct flb_input_instance *ins)
{
    int ok = 0;

    if (!ins->threaded) {
        ins->epoll = ins->engine->epoll;
        return proxy_init(ins);
    }
    ins->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (pipe(ins->pipe) || pipe(ins->status_pipe) || pthread_create(&ins->thread, NULL, input_thread, ins))
        return -1;
    ins->started = 1;
    while (read(ins->status_pipe[0], &ok, sizeof(ok)) < 0 && errno == EINTR)
        ;
    return ok ? 0 : -1;
}

void input_collectors_start(struct flb_input_instance *ins)
{
    if (ins->threaded)
        send_op(ins, OP_START);
    else
        collector_start(ins);
}

/* 0: told or to be told. An input paused by back-pressure is not told again: so exit does not pause it, but others twice or more. */
int input_pause(struct flb_input_instance *ins)
{
    if (ins->paused)
        return -1;
    if (opt.core < CORE(2, 2, 0))
        return 0;
    if (!ins->threaded)
        proxy_pause(ins);
    else if (ins->started)
        send_op(ins, OP_PAUSE);
    return 0;
}

void input_resume(struct flb_input_instance *ins)
{
    if (opt.core < CORE(2, 2, 0))
        return;
    if (!ins->threaded)
        proxy_resume(ins);
    else if (ins->started)
        send_op(ins, OP_RESUME);
}

/* Waits for the thread without a limit, as the real one does. */
void input_exit(struct flb_input_instance *ins)
{
    int lost;

    if (!ins->threaded)
        proxy_exit(ins);
    else if (ins->started) {
        send_op(ins, OP_EXIT);
        pthread_join(ins->thread, NULL);
        close(ins->pipe[0]);
        close(ins->pipe[1]);
        close(ins->status_pipe[0]);
        close(ins->status_pipe[1]);
        close(ins->epoll);
    }
    collector_pause(ins);
    lost = ring_cleanup(ins);
    if (lost)
        event("lost %s %d", conf_name(ins), lost);
    ins->magic = DEAD;
}
