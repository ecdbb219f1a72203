/*
 * What an input may rely on of Fluent Bit's proxy interface, from 2.2 to 5.1. The structs are declared
 * as far as they are read; nothing is written but the context slot of cores from 4.1 on.
 */
#ifndef DEFENDER_FLB_H
#define DEFENDER_FLB_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

struct core_api {
    void *output_get_property, *input_get_property, *output_get_cmt_instance, *input_get_cmt_instance;
    void (*log_print)(int level, const char *file, int line, const char *fmt, ...);
    int (*input_log_check)(void *ins, int level);
};

/* The argument of Init: one for all instances of the .so, overwritten by the next Init. */
struct core_plugin {
    char *name;
    struct core_api *api;
    void *ins;
    char *context;
};

/* The format is never the text: a "%" in it would be read as a conversion. */
static inline void core_print(struct core_api *api, int level, const char *text)
{
    api->log_print(level, NULL, 0, "%s", text);
}

static inline int core_can_print(struct core_api *api) { return api && api->log_print; }

/* The highest level the stanza's log_level lets through; info where the core cannot be asked. */
static inline int core_level(struct core_api *api, void *ins)
{
    int level = 5;

    if (!api || !api->input_log_check || !ins)
        return 3;
    while (level > 0 && !api->input_log_check(ins, level))
        level--;
    return level;
}

/* defender.0 or the alias; NULL where the executable does not export it. The text lives as long as the instance. */
static inline const char *core_input_name(void *ins)
{
    const char *(*name)(void *) = (const char *(*)(void *)) dlsym(RTLD_DEFAULT, "flb_input_name");

    return name && ins ? name(ins) : NULL;
}

/*
 * Byte 8 of the input context is the remote context from 4.1 on, NULL in Init, and handed to each callback. Before 4.1 the
 * proxy pointer stands there: then nothing is written and 0 comes back.
 */
static inline int core_set_token(char *context, uintptr_t token)
{
    uintptr_t *slot = (uintptr_t *) (context + 8);

    if (!context || *slot)
        return 0;
    *slot = token;
    return 1;
}

#endif
