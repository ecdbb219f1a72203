package main

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/plugin/flb"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// fake is an engine that notes what it is told; fail makes that call panic.
type fake struct {
	name  string
	next  []*pull.Batch
	calls []string
	fail  string
	all   *[]string // shared by several: who stopped in which order
}

func (f *fake) call(what string) {
	f.calls = append(f.calls, what)
	if f.fail == what {
		panic("the " + what + " of a test")
	}
}

func (f *fake) Take() *pull.Batch {
	f.call("take")
	if len(f.next) == 0 {
		return nil
	}
	b := f.next[0]
	f.next = f.next[1:]
	return b
}
func (f *fake) Done(*pull.Batch) { f.call("done") }
func (f *fake) Pause()           { f.call("pause") }
func (f *fake) Resume()          { f.call("resume") }
func (f *fake) Leave()           {}
func (f *fake) Stats() pull.Stats {
	f.call("stats")
	return pull.Stats{}
}
func (*fake) holds() []state.Key { return nil }

func (f *fake) Stop(ctx context.Context) error {
	if f.all != nil {
		*f.all = append(*f.all, f.name)
	}
	f.call("stop")
	return nil
}

func batch(text string) *pull.Batch { return &pull.Batch{Data: []byte(text)} }

// lines collects what the instances of a test log.
type lines struct{ simtest.LogBuffer }

func (l *lines) has(t *testing.T, text string) {
	t.Helper()
	if said := l.String(); !strings.Contains(said, text) {
		t.Errorf("no line with %q in %q", text, said)
	}
}

// setup puts instances of these engines on the test's thread, as `threaded off` does when there are several, and
// returns their tokens. The thread is the test's own until it ends.
func setup(t *testing.T, engines ...*fake) ([]uintptr, *lines) {
	t.Helper()
	runtime.LockOSThread()
	old := instances
	instances = newTable()
	t.Cleanup(func() {
		for _, in := range instances.of(flb.ThreadID()) {
			in.pin.Unpin()
		}
		instances = old
		runtime.UnlockOSThread()
	})
	out := &lines{}
	log := slog.New(slog.NewTextHandler(out, nil))
	var tokens []uintptr
	for _, e := range engines {
		token := instances.reserve()
		instances.add(&instance{lines: flb.Detached(), log: log, engine: e}, flb.ThreadID(), token)
		tokens = append(tokens, token)
	}
	return tokens, out
}

func ask(token uintptr) (string, uintptr) {
	data, size := uintptr(1), uintptr(1)
	callback(token, &data, &size)
	if size == 0 {
		return "", data
	}
	return string(unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&data))), size)), data
}

func (f *fake) want(t *testing.T, calls ...string) {
	t.Helper()
	if !slices.Equal(f.calls, calls) {
		t.Errorf("%s: calls %q, want %q", f.name, f.calls, calls)
	}
	f.calls = nil
}

func TestACallbackHandsOverWithoutCopyAndCleanupSaysDone(t *testing.T) {
	b := batch("records")
	e := &fake{next: []*pull.Batch{b}}
	tokens, _ := setup(t, e)
	got, data := ask(tokens[0])
	if got != "records" || data != uintptr(unsafe.Pointer(&b.Data[0])) {
		t.Errorf("%q at %x", got, data)
	}
	e.want(t, "take")
	cleanup(tokens[0])
	cleanup(tokens[0])
	e.want(t, "done")
	if got, data := ask(tokens[0]); got != "" || data != 0 {
		t.Errorf("%q at %x from an empty queue", got, data)
	}
}

func TestADataPinSurvivesTheCollector(t *testing.T) {
	e := &fake{next: []*pull.Batch{batch(strings.Repeat("x", 1<<20))}}
	tokens, _ := setup(t, e)
	data, size := uintptr(0), uintptr(0)
	callback(tokens[0], &data, &size)
	for range 3 {
		runtime.GC()
	}
	held := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&data))), size)
	if string(held) != strings.Repeat("x", 1<<20) {
		t.Error("the data changed while C held it")
	}
	cleanup(tokens[0])
}

func TestAnEmptyBatchIsDoneAtOnce(t *testing.T) {
	e := &fake{next: []*pull.Batch{batch("")}}
	tokens, _ := setup(t, e)
	if got, data := ask(tokens[0]); got != "" || data != 0 {
		t.Errorf("%q at %x", got, data)
	}
	e.want(t, "take", "done")
}

func TestACoreThatAsksAgainIsThroughWithTheLastBatch(t *testing.T) {
	e := &fake{next: []*pull.Batch{batch("a"), batch("b")}}
	tokens, _ := setup(t, e)
	ask(tokens[0])
	ask(tokens[0])
	e.want(t, "take", "done", "take")
}

func TestStaleAndZeroTokensFindNothing(t *testing.T) {
	e := &fake{next: []*pull.Batch{batch("a")}}
	tokens, _ := setup(t, e)
	for _, token := range []uintptr{tokens[0] + 1, 12345, ^uintptr(0), 4096} {
		if got, data := ask(token); got != "" || data != 0 {
			t.Errorf("token %x found %q", token, got)
		}
		cleanup(token)
	}
	e.want(t)
	// Cores before 4.1 know no token: the thread tells.
	if got, _ := ask(0); got != "a" {
		t.Errorf("the only instance of the thread gave %q", got)
	}
	cleanup(0)
	e.want(t, "take", "done")
	exit()
	e.want(t, "stop")
	if got, _ := ask(tokens[0]); got != "" {
		t.Errorf("a token found %q after exit", got)
	}
	pause()
	resume()
	exit()
	e.want(t)
}

func TestACallFromAnotherThreadFindsNothing(t *testing.T) {
	e := &fake{}
	setup(t, e)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		pause()
		exit()
		ask(0)
	}()
	<-done
	e.want(t)
}

func TestAPausedInstanceGivesNothing(t *testing.T) {
	e := &fake{next: []*pull.Batch{batch("a")}}
	tokens, out := setup(t, e)
	pause()
	if got, _ := ask(tokens[0]); got != "" {
		t.Errorf("a paused instance gave %q", got)
	}
	e.want(t, "pause")
	resume()
	out.has(t, "storage.type filesystem")
	if got, _ := ask(tokens[0]); got != "a" {
		t.Errorf("a resumed instance gave %q", got)
	}
	e.want(t, "resume", "take")
}

func TestTheEngineSeesEveryPause(t *testing.T) {
	e := &fake{}
	setup(t, e)
	pause()
	pause()
	exit()
	e.want(t, "pause", "pause", "stop") // two: an exit, not back-pressure
}

func TestTheEngineSeesNoMoreThanTwoPausesOfAnOldCore(t *testing.T) {
	e := &fake{}
	setup(t, e)
	instances.of(flb.ThreadID())[0].old = true
	pause()
	resume()
	e.want(t, "pause", "resume")
	for range 5 {
		pause()
	}
	e.want(t, "pause", "pause")
	resume()
	pause()
	exit()
	e.want(t, "resume", "pause", "stop") // one: back-pressure
}

func TestWithThreadedOffAllWaitUntilTheLastIsResumed(t *testing.T) {
	a, b := &fake{name: "a", next: []*pull.Batch{batch("a")}}, &fake{name: "b", next: []*pull.Batch{batch("b")}}
	tokens, _ := setup(t, a, b)
	pause() // of a
	pause() // of b
	resume()
	if got, _ := ask(tokens[1]); got != "" {
		t.Errorf("b gave %q while one of the two is paused", got)
	}
	resume()
	for i, want := range []string{"a", "b"} {
		if got, _ := ask(tokens[i]); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got, _ := ask(0); got != "" {
		t.Errorf("a call that names none of the two got %q", got)
	}
}

func TestExitEndsTheLastInitialisedFirst(t *testing.T) {
	var order []string
	a, b, c := &fake{name: "a", all: &order}, &fake{name: "b", all: &order}, &fake{name: "c", all: &order}
	setup(t, a, b, c)
	for range 5 { // the core may call it more often than Init
		exit()
	}
	if want := []string{"c", "b", "a"}; !slices.Equal(order, want) {
		t.Errorf("ended %q, want %q", order, want)
	}
	if n := instances.count(); n != 0 {
		t.Errorf("%d instances left", n)
	}
}

func TestABatchStillWithTheCoreAtExitIsNotHandedOver(t *testing.T) {
	e := &fake{next: []*pull.Batch{batch("a")}}
	tokens, _ := setup(t, e)
	ask(tokens[0])
	exit()
	cleanup(tokens[0])
	e.want(t, "take", "stop")
}

func TestAPanicEndsAtTheBoundary(t *testing.T) {
	f := func(call string, f func(token uintptr)) {
		t.Helper()
		t.Run(call, func(t *testing.T) {
			e := &fake{fail: call, next: []*pull.Batch{batch("a")}}
			tokens, out := setup(t, e)
			f(tokens[0])
			out.has(t, "internal error")
			out.has(t, "the "+call+" of a test")
		})
	}
	f("take", func(token uintptr) {
		if got, data := ask(token); got != "" || data != 0 {
			t.Errorf("%q at %x", got, data)
		}
	})
	f("done", func(token uintptr) { ask(token); cleanup(token) })
	f("pause", func(uintptr) { pause() })
	f("resume", func(uintptr) { resume() })
	f("stop", func(uintptr) { exit() })
	guard("init", nil, func() { panic("a panic of a test, on purpose") }) // before there is an instance
}

func TestAPanicAtEachCallbackIsToldOnce(t *testing.T) {
	e := &fake{fail: "take"}
	tokens, out := setup(t, e)
	for range 10 {
		ask(tokens[0])
	}
	if n := strings.Count(out.String(), "internal error"); n != 1 {
		t.Errorf("%d lines for 10 panics", n)
	}
}

func TestExitReturnsWhateverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := instances
		instances = newTable()
		defer func() { instances = old }()
		unblock := make(chan struct{})
		in := &instance{lines: flb.Detached(), log: slog.New(slog.DiscardHandler), engine: hanging{unblock: unblock}}
		start := time.Now()
		in.close()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("exit took %v", took)
		}
		// The next Init waits for what is left of it, since that still holds the stanza's state.
		if instances.await(5 * time.Second) {
			t.Error("an engine that hangs counts as gone")
		}
		start = time.Now()
		if instances.await(5*time.Second) || time.Since(start) != 0 {
			t.Errorf("each Init waits anew: %v", time.Since(start))
		}
		time.AfterFunc(3*time.Second, func() { close(unblock) })
		if !instances.await(10*time.Second) || time.Since(start) != 3*time.Second || !instances.await(0) {
			t.Errorf("waited %v for an engine that took 3 s more", time.Since(start))
		}
	})
}

// hanging is an engine whose Stop does not heed its context.
type hanging struct {
	unblock chan struct{}
}

func (h hanging) Take() *pull.Batch { return nil }
func (h hanging) Done(*pull.Batch)  {}
func (h hanging) Pause()            {}
func (h hanging) Resume()           {}
func (h hanging) Leave()            {}
func (h hanging) Stats() pull.Stats { return pull.Stats{} }
func (hanging) holds() []state.Key  { return nil }

func (h hanging) Stop(context.Context) error {
	<-h.unblock
	return nil
}
