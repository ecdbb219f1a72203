/* The classic configuration format, as much of it as an input needs, and the properties the core keeps for itself. */
#include "host.h"
#include <ctype.h>

static const char *kept[] = {"tag", "alias", "log_level", "log_suppress_interval", "routable", "mem_buf_limit", "host", "port",
    "listen", "ipv6", "storage.type", "storage.pause_on_chunks_overlimit", "threaded", "rate_window", "name", NULL};
static const char *kept_prefixes[] = {"net.", "tls", "oauth2", "thread.", "rate_gate", NULL};

const char *conf_name(struct flb_input_instance *ins) { return ins->alias ? ins->alias : ins->name; }

static int is_on(const char *v)
{
    return strcasecmp(v, "on") == 0 || strcasecmp(v, "true") == 0 || strcasecmp(v, "yes") == 0;
}

static int level_of(const char *v)
{
    static const char *names[] = {"off", "error", "warn", "info", "debug", "trace"};

    for (int i = 0; i < 6; i++)
        if (strcasecmp(v, names[i]) == 0)
            return i;
    if (strcasecmp(v, "warning") == 0)
        return 2;
    return -1;
}

static long size_of(const char *v)
{
    char *end;
    long n = strtol(v, &end, 10);

    switch (tolower(*end)) {
    case 'k': return n * 1000;
    case 'm': return n * 1000000;
    case 'g': return n * 1000000000;
    }
    return n;
}

/* Expands ${NAME}; an unset one vanishes. */
static char *expand(const char *v)
{
    char *out = NULL, *end;
    size_t len = 0;
    FILE *f = open_memstream(&out, &len);

    while (*v) {
        if (v[0] == '$' && v[1] == '{' && (end = strchr(v, '}'))) {
            char name[128];
            const char *value;

            snprintf(name, sizeof(name), "%.*s", (int) (end - v - 2), v + 2);
            value = getenv(name);
            if (value)
                fputs(value, f);
            v = end + 1;
        }
        else
            fputc(*v++, f);
    }
    fclose(f);
    return out;
}

static int is_kept(const char *key)
{
    for (int i = 0; kept[i]; i++)
        if (strcasecmp(kept[i], key) == 0)
            return 1;
    for (int i = 0; kept_prefixes[i]; i++)
        if (strncasecmp(kept_prefixes[i], key, strlen(kept_prefixes[i])) == 0)
            return 1;
    return 0;
}

static int set(struct flb_input_instance *ins, const char *key, const char *raw)
{
    char *v = expand(raw);
    struct property *p, **tail;

    if (is_kept(key)) {
        if (strcasecmp(key, "tag") == 0)
            ins->tag = v;
        else if (strcasecmp(key, "alias") == 0)
            ins->alias = v;
        else if (strcasecmp(key, "log_level") == 0)
            ins->log_level = level_of(v);
        else if (strcasecmp(key, "mem_buf_limit") == 0)
            ins->mem_limit = size_of(v);
        else if (strcasecmp(key, "threaded") == 0)
            ins->threaded = is_on(v);
        else if (strcasecmp(key, "thread.ring_buffer.capacity") == 0)
            ins->ring_size = atoi(v);
        return 0;
    }
    p = calloc(1, sizeof(*p));
    p->key = strdup(key);
    p->value = *v ? v : NULL; /* an empty value is no value */
    for (tail = &ins->properties; *tail; tail = &(*tail)->next)
        ;
    *tail = p;
    return 0;
}

static struct flb_input_instance *add(struct engine *e)
{
    struct flb_input_instance *ins = calloc(1, sizeof(*ins));

    ins->magic = ALIVE;
    ins->threaded = 1;
    ins->log_level = -1;
    ins->ring_size = opt.ring;
    ins->engine = e;
    ins->proxy = e->proxy;
    ins->timer = -1;
    cmt_init(ins);
    pthread_mutex_init(&ins->lock, NULL);
    ins->prev = e->last;
    if (e->last)
        e->last->next = ins;
    else
        e->first = ins;
    e->last = ins;
    return ins;
}

/* The context is made with the instance, before any Init, so the core calls Pause and Exit even for one never initialised. */
static void *context_create(struct proxy *proxy)
{
    if (opt.core >= CORE(4, 1, 0)) {
        struct context_new *c = calloc(1, sizeof(*c));
        c->proxy = proxy;
        return c;
    }
    struct context_old *c = calloc(1, sizeof(*c) + 16);
    c->proxy = proxy;
    memset(c + 1, 0x5a, 16);
    return c;
}

static char *word(char **s)
{
    char *w;

    while (isspace((unsigned char) **s))
        ++*s;
    w = *s;
    while (**s && !isspace((unsigned char) **s))
        ++*s;
    if (**s)
        *(*s)++ = 0;
    while (isspace((unsigned char) **s))
        ++*s;
    return w;
}

/* Reads a file; NULL when it cannot be used, after one line that says why. */
struct engine *conf_load(const char *path, struct proxy *proxy)
{
    FILE *f = fopen(path, "r");
    struct engine *e = calloc(1, sizeof(*e));
    struct flb_input_instance *ins = NULL;
    char line[65536], section[32] = "";
    int count = 0, number = 0;

    e->proxy = proxy;
    e->log_level = 3;
    if (!f) {
        host_log(1, "[config] cannot open %s", path);
        return NULL;
    }
    while (fgets(line, sizeof(line), f)) {
        char *s = line, *key;
        size_t n = strlen(line);

        number++;
        while (n > 0 && isspace((unsigned char) line[n - 1]))
            line[--n] = 0;
        while (isspace((unsigned char) *s))
            s++;
        if (!*s || *s == '#')
            continue;
        if (*s == '[') {
            snprintf(section, sizeof(section), "%.*s", (int) strcspn(s + 1, "]"), s + 1);
            ins = strcasecmp(section, "INPUT") == 0 ? add(e) : NULL;
            continue;
        }
        key = word(&s);
        if (!*section || !*s) {
            host_log(1, "[config] %s:%d: a key without a value, or outside a section", path, number);
            return NULL;
        }
        if (ins && strcasecmp(key, "name") == 0) {
            if (strcasecmp(s, proxy->def->name) != 0) {
                host_log(1, "[config] section '%s' tried to instance a plugin name that doesn't exist", s);
                return NULL;
            }
            snprintf(ins->name, sizeof(ins->name), "%s.%d", proxy->def->name, count++);
        }
        else if (ins)
            set(ins, key, s);
        else if (strcasecmp(section, "SERVICE") == 0 && strcasecmp(key, "log_level") == 0)
            e->log_level = level_of(s);
        else if (strcasecmp(section, "SERVICE") == 0 && strcasecmp(key, "hot_reload") == 0)
            e->hot_reload = is_on(s);
    }
    fclose(f);
    for (ins = e->first; ins; ins = ins->next) {
        if (!*ins->name) {
            host_log(1, "[config] an [INPUT] of %s has no name", path);
            return NULL;
        }
        if (!ins->tag)
            ins->tag = ins->name;
        if (ins->log_level < 0)
            ins->log_level = e->log_level;
        ins->context = context_create(proxy);
        ring_create(ins);
    }
    return e;
}
