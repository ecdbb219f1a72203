// Package flbhost loads a Go input into a small C program that treats it exactly as Fluent Bit 5.1.1 does, bugs
// included, and hands what it appends to tests and to the demo. What the plugin does wrong on the way (bytes Fluent
// Bit would drop in silence, a callback that waits, a log line from the wrong thread) is told as a sin.
package flbhost

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say what to run and how fast. Zero values are those of Fluent Bit 5.1.1.
type Options struct {
	Plugin string // path of the .so
	Config string // text in the classic format: [SERVICE] and [INPUT] sections

	// FluentBit is the path of a real Fluent Bit to run instead of the host. The options below but Env, OnRecord and
	// Stderr, and the commands Pause, Resume, Busy, Idle, Stats and Metrics mean nothing to it.
	FluentBit string

	Core       string        // version to be, "2.0.0" or later
	Interval   time.Duration // between callbacks, 1 s
	Drain      time.Duration // between drains of the ring buffers, 250 ms
	Tick       time.Duration // of the stop: it lasts at least one, 1 s
	Grace      int           // ticks a stop waits for memory to empty, 5
	Slow       time.Duration // a callback longer than this is a sin, 100 ms
	Ring       int           // entries of a ring buffer, 1024
	OutputRate int           // bytes a second that leave the memory of an input with mem_buf_limit; 0: all each second
	Daemon     bool          // fork after the .so is loaded
	Trace      bool          // tell each call into the plugin
	Without    Without       // what it has not of Fluent Bit's metrics
	Env        []string      // added to the environment

	OnRecord func(Record) // takes the records instead of the View; called on one goroutine
	Stderr   io.Writer    // gets a copy of the log lines
}

// Without says which metrics a build of Fluent Bit has not.
type Without string

// What builds may lack.
const (
	WithoutHistograms Without = "HISTOGRAMS" // cmetrics is of a version that shows histograms wrong
	WithoutContext    Without = "CONTEXT"    // cmetrics is there, but no instance has a context: its slot holds garbage
	WithoutMetrics    Without = "METRICS"    // as WithoutContext, and there is no cmetrics
)

// Host is a running host. Its methods may be called from any goroutine; commands one at a time.
type Host struct {
	options Options
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	dir     string
	config  string // path

	mu      sync.Mutex
	changed sync.Cond
	view    View
	replies []string
	metrics []string // lines, of the last reply to that command
	err     error    // of the process or of reading it

	command sync.Mutex
	reloads int
}

// Start builds the host if need be and runs it. The caller must call Close.
func Start(o Options) (*Host, error) {
	program := o.FluentBit
	if program == "" {
		var err error
		if program, err = build(o.Without); err != nil {
			return nil, fmt.Errorf("build the host: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "flbhost")
	if err != nil {
		return nil, err
	}
	h := &Host{options: o, dir: dir}
	h.changed.L = &h.mu
	if err := h.start(program); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return h, nil
}

func (h *Host) start(program string) error {
	h.config = filepath.Join(h.dir, "fluent-bit.conf")
	config, args := h.options.Config, h.options.args(h.config)
	if h.real() {
		config, args = withOutput(config), []string{"-e", h.options.Plugin, "-c", h.config}
	}
	if err := os.WriteFile(h.config, []byte(config), 0o600); err != nil {
		return err
	}
	// A host that a CC built for another processor runs under its emulator.
	emulator := strings.Fields(os.Getenv("FLBHOST_EMULATOR"))
	if len(emulator) > 0 && !h.real() {
		args = append(append(emulator[1:], program), args...)
		program = emulator[0]
	}
	h.cmd = exec.Command(program, args...)
	h.cmd.Env = append(os.Environ(), h.options.Env...)
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := h.cmd.StderrPipe()
	if err != nil {
		return err
	}
	h.stdin = stdin
	if err := h.cmd.Start(); err != nil {
		return err
	}
	go h.follow(stdout, stderr)
	return nil
}

func (h *Host) real() bool { return h.options.FluentBit != "" }

func (o Options) args(config string) []string {
	args := []string{"--plugin", o.Plugin, "--config", config}
	add := func(name, value string, set bool) {
		if set {
			args = append(args, name, value)
		}
	}
	ms := func(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }
	add("--core", o.Core, o.Core != "")
	add("--interval", ms(o.Interval), o.Interval > 0)
	add("--drain", ms(o.Drain), o.Drain > 0)
	add("--tick", ms(o.Tick), o.Tick > 0)
	add("--slow", ms(o.Slow), o.Slow > 0)
	add("--grace", strconv.Itoa(o.Grace), o.Grace > 0)
	add("--ring", strconv.Itoa(o.Ring), o.Ring > 0)
	add("--output-rate", strconv.Itoa(o.OutputRate), o.OutputRate > 0)
	if o.Daemon {
		args = append(args, "--daemon")
	}
	if o.Trace {
		args = append(args, "--trace")
	}
	return args
}

// follow owns the process: it reads both pipes to their end, then reaps it.
func (h *Host) follow(stdout, stderr io.Reader) {
	var logs error
	done := make(chan struct{})
	go func() {
		defer close(done)
		logs = h.readLogs(stderr)
	}()
	read := h.readFrames
	if h.real() {
		read = h.readLines
	}
	frames := read(stdout)
	if frames != nil {
		io.Copy(io.Discard, stdout) // so that the host does not stand still
	}
	<-done
	err := h.cmd.Wait()
	h.change(func(v *View) {
		h.err = errors.Join(err, frames, logs)
		v.Ended = true
	})
}

func (h *Host) change(f func(*View)) {
	h.mu.Lock()
	f(&h.view)
	h.mu.Unlock()
	h.changed.Broadcast()
}

// Look calls f with what was said so far.
func (h *Host) Look(f func(*View)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.view)
}

// Await waits until cond holds, asking it again whenever the host says something. It fails after limit, or when the
// process ended and cond does not hold.
func (h *Host) Await(limit time.Duration, what string, cond func(*View) bool) error {
	expired := false
	timer := time.AfterFunc(limit, func() { h.change(func(*View) { expired = true }) })
	defer timer.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case cond(&h.view):
			return nil
		case h.view.Ended:
			return fmt.Errorf("the host ended (%v) before %s", h.err, what)
		case expired:
			return fmt.Errorf("not within %v: %s", limit, what)
		}
		h.changed.Wait()
	}
}
