package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"fluent-bit-defender/plugin/flb"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

const (
	leaveWithin = 1500 * time.Millisecond // after this Exit returns even if the engine has not stopped
	logEvery    = 10 * time.Minute        // between two lines about the same thing
)

// engine is a stanza; tests put others in its place.
type engine interface {
	Take() *pull.Batch
	Done(*pull.Batch)
	Pause()
	Resume()
	Leave()
	Stats() pull.Stats
	Stop(context.Context) error
	holds() []state.Key // of the state that is open
}

// instance is one stanza from Init to Exit. All calls come from its thread, one at a time.
type instance struct {
	token  uintptr
	lines  *flb.Log
	log    *slog.Logger
	engine engine
	meter  *meter // nil: the core has no metrics

	// The core asks a paused instance for data all the same when another one's collector was stopped in its place.
	pauses      int // since the last resume
	pausedSince time.Time
	pauseLogged time.Time

	// old: the core is older than 4.1. Up to 4.0.8 it pauses an input that ran anew each second for which an output
	// keeps it from exiting.
	old bool

	batch *pull.Batch // with the core, pinned
	pin   runtime.Pinner

	panics       int
	panicsLogged time.Time
}

func (in *instance) flush() { in.lines.Flush() }

// take returns the next batch for the core, or nothing. The bytes stay where they are until release.
func (in *instance) take() []byte {
	in.flush()
	in.release() // a core that asks again is through with the last one
	in.meter.set(in.engine)
	if in.pauses > 0 {
		return nil
	}
	b := in.engine.Take()
	if b == nil {
		return nil
	}
	if len(b.Data) == 0 { // would see no cleanup
		in.engine.Done(b)
		return nil
	}
	in.pin.Pin(&b.Data[0])
	in.batch = b
	return b.Data
}

// release gives the batch back to the engine as delivered.
func (in *instance) release() {
	b := in.batch
	if b == nil {
		return
	}
	in.batch = nil
	in.pin.Unpin()
	in.engine.Done(b)
}

func (in *instance) pause() {
	if in.pauses++; in.pauses == 1 {
		in.pausedSince = time.Now()
	}
	// By their number the engine tells an exit from back-pressure. Old cores, which have no rate gate, leave alone what
	// they hold under back-pressure: their second pause is an exit's for certain, and those that follow say nothing
	// more.
	if !in.old || in.pauses <= 2 {
		in.engine.Pause()
	}
	in.meter.set(in.engine) // the core may not call again until it resumes
	in.flush()
}

func (in *instance) resume() {
	if in.pauses > 0 {
		in.pauses = 0
		// Told afterwards, because a pause of the exit looks the same.
		if now := time.Now(); in.pauseLogged.IsZero() || now.Sub(in.pauseLogged) >= logEvery {
			in.pauseLogged = now
			in.log.Warn(fmt.Sprintf("Fluent Bit paused this input for %s because its buffers were full, "+
				"and with several stanzas possibly others in its place; "+
				"storage.type filesystem in the stanza avoids that", now.Sub(in.pausedSince).Round(time.Second)))
		}
	}
	in.engine.Resume()
	in.meter.set(in.engine)
	in.flush()
}

// close ends the instance within 2 s, whatever hangs. What hangs is left to end by itself, and the next Init waits
// for it. A batch that is still with the core is not given back as delivered: nobody knows whether it was copied.
func (in *instance) close() {
	// Come what may: the runtime ends the process when it finds a pin that nobody can undo any more.
	defer in.pin.Unpin()
	defer in.meter.close()
	stopped := make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer func() {
			if p := recover(); p != nil {
				stopped <- fmt.Errorf("internal error: %v; please report this: %s", p, debug.Stack())
			}
		}()
		stopped <- in.engine.Stop(context.Background())
	}()
	late := time.NewTimer(leaveWithin)
	defer late.Stop()
	var err error
	select {
	case err = <-stopped:
		if err == nil {
			in.meter.set(in.engine)
		}
	case <-late.C:
		instances.leave(gone, in.engine.holds())
		err = fmt.Errorf("not finished within %s", leaveWithin)
	}
	if err != nil {
		in.log.Warn(fmt.Sprintf("stopping: %v; what was delivered last may come again after the next start", err))
	}
	in.batch = nil
	in.lines.Close()
}

// complain tells of a panic, with its stack the first time and once in a while after that.
func complain(what string, in *instance, p any) {
	if in == nil {
		fmt.Fprintf(os.Stderr, "[error] [input:%s] internal error in %s: %v; please report this\n%s",
			kind, what, p, debug.Stack())
		return
	}
	in.panics++
	now := time.Now()
	if in.panics > 1 && now.Sub(in.panicsLogged) < logEvery {
		return
	}
	in.panicsLogged = now
	in.log.Error(fmt.Sprintf("internal error in %s: %v (%d so far); the input goes on; please report this: %s",
		what, p, in.panics, debug.Stack()))
}
