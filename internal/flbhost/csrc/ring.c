/* From the append to the output: the ring buffer of an instance, memory accounting and back-pressure. */
#include "host.h"
#include <sys/eventfd.h>

void ring_create(struct flb_input_instance *ins)
{
    pthread_mutex_init(&ins->ring_lock, NULL);
    ins->ring = calloc(ins->ring_size, sizeof(*ins->ring));
}

static int ring_write(struct flb_input_instance *ins, struct chunk c)
{
    uint64_t one = 1;
    int ok = 0, signal = 0;

    pthread_mutex_lock(&ins->ring_lock);
    if (ins->ring_used < ins->ring_size) {
        ins->ring[(ins->ring_head + ins->ring_used++) % ins->ring_size] = c;
        ok = 1;
        if (!ins->ring_signalled && ins->ring_used * 20 >= ins->ring_size) /* a window of 5 % */
            ins->ring_signalled = signal = 1;
    }
    pthread_mutex_unlock(&ins->ring_lock);
    if (signal && write(ins->engine->ring_event, &one, sizeof(one)) < 0)
        host_log(1, "[host] cannot signal the ring buffer");
    return ok;
}

static int ring_read(struct flb_input_instance *ins, struct chunk *c)
{
    int ok = 0;

    pthread_mutex_lock(&ins->ring_lock);
    if (ins->ring_used > 0) {
        *c = ins->ring[ins->ring_head];
        ins->ring_head = (ins->ring_head + 1) % ins->ring_size;
        ins->ring_used--;
        ok = 1;
    }
    pthread_mutex_unlock(&ins->ring_lock);
    return ok;
}

/* Copies data. An instance of the pipeline's thread has no ring. What does not fit after 10 x 100 ms is gone. */
void ring_append(struct flb_input_instance *ins, const void *data, size_t len)
{
    struct chunk c = {NULL, len};

    if (len == 0)
        return;
    if (!ins->threaded) {
        chunk_append(ins, data, len);
        return;
    }
    c.data = malloc(len);
    memcpy(c.data, data, len);
    for (int retries = 0; !ring_write(ins, c); retries++) {
        if (retries == 10) {
            host_log(1, "[input:%s:%s] could not enqueue records into the ring buffer", ins->proxy->def->name, conf_name(ins));
            event("dropped %s %zu", conf_name(ins), len);
            free(c.data);
            return;
        }
        usleep(100000);
    }
}

/* The pipeline's thread, each 250 ms or when a ring asks for it. The ring of a paused input stays as it is. */
void ring_drain(struct engine *e)
{
    struct chunk c;

    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next) {
        while (!ins->paused && ring_read(ins, &c)) {
            chunk_append(ins, c.data, c.len);
            free(c.data);
        }
        pthread_mutex_lock(&ins->ring_lock);
        if (ins->ring_used * 20 < ins->ring_size)
            ins->ring_signalled = 0;
        pthread_mutex_unlock(&ins->ring_lock);
    }
}

int ring_waiting(struct flb_input_instance *ins)
{
    int n;

    pthread_mutex_lock(&ins->ring_lock);
    n = ins->ring_used;
    pthread_mutex_unlock(&ins->ring_lock);
    return n;
}

/* Throws away what the ring still holds; the number of appends lost. */
int ring_cleanup(struct flb_input_instance *ins)
{
    struct chunk c;
    int n = 0;

    while (ring_read(ins, &c)) {
        free(c.data);
        n++;
    }
    free(ins->ring);
    ins->ring = NULL;
    return n;
}

void chunk_block(struct flb_input_instance *ins)
{
    input_pause(ins);
    ins->paused = 1;
    event("paused %s", conf_name(ins));
}

void chunk_unblock(struct flb_input_instance *ins)
{
    ins->paused = 0;
    input_resume(ins);
    event("resumed %s", conf_name(ins));
}

/* What arrives here is safe (storage.type filesystem). Memory is given back by chunk_flush. */
void chunk_append(struct flb_input_instance *ins, const void *data, size_t len)
{
    if (ins->paused) {
        event("refused %s %zu", conf_name(ins), len);
        return;
    }
    out_chunk(ins, data, len);
    ins->mem_used += len;
    if (ins->mem_limit > 0 && ins->mem_used >= ins->mem_limit) {
        host_log(2, "[input] %s paused (mem buf overlimit - event of size %zuB exceeded limit %ld to %ldB)", conf_name(ins), len,
                 ins->mem_limit, ins->mem_used);
        chunk_block(ins);
    }
}

/* Once a second: a slow output takes output_rate bytes of each input, a fast one all. */
void chunk_flush(struct engine *e)
{
    for (struct flb_input_instance *ins = e->first; ins; ins = ins->next) {
        int over = ins->mem_limit > 0 && ins->mem_used >= ins->mem_limit;

        ins->mem_used -= opt.output_rate > 0 && opt.output_rate < ins->mem_used ? opt.output_rate : ins->mem_used;
        if (over && ins->mem_used < ins->mem_limit && ins->paused && e->ingestion_active) {
            host_log(3, "[input] %s resume (mem buf overlimit)", conf_name(ins));
            chunk_unblock(ins);
        }
    }
}
