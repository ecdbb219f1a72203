/* The proxy between the engine and a Go input: loading, registration, and each call into the plugin. */
#include "host.h"
#include <dlfcn.h>

#define CANARY 0x5a

/* The executable exports this; plugins find it with dlsym. */
const char *flb_input_name(struct flb_input_instance *ins) { return conf_name(ins); }

static const char *input_get_property(const char *key, struct flb_input_instance *ins)
{
    if (ins->magic != ALIVE) {
        sin_("input_get_property(%s) with an instance that is gone", key);
        return NULL;
    }
    for (struct property *p = ins->properties; p; p = p->next)
        if (strcasecmp(p->key, key) == 0)
            return p->value;
    return NULL;
}

static int input_log_check(struct flb_input_instance *ins, int level)
{
    if (ins->magic != ALIVE) {
        sin_("input_log_check with an instance that is gone");
        return 0;
    }
    return ins->log_level >= level;
}

static void *symbol(struct proxy *p, const char *name) { return dlsym(p->handle, name); }

/* Bytes of the definition that a core of this version owns. */
static size_t def_size(void)
{
    return opt.core >= CORE(5, 1, 1) ? 48 : opt.core >= CORE(4, 2, 3) ? 40 : 32;
}

static void check_canary(const void *start, size_t from, size_t to, const char *what)
{
    const unsigned char *p = start;

    for (size_t i = from; i < to; i++)
        if (p[i] != CANARY) {
            sin_("the plugin wrote beyond the %zu bytes of %s", from, what);
            return;
        }
}

static struct flb_api *api_create(void)
{
    struct flb_api *api = calloc(1, sizeof(*api));

    api->input_get_property = input_get_property;
    api->input_get_cmt_instance = cmt_slot();
    api->log_print = api_log_print;
    api->input_log_check = input_log_check;
    return api;
}

/* Pre-registers, registers and looks up the symbols this version of the core knows. Main thread. NULL: refused. */
struct proxy *proxy_load(const char *path, int hot_reloading)
{
    struct proxy *p = calloc(1, sizeof(*p));
    int (*pre_register)(int), (*do_register)(void *);
    const char *base = strrchr(path, '/');

    base = base ? base + 1 : path;
    if (strncmp(base, "flb-", 4) == 0) {
        host_log(1, "[plugin] %s: a name that starts with flb- is taken for a C plugin", base);
        return NULL;
    }
    p->handle = dlopen(path, RTLD_LAZY);
    if (!p->handle) {
        host_log(1, "[proxy] error opening plugin %s: '%s'", path, dlerror());
        return NULL;
    }
    p->api = api_create();
    p->def = calloc(1, sizeof(*p->def) + 16);
    memset((char *) p->def + def_size(), CANARY, sizeof(*p->def) + 16 - def_size());
    if (opt.core >= CORE(2, 2, 0) && (pre_register = symbol(p, "FLBPluginPreRegister"))) {
        trace("PreRegister %d", hot_reloading);
        if (pre_register(hot_reloading) == -1)
            return NULL;
    }
    do_register = symbol(p, "FLBPluginRegister");
    trace("Register");
    if (!do_register || do_register(p->def) == -1)
        return NULL;
    check_canary(p->def, def_size(), sizeof(*p->def) + 16, "the plugin definition");
    if (p->def->type != 1 || p->def->proxy != 11 || !p->def->name)
        return NULL;
    p->plugin = calloc(1, sizeof(*p->plugin));
    p->plugin->init = symbol(p, "FLBPluginInit");
    p->plugin->collect = symbol(p, "FLBPluginInputCallback");
    p->plugin->cleanup = symbol(p, "FLBPluginInputCleanupCallback");
    p->plugin->exit = symbol(p, "FLBPluginExit");
    if (opt.core >= CORE(4, 1, 0)) {
        p->plugin->collect_ctx = symbol(p, "FLBPluginInputCallbackCtx");
        p->plugin->cleanup_ctx = symbol(p, "FLBPluginInputCleanupCallbackCtx");
    }
    p->plugin->name = strdup(p->def->name);
    return p->plugin->init ? p : NULL;
}

void proxy_unregister(struct proxy *p)
{
    void (*unregister)(void *) = symbol(p, "FLBPluginUnregister");

    trace("Unregister");
    if (unregister)
        unregister(p->def);
    memset(p->plugin, CANARY, sizeof(*p->plugin)); /* kept and spoilt, so late use is seen */
    dlclose(p->handle);
}

int proxy_init(struct flb_input_instance *ins)
{
    struct proxy *p = ins->proxy;
    int ret;

    p->instance = ins;
    p->plugin->api = p->api;
    p->plugin->i_ins = ins;
    p->plugin->context = ins->context;
    ins->owner = pthread_self();
    ins->in_init = 1;
    ret = p->plugin->init(p->plugin);
    ins->in_init = 0;
    trace("Init %s %d", conf_name(ins), ret);
    if (opt.core < CORE(4, 1, 0)) {
        struct context_old *c = ins->context;
        if (c->proxy != p)
            sin_("Init of %s overwrote the proxy pointer of an old core", conf_name(ins));
        check_canary(c, sizeof(*c), sizeof(*c) + 16, "the input context");
    }
    if (ret <= 0) {
        host_log(1, "[go proxy]: plugin '%s' failed to initialize", p->plugin->name);
        return -1;
    }
    return 0;
}

void proxy_pre_run(struct flb_input_instance *ins)
{
    int (*pre_run)(int) = opt.core >= CORE(2, 2, 0) ? symbol(ins->proxy, "FLBPluginInputPreRun") : NULL;

    trace("PreRun %s", conf_name(ins));
    if (pre_run)
        pre_run(ins->engine->hot_reload);
}

static void *remote_context(struct flb_input_instance *ins) { return ((struct context_new *) ins->context)->remote_context; }

void proxy_collect(struct flb_input_instance *ins)
{
    struct go_input *g = ins->proxy->plugin;
    void *data = NULL, *copy;
    const char *why;
    size_t len = 0, good;
    int ret, records;
    double starved = starved_ms(), t = now_ms();

    ret = g->collect_ctx ? g->collect_ctx(remote_context(ins), &data, &len) : g->collect(&data, &len);
    t = now_ms() - t - (starved_ms() - starved);
    if (t > opt.slow_ms)
        sin_("the callback of %s took %.0f ms", conf_name(ins), t);
    if (len == 0) {
        if (data)
            sin_("the callback of %s gave data with length 0: no cleanup follows", conf_name(ins));
        return;
    }
    if (ret == -1) {
        sin_("the callback of %s gave -1 with data: no cleanup follows", conf_name(ins));
        return;
    }
    good = check_chunk(data, len, 32, &records, &why);
    if (good < len)
        sin_("%s, record %d: %s; the core drops the last %zu of %zu bytes in silence", conf_name(ins), records, why,
             len - good, len);
    copy = malloc(len);
    memcpy(copy, data, len);
    ring_append(ins, copy, good);
    if (memcmp(copy, data, len) != 0)
        sin_("the data of %s changed while the core held it", conf_name(ins));
    free(copy);
    ret = g->cleanup_ctx ? g->cleanup_ctx(remote_context(ins), data) : g->cleanup ? g->cleanup(data) : 0;
    if (ret == -1)
        sin_("the cleanup of %s failed", conf_name(ins));
}

/* Pause and resume tell the right plugin instance and then stop or start the collector of the last one initialised. */
static void tell(struct flb_input_instance *ins, const char *name)
{
    void (*f)(void) = symbol(ins->proxy, name);

    trace("%s %s", name + strlen("FLBPluginInput"), conf_name(ins));
    if (f)
        f();
}

void proxy_pause(struct flb_input_instance *ins)
{
    tell(ins, "FLBPluginInputPause");
    collector_pause(ins->proxy->instance);
}

void proxy_resume(struct flb_input_instance *ins)
{
    tell(ins, "FLBPluginInputResume");
    collector_resume(ins->proxy->instance);
}

void proxy_exit(struct flb_input_instance *ins)
{
    void (*pre_exit)(int) = opt.core >= CORE(2, 2, 0) ? symbol(ins->proxy, "FLBPluginInputPreExit") : NULL;
    double t = now_ms();

    if (pre_exit) {
        trace("PreExit %s %d", conf_name(ins), ins->engine->by_reload);
        pre_exit(ins->engine->by_reload);
    }
    if (ins->proxy->plugin->exit)
        ins->proxy->plugin->exit();
    trace("Exit %s", conf_name(ins));
    event("exited %s %.0f", conf_name(ins), now_ms() - t);
}
