/*
 * The metrics of Fluent Bit's library cmetrics, as far as an input can use them, and an endpoint in Prometheus' text form. What the real
 * one would refuse, print wrong or crash on later is a sin here. WITHOUT_... leave out what other builds of Fluent Bit lack.
 */
#include "host.h"

#if defined(WITHOUT_METRICS) || defined(WITHOUT_CONTEXT)
/* A core built without metrics never writes the slot of struct flb_api: it holds whatever was in that memory. */
void *cmt_slot(void) { return (void *) 0x5a5a5a5a5a5a5a58; }
#else
void *flb_input_get_cmt_instance(struct flb_input_instance *ins)
{
    if (ins->magic != ALIVE)
        sin_("input_get_cmt_instance with an instance that is gone");
    return &ins->cmt;
}

void *cmt_slot(void) { return flb_input_get_cmt_instance; }
#endif

enum { COUNTER, GAUGE, HISTOGRAM };
static const char *const kinds[] = {"counter", "gauge", "histogram"};

#define MAX_LABELS 8

struct buckets { size_t n; double *bounds; };

struct series {
    char *labels[MAX_LABELS];
    double value;            /* of a histogram: the sum */
    uint64_t *buckets, count;
    struct series *next;
};

struct metric {
    struct cmt *cmt;
    int kind, n;
    char *name, *help, *keys[MAX_LABELS];
    struct buckets *buckets;
    struct series *series, **tail;
    struct metric *next;
};

static pthread_mutex_t cmt_lock = PTHREAD_MUTEX_INITIALIZER;

void cmt_init(struct flb_input_instance *ins)
{
    ins->cmt.ins = ins;
    ins->cmt.tail = &ins->cmt.first;
}

/* Nothing locks the lists of the real one: only Init may make them longer, and the instance's thread alone comes near them. */
static void check_use(struct cmt *cmt, const char *name, int makes)
{
    if (cmt->ins->magic != ALIVE)
        sin_("the metric %s was used after its instance had ended", name);
    else if (!pthread_equal(pthread_self(), cmt->ins->owner))
        sin_("the metric %s was used on a thread that is not the instance's", name);
    else if (makes && !cmt->ins->in_init)
        sin_("a series of the metric %s was made after Init, while the core may read", name);
}

static void *create(struct cmt *cmt, int kind, char *ns, char *subsystem, char *name, char *help, struct buckets *buckets, int n, char **keys)
{
    struct metric *m;

    if (!ns || !subsystem || !name || !*name || !help || !*help || n < 0 || n > MAX_LABELS)
        return NULL;
    m = calloc(1, sizeof(*m));
    if (asprintf(&m->name, "%s_%s_%s", ns, subsystem, name) < 0)
        return NULL;
    m->help = strdup(help);
    m->kind = kind;
    m->cmt = cmt;
    m->buckets = buckets;
    m->tail = &m->series;
    m->n = n;
    for (int i = 0; i < n; i++)
        m->keys[i] = strdup(keys[i]);
    check_use(cmt, m->name, 1);
    pthread_mutex_lock(&cmt_lock);
    for (struct metric *other = cmt->first; other; other = other->next)
        if (strcmp(other->name, m->name) == 0)
            sin_("the metric %s was made twice", m->name);
    *cmt->tail = m;
    cmt->tail = &m->next;
    pthread_mutex_unlock(&cmt_lock);
    return m;
}

/* The series of these labels, made when it is new. NULL: their number is not the metric's. */
static struct series *series_of(struct metric *m, int n, char **labels)
{
    struct series *s;
    int i;

    if (n != m->n)
        return NULL;
    for (s = m->series; s; s = s->next) {
        for (i = 0; i < n && strcmp(s->labels[i], labels[i]) == 0; i++)
            ;
        if (i == n)
            break;
    }
    check_use(m->cmt, m->name, s == NULL);
    if (s)
        return s;
    s = calloc(1, sizeof(*s));
    for (i = 0; i < n; i++)
        s->labels[i] = strdup(labels[i]);
    if (m->buckets)
        s->buckets = calloc(m->buckets->n + 1, sizeof(*s->buckets));
    *m->tail = s;
    m->tail = &s->next;
    return s;
}

static int set(void *metric, double value, int n, char **labels)
{
    struct metric *m = metric;
    struct series *s;
    int ret = -1;

    pthread_mutex_lock(&cmt_lock);
    s = series_of(m, n, labels);
    if (!s)
        sin_("the metric %s was set with %d labels, it has %d", m->name, n, m->n);
    else if (m->kind == COUNTER && s->value > value)
        sin_("the counter %s was set to %g, it stands at %g", m->name, value, s->value);
    else {
        s->value = value;
        ret = 0;
    }
    pthread_mutex_unlock(&cmt_lock);
    return ret;
}

#ifndef WITHOUT_METRICS
void *cmt_counter_create(struct cmt *cmt, char *ns, char *subsystem, char *name, char *help, int n, char **keys)
{
    return create(cmt, COUNTER, ns, subsystem, name, help, NULL, n, keys);
}

void *cmt_gauge_create(struct cmt *cmt, char *ns, char *subsystem, char *name, char *help, int n, char **keys)
{
    return create(cmt, GAUGE, ns, subsystem, name, help, NULL, n, keys);
}

int cmt_counter_set(void *m, uint64_t ns, double value, int n, char **labels) { return ns ? set(m, value, n, labels) : -1; }
int cmt_gauge_set(void *m, uint64_t ns, double value, int n, char **labels) { return ns ? set(m, value, n, labels) : -1; }

#ifdef WITHOUT_HISTOGRAMS
const char *cmt_version(void) { return "1.0.5"; }
#else
const char *cmt_version(void) { return "2.2.1"; }
#endif

void *cmt_histogram_buckets_create_size(double *bounds, size_t n)
{
    struct buckets *b = calloc(1, sizeof(*b));

    b->n = n;
    b->bounds = calloc(n, sizeof(*bounds));
    memcpy(b->bounds, bounds, n * sizeof(*bounds));
    return b;
}

void *cmt_histogram_create(struct cmt *cmt, char *ns, char *subsystem, char *name, char *help, void *buckets, int n, char **keys)
{
#ifdef WITHOUT_HISTOGRAMS
    sin_("the histogram %s was made, which this version of cmetrics copies wrong", name);
#endif
    return create(cmt, HISTOGRAM, ns, subsystem, name, help, buckets, n, keys);
}

/* The real one prints the buckets as they come, though each should hold those before it. */
int cmt_histogram_set_default(void *metric, uint64_t ns, uint64_t *buckets, double sum, uint64_t count, int n, char **labels)
{
    struct metric *m = metric;
    struct series *s;

    pthread_mutex_lock(&cmt_lock);
    s = ns ? series_of(m, n, labels) : NULL;
    for (size_t i = 0; s && i <= m->buckets->n; i++) {
        if (i > 0 && buckets[i] < buckets[i - 1])
            sin_("bucket %zu of %s holds less than the one before it", i, m->name);
        if (buckets[i] < s->buckets[i] || sum < s->value)
            sin_("the histogram %s went down", m->name);
        s->buckets[i] = buckets[i];
    }
    if (s) {
        if (count != buckets[m->buckets->n])
            sin_("the histogram %s counts %lu, its last bucket %lu", m->name, (long) count, (long) buckets[m->buckets->n]);
        s->value = sum;
        s->count = count;
    }
    pthread_mutex_unlock(&cmt_lock);
    return s ? 0 : -1;
}
#endif

static void print_escaped(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            fputc('\\', f);
        if (*text == '\n')
            fputs("\\n", f);
        else
            fputc(*text, f);
    }
}

static void print(FILE *f, struct metric *m, struct series *s, const char *part, const char *le, double value)
{
    fprintf(f, "M\t%s%s{", m->name, part);
    if (le)
        fprintf(f, "le=\"%s\"%s", le, m->n ? "," : "");
    for (int i = 0; i < m->n; i++) {
        fprintf(f, "%s%s=\"", i ? "," : "", m->keys[i]);
        print_escaped(f, s->labels[i]);
        fputc('"', f);
    }
    fprintf(f, "} %.17g\n", value);
}

static void print_series(FILE *f, struct metric *m, struct series *s)
{
    char le[32] = "+Inf";

    if (m->kind != HISTOGRAM) {
        print(f, m, s, "", NULL, s->value);
        return;
    }
    for (size_t i = 0; i < m->buckets->n; i++) {
        snprintf(le, sizeof(le), "%g", m->buckets->bounds[i]);
        print(f, m, s, "_bucket", le, s->buckets[i]);
    }
    print(f, m, s, "_bucket", "+Inf", s->buckets[m->buckets->n]);
    print(f, m, s, "_sum", NULL, s->value);
    print(f, m, s, "_count", NULL, s->count);
}

static struct metric *find(struct cmt *cmt, const char *name)
{
    struct metric *m = cmt->first;

    while (m && strcmp(m->name, name) != 0)
        m = m->next;
    return m;
}

/* Like the real one it puts the metrics of one name together, whatever the instance. */
void cmt_print(struct engine *e, FILE *f)
{
    pthread_mutex_lock(&cmt_lock);
    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next)
        for (struct metric *m = ins->cmt.first; m; m = m->next) {
            struct flb_input_instance *i = e->first;

            while (i != ins && !find(&i->cmt, m->name))
                i = i->next;
            if (i != ins || !m->series)
                continue; /* it was printed with that one */
            fprintf(f, "M\t# HELP %s %s\nM\t# TYPE %s %s\n", m->name, m->help, m->name, kinds[m->kind]);
            for (; i; i = i->next) {
                struct metric *same = find(&i->cmt, m->name);

                for (struct series *s = same ? same->series : NULL; s; s = s->next)
                    print_series(f, same, s);
            }
        }
    pthread_mutex_unlock(&cmt_lock);
}
