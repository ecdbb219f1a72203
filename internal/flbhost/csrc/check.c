/* Checks what a plugin hands over as strictly as its data can hurt: Fluent Bit drops the rest of a chunk in silence. */
#include "host.h"

struct cursor { const uint8_t *p, *end; int max_depth; const char *why; };

static int fail(struct cursor *c, const char *why)
{
    c->why = why;
    return -1;
}

static int take(struct cursor *c, size_t n)
{
    if ((size_t) (c->end - c->p) < n)
        return fail(c, "the record is cut");
    c->p += n;
    return 0;
}

static int64_t be(const uint8_t *p, int n)
{
    uint64_t v = 0;

    while (n-- > 0)
        v = v << 8 | *p++;
    return v;
}

static int size(struct cursor *c, int bytes, size_t *n)
{
    const uint8_t *p = c->p;

    if (take(c, bytes))
        return -1;
    *n = be(p, bytes);
    return 0;
}

static int skip(struct cursor *c, int depth);

static int skip_many(struct cursor *c, size_t n, int depth)
{
    if (depth > c->max_depth)
        return fail(c, "nested deeper than an old Fluent Bit reads");
    while (n-- > 0)
        if (skip(c, depth))
            return -1;
    return 0;
}

/* Steps over one value. */
static int skip(struct cursor *c, int depth)
{
    uint8_t b;
    size_t n = 0;

    if (c->p >= c->end)
        return fail(c, "the record is cut");
    b = *c->p++;
    if (b <= 0x7f || b >= 0xe0 || b == 0xc0 || b == 0xc2 || b == 0xc3)
        return 0;
    if (b <= 0x8f)
        return skip_many(c, 2 * (b & 0x0f), depth + 1);
    if (b <= 0x9f)
        return skip_many(c, b & 0x0f, depth + 1);
    if (b <= 0xbf)
        return take(c, b & 0x1f);
    switch (b) {
    case 0xc4: case 0xd9: return size(c, 1, &n) || take(c, n);
    case 0xc5: case 0xda: return size(c, 2, &n) || take(c, n);
    case 0xc6: case 0xdb: return size(c, 4, &n) || take(c, n);
    case 0xc7: return size(c, 1, &n) || take(c, n + 1);
    case 0xc8: return size(c, 2, &n) || take(c, n + 1);
    case 0xc9: return size(c, 4, &n) || take(c, n + 1);
    case 0xca: case 0xd2: case 0xce: return take(c, 4);
    case 0xcb: case 0xd3: case 0xcf: return take(c, 8);
    case 0xcc: case 0xd0: return take(c, 1);
    case 0xcd: case 0xd1: return take(c, 2);
    case 0xd4: return take(c, 2);
    case 0xd5: return take(c, 3);
    case 0xd6: return take(c, 5);
    case 0xd7: return take(c, 9);
    case 0xd8: return take(c, 17);
    case 0xdc: return size(c, 2, &n) || skip_many(c, n, depth + 1);
    case 0xdd: return size(c, 4, &n) || skip_many(c, n, depth + 1);
    case 0xde: return size(c, 2, &n) || skip_many(c, 2 * n, depth + 1);
    case 0xdf: return size(c, 4, &n) || skip_many(c, 2 * n, depth + 1);
    }
    return fail(c, "byte 0xc1");
}

/* One record: [EventTime, map]. */
static int record(struct cursor *c)
{
    const uint8_t *p = c->p;
    uint32_t sec, nsec;

    if (*p != 0x92)
        return fail(c, "a record is not an array of two");
    if (c->end - p < 12)
        return fail(c, "the record is cut");
    if (p[1] != 0xd7 || p[2] != 0)
        return fail(c, "the time is not an EventTime (ext type 0 of 8 bytes)");
    sec = be(p + 3, 4);
    nsec = be(p + 7, 4);
    if (nsec == 0 && sec >= 0xFFFFFFFEu)
        return fail(c, "the time is a marker of the core");
    if (nsec >= 1000000000u)
        return fail(c, "more than a second of nanoseconds");
    c->p += 11;
    if (!((*c->p & 0xf0) == 0x80 || *c->p == 0xde || *c->p == 0xdf))
        return fail(c, "the body is not a map");
    return skip(c, 1);
}

size_t check_chunk(const uint8_t *data, size_t len, int max_depth, int *records, const char **why)
{
    struct cursor c = {data, data + len, max_depth, NULL};
    const uint8_t *good = data;

    *records = 0;
    while (c.p < c.end && record(&c) == 0) {
        good = c.p;
        ++*records;
    }
    *why = c.why;
    return good - data;
}
