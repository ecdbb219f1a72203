package flbhost

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// send gives a command and waits for its reply.
func (h *Host) send(line string) (string, error) {
	if h.real() {
		return "", errNotReal
	}
	h.command.Lock()
	defer h.command.Unlock()
	h.change(func(*View) { h.replies = nil })
	if _, err := io.WriteString(h.stdin, line+"\n"); err != nil {
		return "", err
	}
	var answer string
	err := h.Await(30*time.Second, "a reply to "+line, func(*View) bool {
		if len(h.replies) > 0 {
			answer = h.replies[0]
		}
		return answer != ""
	})
	return answer, err
}

func (h *Host) order(line string) error {
	answer, err := h.send(line)
	if err == nil && !strings.HasSuffix(answer, " ok") {
		err = fmt.Errorf("%s: %s", line, answer)
	}
	return err
}

// Pause does what passing mem_buf_limit does to this instance: its Pause is called, the collector of the LAST
// instance stops, and its ring is not drained until Resume.
func (h *Host) Pause(instance string) error { return h.order("pause " + instance) }

// Resume ends Pause.
func (h *Host) Resume(instance string) error { return h.order("resume " + instance) }

// Busy keeps the engine from draining any ring, and Idle lets it go on.
func (h *Host) Busy() error { return h.order("busy") }

// Idle ends Busy.
func (h *Host) Idle() error { return h.order("idle") }

// Reload is a hot reload with this configuration. It waits until the new stanzas run.
func (h *Host) Reload(config string, limit time.Duration) error {
	h.reloads++
	before := 0
	count := func(v *View) int { return len(v.EventsOf("reloaded")) + len(v.EventsOf("reload-halted")) }
	h.Look(func(v *View) { before = count(v) })
	if err := h.startReload(config); err != nil {
		return err
	}
	halted := false
	err := h.Await(limit, "a reload", func(v *View) bool {
		n := len(v.Events)
		halted = n > 0 && v.Events[n-1] == "reload-halted"
		return count(v) > before
	})
	if err == nil && halted {
		err = errors.New("the reload was halted: the new configuration is invalid")
	}
	return err
}

func (h *Host) startReload(config string) error {
	if h.real() {
		return h.reloadReal(config)
	}
	path := filepath.Join(h.dir, fmt.Sprintf("reload%d.conf", h.reloads))
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	_, err := io.WriteString(h.stdin, "reload "+path+"\n")
	return err
}

// Stats are measured from inside the process.
type Stats struct {
	RSS          int64 // bytes
	Threads, FDs int
	Ring         int // appends that wait in ring buffers
}

// Stats asks for them.
func (h *Host) Stats() (Stats, error) {
	answer, err := h.send("stats")
	if err != nil {
		return Stats{}, err
	}
	var s Stats
	_, err = fmt.Sscanf(answer, "stats %d %d %d %d", &s.RSS, &s.Threads, &s.FDs, &s.Ring)
	return s, err
}

// Pid is that of the process started; with Daemon its child runs the plugin.
func (h *Host) Pid() int { return h.cmd.Process.Pid }

// Signal sends one to the process.
func (h *Host) Signal(sig os.Signal) error { return h.cmd.Process.Signal(sig) }

// Stop asks the host to end as SIGTERM does and waits for it. The error of the process comes back, nil for status 0.
func (h *Host) Stop(limit time.Duration) error {
	var err error
	if h.real() {
		err = h.Signal(syscall.SIGTERM)
	} else {
		_, err = io.WriteString(h.stdin, "stop\n")
	}
	if err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrProcessDone) && !h.ended() {
		return err
	}
	return h.Wait(limit)
}

func (h *Host) ended() (ended bool) {
	h.Look(func(v *View) { ended = v.Ended })
	return ended
}

// Wait waits for the process to end by itself.
func (h *Host) Wait(limit time.Duration) error {
	if err := h.Await(limit, "the end of the host", func(v *View) bool { return v.Ended }); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// ExitCode is the process's, -1 while it runs or when a signal ended it.
func (h *Host) ExitCode() int {
	if !h.ended() {
		return -1
	}
	return h.cmd.ProcessState.ExitCode()
}

// Kill is kill -9, waited for.
func (h *Host) Kill() error {
	if err := h.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	h.Wait(10 * time.Second)
	return nil
}

// Close kills what still runs and removes the host's files.
func (h *Host) Close() {
	h.Kill()
	h.stdin.Close()
	os.RemoveAll(h.dir)
}
