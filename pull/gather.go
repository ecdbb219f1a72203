package pull

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// mostGathered bounds the kinds of lines that are gathered at once; further ones are logged as they come.
const mostGathered = 200

// Gatherer makes one line of what many tenants of a stanza say alike within a while: the first text, with a count and
// three names. Lines of one tenant alone get its name. Its methods may be called from anywhere.
type Gatherer struct {
	log  *slog.Logger
	wait time.Duration

	mu     sync.Mutex
	kinds  map[string]*gathered
	closed bool

	waiting sync.WaitGroup // for what is to be logged
}

// gathered is a line that waits for others of its kind.
type gathered struct {
	level   slog.Level
	text    string
	tenants []string // in the order in which they came, each once
	timer   *time.Timer
}

// NewGatherer logs to log what was gathered for wait: as long as it takes until each tenant was asked once.
func NewGatherer(log *slog.Logger, wait time.Duration) *Gatherer {
	return &Gatherer{log: log, wait: wait, kinds: map[string]*gathered{}}
}

// Logger returns the logger of the tenant with this id, which lines call by its label. What is below slog.LevelInfo
// is logged at once.
func (g *Gatherer) Logger(label, id string) *slog.Logger {
	return slog.New(tenantHandler{g: g, label: label, id: id})
}

// Close logs what still waits. Later lines are logged as they come.
func (g *Gatherer) Close() {
	g.mu.Lock()
	g.closed = true
	all := make([]*gathered, 0, len(g.kinds))
	for _, k := range g.kinds {
		if k.timer.Stop() {
			all = append(all, k)
		}
	}
	clear(g.kinds)
	g.mu.Unlock()
	slices.SortFunc(all, func(a, b *gathered) int { return cmp.Compare(b.level, a.level) })
	for _, k := range all {
		g.say(k)
		g.waiting.Done()
	}
	g.waiting.Wait() // what was due just now is being logged
}

func (g *Gatherer) came(level slog.Level, tenant, id, text string) {
	kind := level.String() + sortOf(strings.ReplaceAll(text, id, ""))
	if level < slog.LevelInfo || !g.gather(kind, level, tenant, text) {
		g.say(&gathered{level: level, text: text, tenants: []string{tenant}})
	}
}

func (g *Gatherer) gather(kind string, level slog.Level, tenant, text string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := g.kinds[kind]
	switch {
	case g.closed || k == nil && len(g.kinds) >= mostGathered:
		return false
	case k == nil:
		k = &gathered{level: level, text: text}
		g.kinds[kind] = k
		g.waiting.Add(1)
		k.timer = time.AfterFunc(g.wait, func() {
			g.mu.Lock()
			delete(g.kinds, kind)
			g.mu.Unlock()
			g.say(k)
			g.waiting.Done()
		})
	}
	if !slices.Contains(k.tenants, tenant) {
		k.tenants = append(k.tenants, tenant)
	}
	return true
}

// say logs one line. Nobody else has k.
func (g *Gatherer) say(k *gathered) {
	who := "tenant " + k.tenants[0]
	if n := len(k.tenants); n > 1 {
		named := k.tenants[:min(n, 3)]
		who = fmt.Sprintf("%d tenants (%s", n, strings.Join(named, ", "))
		if n > len(named) {
			who += fmt.Sprintf(" and %d more", n-len(named))
		}
		who += ")"
	}
	g.log.Log(context.Background(), k.level, who+": "+k.text)
}

// tenantHandler hands one tenant's lines to a Gatherer.
type tenantHandler struct {
	g         *Gatherer
	label, id string
	attrs     string
}

func (h tenantHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.g.log.Enabled(ctx, l)
}

func (h tenantHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message + h.attrs
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	h.g.came(r.Level, h.label, h.id, text)
	return nil
}

func (h tenantHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.attrs += " " + a.String()
	}
	return h
}

func (h tenantHandler) WithGroup(string) slog.Handler { return h }
