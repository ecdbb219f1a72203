#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "metrics.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BUCKETS 32

/* A number; for a histogram, those of its buckets (the one beyond the last bound included) and the sum. */
struct series {
    int kind, buckets;
    void *metric, *sum; /* sum: a counter beside that of the count, where the core has no histograms */
    char *labels[2];
};

struct core_metrics {
    void *context;
    char *subsystem, *name;
    void *(*create[2])(void *cmt, char *ns, char *subsystem, char *name, char *help, int n, char **keys);
    int (*set[2])(void *metric, uint64_t ns, double value, int n, char **labels);
    void *(*buckets)(double *bounds, size_t n);
    void *(*create_histogram)(void *cmt, char *ns, char *subsystem, char *name, char *help, void *buckets, int n, char **keys);
    int (*set_histogram)(void *metric, uint64_t ns, uint64_t *buckets, double sum, uint64_t count, int n, char **labels);
    struct series *series;
    int used, room;
};

static int find(void *function, const char *name)
{
    *(void **) function = dlsym(RTLD_DEFAULT, name);
    return *(void **) function != NULL;
}

/*
 * The endpoint shows copies of metrics. Up to cmetrics 0.5.8 (Fluent Bit 2.0) histograms are not copied; up to 0.7.2 the copy reads beyond
 * the buckets, as far as the count is high; up to 1.0.5 the last bucket stays 0.
 */
static int histograms_are_sound(void)
{
    char *(*version)(void);
    int major = 0, minor = 0, patch = 0;

    if (!find(&version, "cmt_version") || sscanf(version(), "%d.%d.%d", &major, &minor, &patch) != 3)
        return 0;
    return major * 10000 + minor * 100 + patch >= 10006;
}

struct core_metrics *core_metrics_open(void *ins, const char *subsystem, const char *name, const char **missing)
{
    struct core_metrics *m = calloc(1, sizeof(*m));
    void *(*context_of)(void *) = NULL;

    *missing = "memory";
    if (!m)
        return NULL;
    /*
     * The slot of struct flb_api for this is not read: in a core that was built without metrics nobody ever wrote to it. There this
     * function does not exist either, though cmetrics may.
     */
    if (!find(&context_of, *missing = "flb_input_get_cmt_instance") || !find(&m->create[CORE_COUNTER], *missing = "cmt_counter_create") ||
        !find(&m->set[CORE_COUNTER], *missing = "cmt_counter_set") || !find(&m->create[CORE_GAUGE], *missing = "cmt_gauge_create") ||
        !find(&m->set[CORE_GAUGE], *missing = "cmt_gauge_set")) {
        free(m);
        return NULL;
    }
    if (histograms_are_sound() && find(&m->buckets, "cmt_histogram_buckets_create_size") && find(&m->set_histogram, "cmt_histogram_set_default"))
        find(&m->create_histogram, "cmt_histogram_create");
    *missing = "a metrics context";
    m->context = ins ? context_of(ins) : NULL;
    m->subsystem = strdup(subsystem);
    m->name = strdup(name);
    if (m->context && m->subsystem && m->name)
        return m;
    core_metrics_close(m);
    return NULL;
}

/* A place for one more series, in which the second label is a copy of value where there is one. NULL: no memory. */
static struct series *add(struct core_metrics *m, const char *value)
{
    struct series *s;

    if (m->used == m->room) {
        s = realloc(m->series, (2 * m->room + 8) * sizeof(*s));
        if (!s)
            return NULL;
        m->series = s;
        m->room = 2 * m->room + 8;
    }
    s = &m->series[m->used];
    *s = (struct series) {.labels = {m->name, value ? strdup(value) : NULL}};
    if (value && !s->labels[1])
        return NULL;
    m->used++;
    return s;
}

int core_metrics_add(struct core_metrics *m, int kind, char *name, char *help, char *label, int n, char **values)
{
    char *keys[] = {"name", label};
    void *metric = m->create[kind](m->context, "fluentbit", m->subsystem, name, help, label ? 2 : 1, keys);

    for (int i = 0; metric && i < (label ? n : 1); i++) {
        struct series *s = add(m, label ? values[i] : NULL);

        if (!s)
            return -1;
        s->kind = kind;
        s->metric = metric;
    }
    return metric ? 0 : -1;
}

static void *create_part(struct core_metrics *m, char *name, const char *part, char *help, char **keys)
{
    char whole[128];

    snprintf(whole, sizeof(whole), "%s%s", name, part);
    return m->create[CORE_COUNTER](m->context, "fluentbit", m->subsystem, whole, help, 1, keys);
}

int core_metrics_add_histogram(struct core_metrics *m, char *name, char *help, int n, double *bounds)
{
    char *keys[] = {"name"};
    struct series *s = n < MAX_BUCKETS ? add(m, NULL) : NULL;

    if (!s)
        return -1;
    s->kind = CORE_HISTOGRAM;
    s->buckets = n + 1;
    if (m->create_histogram) {
        void *buckets = m->buckets(bounds, n); /* belongs to the histogram from then on */

        s->metric = buckets ? m->create_histogram(m->context, "fluentbit", m->subsystem, name, help, buckets, 1, keys) : NULL;
        return s->metric ? 0 : -1;
    }
    s->metric = create_part(m, name, "_count", help, keys);
    s->sum = create_part(m, name, "_sum", help, keys);
    return s->metric && s->sum ? 0 : -1;
}

/* The core wants each bucket to hold what the ones before it hold, too. */
static void set_histogram(struct core_metrics *m, struct series *s, uint64_t now_ns, const double *numbers)
{
    uint64_t buckets[MAX_BUCKETS], count = 0;
    double sum = numbers[s->buckets];

    for (int i = 0; i < s->buckets; i++)
        buckets[i] = count += (uint64_t) numbers[i];
    if (m->create_histogram) {
        m->set_histogram(s->metric, now_ns, buckets, sum, count, 1, s->labels);
        return;
    }
    m->set[CORE_COUNTER](s->metric, now_ns, count, 1, s->labels);
    m->set[CORE_COUNTER](s->sum, now_ns, sum, 1, s->labels);
}

void core_metrics_set(struct core_metrics *m, uint64_t now_ns, const double *numbers)
{
    for (struct series *s = m->series; s < m->series + m->used; s++)
        if (s->kind == CORE_HISTOGRAM) {
            set_histogram(m, s, now_ns, numbers);
            numbers += s->buckets + 1;
        }
        else
            m->set[s->kind](s->metric, now_ns, *numbers++, s->labels[1] ? 2 : 1, s->labels);
}

void core_metrics_close(struct core_metrics *m)
{
    for (int i = 0; i < m->used; i++)
        free(m->series[i].labels[1]);
    free(m->series);
    free(m->subsystem);
    free(m->name);
    free(m);
}
