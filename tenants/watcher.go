package tenants

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"fluent-bit-defender/conf"
)

const (
	// A change is known after lookEvery and used once the file was the same for stillFor: an editor may write it piece
	// by piece.
	lookEvery = 5 * time.Second
	stillFor  = time.Second
	// retryEvery is the time between tries to begin a tenant that could not begin.
	retryEvery = time.Minute
)

// Apply does what a changed file asks for, and returns those of the new Configs that could not begin. It has told why.
type Apply func(context.Context, conf.Difference) (failed []*conf.Config)

// Watcher looks at the file of one stanza and has its tenants begin, stop and change. It is used by one goroutine.
type Watcher struct {
	stanza *conf.Stanza
	apply  Apply
	log    *slog.Logger

	now     []*conf.Config // that are pulled
	seen    [sha256.Size]byte
	unread  string // why the file could not be read the last time; empty: it could
	want    conf.Tenants
	failing int // of want that could not begin
}

// NewWatcher watches the tenants_file of a stanza whose tenants are now pulled.
func NewWatcher(stanza *conf.Stanza, now []*conf.Config, apply Apply, log *slog.Logger) *Watcher {
	return &Watcher{stanza: stanza, apply: apply, log: log, now: slices.Clone(now), want: conf.Tenants{Good: now}}
}

// Run looks until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	retry := time.Now()
	for pause(ctx, lookEvery) {
		text, changed := w.look()
		for changed && pause(ctx, stillFor) {
			again, _ := w.look()
			if changed = !bytes.Equal(again, text); !changed {
				w.use(ctx, text)
			}
			text = again
		}
		if w.failing > 0 && time.Since(retry) >= retryEvery {
			retry = time.Now()
			w.follow(ctx)
		}
	}
}

// look reads the file. changed: it is not the one that was used last.
func (w *Watcher) look() (text []byte, changed bool) {
	text, err := readFile(w.stanza.TenantsFile)
	switch {
	case err == nil:
		w.unread = ""
		return text, sha256.Sum256(text) != w.seen
	case w.unread != err.Error(): // once, until it is another reason
		w.unread = err.Error()
		w.log.Error(fmt.Sprintf("tenants_file: %v; the tenants stay as they are, and it is read again as soon "+
			"as it can be", err))
	}
	return nil, false
}

// use takes over a text that is new.
func (w *Watcher) use(ctx context.Context, text []byte) {
	w.seen = sha256.Sum256(text)
	found, faults := w.stanza.Tenants(text)
	for _, f := range faults {
		w.log.Error(f.Error())
	}
	switch {
	case len(found.Good)+len(found.Bad) == 0:
		w.log.Error("tenants_file has changed and cannot be used: the tenants stay as they are")
		return
	case len(found.Bad) > 0:
		w.log.Error(fmt.Sprintf("tenants_file has changed, and %d of its entries are faulty: those tenants stay "+
			"as they are", len(found.Bad)))
	}
	w.want = found
	w.follow(ctx)
}

// follow has the tenants become those of the file.
func (w *Watcher) follow(ctx context.Context) {
	d := conf.Differ(w.now, w.want)
	if d.Empty() {
		w.failing = 0
		return
	}
	failed := w.apply(ctx, d)
	if ctx.Err() != nil {
		return
	}
	stopped, changed := len(d.Stop), 0
	drop := func(c *conf.Config) {
		w.now = slices.DeleteFunc(w.now, func(o *conf.Config) bool { return o == c })
	}
	for _, c := range d.Stop {
		drop(c)
	}
	for _, r := range d.Change {
		drop(r.Old)
		if !slices.Contains(failed, r.New) {
			w.now = append(w.now, r.New)
			changed++
		}
	}
	began := 0
	for _, c := range d.Begin {
		if !slices.Contains(failed, c) {
			w.now = append(w.now, c)
			began++
		}
	}
	if again := w.failing == len(failed) && began+stopped+changed == 0; !again {
		w.log.Info(fmt.Sprintf("tenants_file: %d tenants are pulled now: %d began, %d stopped, %d changed, %d "+
			"cannot begin",
			len(w.now), began, stopped, changed, len(failed)))
	}
	w.failing = len(failed)
}

// pause waits for d. False: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
