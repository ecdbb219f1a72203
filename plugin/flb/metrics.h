/*
 * The metrics of Fluent Bit's executable (its library cmetrics), found with dlsym, so that the plugin loads where there are none.
 */
#ifndef DEFENDER_METRICS_H
#define DEFENDER_METRICS_H

#include <stddef.h>
#include <stdint.h>

enum { CORE_COUNTER, CORE_GAUGE, CORE_HISTOGRAM };

struct core_metrics;

/* NULL: the executable has no metrics, or no memory; *missing is the name of what it lacks then. name is the instance's. */
struct core_metrics *core_metrics_open(void *ins, const char *subsystem, const char *name, const char **missing);

/*
 * Makes a counter or a gauge with a series for each of n values of label, or one where label is NULL. Strings are copied; that they are
 * not const is the core's. 0: done.
 */
int core_metrics_add(struct core_metrics *m, int kind, char *name, char *help, char *label, int n, char **values);

/* Makes a histogram with n bounds, 31 at most; where those of the core are missing or unsound, the counters NAME_count and NAME_sum. 0: done. */
int core_metrics_add_histogram(struct core_metrics *m, char *name, char *help, int n, double *bounds);

/*
 * Sets all series, in the order in which they were added: a number each, and for a histogram the count of each bucket, of what is
 * beyond the last, and the sum. The first call makes the series.
 */
void core_metrics_set(struct core_metrics *m, uint64_t now_ns, const double *numbers);

/* Lets go of the metrics; the core keeps them until it ends the instance. */
void core_metrics_close(struct core_metrics *m);

#endif
