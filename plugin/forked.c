/*
 * `daemon on` forks after the .so was loaded. In the child none of the Go runtime's threads live on, so a call into Go may
 * wait for one of them for ever. These entry points are the ones that a child sees: they refuse before any Go code runs.
 */
#include "flb/flb.h"
#include "_cgo_export.h"
#include <stdio.h>
#include <unistd.h>

static pid_t loaded_by;

__attribute__((constructor)) static void loaded(void) { loaded_by = getpid(); }

static int forked(void) { return getpid() != loaded_by; }

/* Anything but FLB_OK (1) ends the start of Fluent Bit. */
int FLBPluginInit(void *plugin)
{
    struct core_plugin *p = plugin;
    const char *name;
    char text[512];

    if (!forked())
        return defenderInit(plugin);
    name = core_input_name(p->ins);
    snprintf(text, sizeof(text),
             "[input:defender:%s] Fluent Bit went into the background after it had loaded this plugin, and nothing of Go runs in the "
             "new process; run Fluent Bit in the foreground (daemon off, no --daemon), for example as a systemd service",
             name ? name : "defender");
    if (core_can_print(p->api))
        core_print(p->api, 1, text);
    else
        fprintf(stderr, "[error] %s\n", text);
    return 0;
}

/* With `threaded off` the next three are called for stanzas whose Init failed or never came. */
void FLBPluginInputPause(void)
{
    if (!forked())
        defenderPause();
}

void FLBPluginInputPreExit(int by_hot_reload)
{
    if (!forked())
        defenderPreExit(by_hot_reload);
}

int FLBPluginExit(void) { return forked() ? 1 : defenderExit(); }

void FLBPluginUnregister(void *def)
{
    if (!forked())
        defenderUnregister(def);
}
