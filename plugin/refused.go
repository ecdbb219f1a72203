package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

const (
	remindFirst = time.Minute      // between two reminders of the first ten minutes
	remindLater = 10 * time.Minute // and after them
	remindMost  = 20               // faults of one reminder
)

// refusals repeats why stanzas do not run, as long as Fluent Bit runs without them: before 4.0.3 it goes on when the
// Init of an input with a thread of its own fails (src/flb_input_thread.c), and what was said at its start scrolls
// away. From 4.0.3 on it ends.
type refusals struct {
	mu    sync.Mutex
	stops []context.CancelFunc
}

var refused refusals

// add begins to repeat the faults of a stanza through say, until stop.
func (r *refusals) add(faults []string, say *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	r.mu.Lock()
	r.stops = append(r.stops, cancel)
	r.mu.Unlock()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				fmt.Fprintf(os.Stderr, "[error] [input:%s] internal error while repeating faults: %v; "+
					"please report this\n%s", kind, p, debug.Stack())
			}
		}()
		remind(ctx, faults, say)
	}()
}

// stop ends all: Fluent Bit has ended, or runs with another configuration.
func (r *refusals) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cancel := range r.stops {
		cancel()
	}
	r.stops = nil
}

// remind repeats the faults, every minute for ten minutes and every ten minutes then, until ctx ends.
func remind(ctx context.Context, faults []string, say *slog.Logger) {
	began := time.Now()
	for {
		wait := remindFirst
		if time.Since(began) >= 10*remindFirst {
			wait = remindLater
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		for _, fault := range faults[:min(len(faults), remindMost)] {
			say.Error("this input does not run, and pulls nothing: " + fault)
		}
	}
}
