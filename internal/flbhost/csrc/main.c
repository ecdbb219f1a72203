/* Options, signals, commands on stdin, hot reload. Main loads and unregisters the plugin; the pipeline does the rest. */
#include "host.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct options opt = {
    .core = CORE(5, 1, 1), .interval_ms = 1000, .drain_ms = 250, .tick_ms = 1000, .grace = 5, .slow_ms = 100, .ring = 1024,
};

static int signal_pipe[2];

static void signals_install(void);

static void on_signal(int sig)
{
    char c = (char) sig;
    int saved = errno;

    if (sig == SIGHUP || sig == SIGCONT)
        signals_install(); /* the real one does: the Go runtime's handlers are gone from here on */
    if (sig == SIGSEGV || sig == SIGFPE)
        abort();
    if (write(signal_pipe[1], &c, 1) < 0)
        _exit(2);
    errno = saved;
}

static void signals_install(void)
{
    static const int all[] = {SIGINT, SIGQUIT, SIGHUP, SIGCONT, SIGTERM, SIGSEGV, SIGFPE};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        signal(all[i], on_signal);
    signal(SIGPIPE, SIG_IGN);
}

static int parse_core(const char *s)
{
    int major = 0, minor = 0, patch = 0;

    if (sscanf(s, "%d.%d.%d", &major, &minor, &patch) < 2)
        return 0;
    return CORE(major, minor, patch);
}

static int options_parse(int argc, char **argv)
{
    static const struct option longs[] = {
        {"plugin", 1, NULL, 'p'}, {"config", 1, NULL, 'c'}, {"core", 1, NULL, 'v'}, {"interval", 1, NULL, 'i'},
        {"drain", 1, NULL, 'd'}, {"tick", 1, NULL, 't'}, {"grace", 1, NULL, 'g'}, {"slow", 1, NULL, 's'},
        {"ring", 1, NULL, 'r'}, {"output-rate", 1, NULL, 'o'}, {"daemon", 0, NULL, 'D'}, {"trace", 0, NULL, 'T'}, {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
        switch (c) {
        case 'p': opt.plugin = optarg; break;
        case 'c': opt.config = optarg; break;
        case 'v': opt.core = parse_core(optarg); break;
        case 'i': opt.interval_ms = atoi(optarg); break;
        case 'd': opt.drain_ms = atoi(optarg); break;
        case 't': opt.tick_ms = atoi(optarg); break;
        case 'g': opt.grace = atoi(optarg); break;
        case 's': opt.slow_ms = atoi(optarg); break;
        case 'r': opt.ring = atoi(optarg); break;
        case 'o': opt.output_rate = atol(optarg); break;
        case 'D': opt.daemon = 1; break;
        case 'T': opt.trace = 1; break;
        default: return -1;
        }
    return opt.plugin && opt.config && opt.core >= CORE(2, 0, 0) && opt.interval_ms > 0 ? 0 : -1;
}

static int count_dir(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    if (!d)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void stats(struct engine *e)
{
    long size = 0, resident = 0;
    int waiting = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f && fscanf(f, "%ld %ld", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next)
        waiting += ring_waiting(ins);
    reply("stats %ld %d %d %d", resident * sysconf(_SC_PAGESIZE), count_dir("/proc/self/task"), count_dir("/proc/self/fd") - 1, waiting);
}

static void metrics(struct engine *e)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    cmt_print(e, f);
    fclose(f);
    out_lines(text, len);
    free(text);
    reply("metrics ok");
}

/* The fork of `daemon on`: it comes after the .so was loaded. The parent waits, so that whoever started it sees the end. */
static void daemonise(void)
{
    pid_t pid;
    int status = 0;

    out_flush();
    pid = fork();
    if (pid > 0) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    out_forked();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    if (chdir("/"))
        _exit(1);
}

static void stop_engine(struct engine *e, struct proxy *p)
{
    engine_command(e, CMD_STOP, NULL);
    engine_join(e);
    proxy_unregister(p);
}

/* Registers anew, stops the old, starts the new. A file that cannot be read halts it; a stanza that fails ends the process. */
static void reload(struct engine **e, struct proxy **p, const char *path)
{
    struct proxy *new_proxy = proxy_load(opt.plugin, 1);
    struct engine *new_engine = new_proxy ? conf_load(path, new_proxy) : NULL;

    if (!new_engine) {
        host_log(1, "[reload] reloaded config is invalid. Reloading is halted");
        event("reload-halted");
        if (new_proxy)
            proxy_unregister(new_proxy);
        return;
    }
    (*e)->by_reload = 1;
    host_log(3, "[reload] stop everything of the old context");
    stop_engine(*e, *p);
    host_log(3, "[reload] start everything");
    if (engine_start(new_engine) < 0) {
        proxy_unregister(new_proxy);
        host_log(1, "[reload] loaded configuration contains error(s). Reloading is aborted");
        event("reload-aborted");
        exit(255);
    }
    *e = new_engine;
    *p = new_proxy;
    event("reloaded");
}

/* One line of stdin. Returns 1 to stop. */
static int obey(char *line, struct engine **e, struct proxy **p)
{
    char *arg = strchr(line, ' ');
    struct flb_input_instance *ins = NULL;

    if (arg)
        *arg++ = 0;
    if (strcmp(line, "pause") == 0 || strcmp(line, "resume") == 0) {
        ins = arg ? engine_find(*e, arg) : NULL;
        if (ins)
            engine_command(*e, line[0] == 'p' ? CMD_PAUSE : CMD_RESUME, ins);
        reply("%s %s", line, ins ? "ok" : "unknown");
    }
    else if (strcmp(line, "busy") == 0 || strcmp(line, "idle") == 0) {
        engine_command(*e, line[0] == 'b' ? CMD_BUSY : CMD_IDLE, NULL);
        reply("%s ok", line);
    }
    else if (strcmp(line, "reload") == 0)
        reload(e, p, arg ? arg : opt.config);
    else if (strcmp(line, "stats") == 0)
        stats(*e);
    else if (strcmp(line, "metrics") == 0)
        metrics(*e);
    else if (strcmp(line, "stop") == 0)
        return 1;
    else
        reply("unknown command");
    return 0;
}

static void run(struct engine **e, struct proxy **p)
{
    static char buf[8192];
    size_t used = 0;
    struct pollfd fds[2] = {{.fd = signal_pipe[0], .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

    for (;;) {
        char c, *nl;
        ssize_t n;

        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents && read(signal_pipe[0], &c, 1) == 1) {
            if (c == SIGHUP)
                reload(e, p, opt.config);
            else if (c != SIGCONT)
                return;
        }
        if (!fds[1].revents)
            continue;
        n = read(STDIN_FILENO, buf + used, sizeof(buf) - 1 - used);
        if (n <= 0)
            return; /* whoever drove the host is gone */
        buf[used += n] = 0;
        while ((nl = strchr(buf, '\n'))) {
            *nl = 0;
            if (obey(buf, e, p))
                return;
            used -= nl + 1 - buf;
            memmove(buf, nl + 1, used + 1);
        }
    }
}

int main(int argc, char **argv)
{
    struct proxy *p;
    struct engine *e;

    if (options_parse(argc, argv) < 0) {
        fprintf(stderr, "usage: host --plugin FILE.so --config FILE [--core 5.1.1] [--interval MS] [--drain MS] [--tick MS]\n"
                        "            [--grace TICKS] [--slow MS] [--ring N] [--output-rate BYTES] [--daemon] [--trace]\n");
        return 2;
    }
    is_worker = 1;
    atexit(out_flush);
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK))
        return 2;
    signals_install();
    p = proxy_load(opt.plugin, 0);
    if (!p) {
        host_log(1, "[plugin] error loading proxy plugin: %s", opt.plugin);
        return 1;
    }
    e = conf_load(opt.config, p);
    if (!e) {
        host_log(1, "configuration file contains errors, aborting.");
        return 1;
    }
    if (opt.daemon)
        daemonise();
    if (engine_start(e) < 0) {
        proxy_unregister(p);
        event("start-failed");
        return 255;
    }
    event("started");
    run(&e, &p);
    stop_engine(e, p);
    event("stopped");
    return 0;
}
