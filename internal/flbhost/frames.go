package flbhost

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const maxLogs = 100_000 // lines kept; then the older half goes

// View is what a host has said so far. It is read under the host's lock: inside Await and Look only.
type View struct {
	Records []Record // empty when Options.OnRecord takes them
	Logs    []Log
	// Events: "started", "start-failed", "paused NAME", "resumed NAME", "dropped NAME BYTES" (ring full), "refused NAME
	// BYTES" (appended while paused), "lost NAME N" (left in the ring at exit), "exited NAME MS", "reloaded",
	// "reload-halted", "reload-aborted", "stopped".
	Events []string
	Calls  []string // with Options.Trace: every call into the plugin but for the callbacks
	Sins   []string // what the plugin did wrong
	Ended  bool     // the process is gone
	Count  int      // records so far, OnRecord or not
}

// Log is a line of the host's stderr. Level is "" for a line that is not of Fluent Bit's log form.
type Log struct{ Level, Text string }

var logForm = regexp.MustCompile(`^\[[0-9/]{10} [0-9:.]+\] \[ *(\w+)\] (.*)$`)

// HasLog reports whether some line of this level ("" for any) holds text.
func (v *View) HasLog(level, text string) bool { return v.CountLogs(level, text) > 0 }

// CountLogs counts the lines of this level ("" for any) that hold text.
func (v *View) CountLogs(level, text string) int {
	n := 0
	for _, l := range v.Logs {
		if (level == "" || l.Level == level) && strings.Contains(l.Text, text) {
			n++
		}
	}
	return n
}

// HasEvent reports whether this event came.
func (v *View) HasEvent(event string) bool { return slices.Contains(v.Events, event) }

// EventsOf returns the events that begin with this word.
func (v *View) EventsOf(word string) []string {
	var found []string
	for _, e := range v.Events {
		if first, _, _ := strings.Cut(e, " "); first == word {
			found = append(found, e)
		}
	}
	return found
}

func (h *Host) readFrames(r io.Reader) error {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF && line == "" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("a frame is cut: %w", err)
		}
		kind, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			return fmt.Errorf("not a frame: %q", line)
		}
		if kind == "C" {
			if err := h.readChunk(in, text); err != nil {
				return err
			}
			continue
		}
		h.change(func(v *View) {
			switch kind {
			case "E":
				v.Events = append(v.Events, text)
			case "S":
				v.Sins = append(v.Sins, text)
			case "T":
				v.Calls = append(v.Calls, text)
			case "M":
				h.metrics = append(h.metrics, text)
			case "R":
				h.replies = append(h.replies, text)
			}
		})
	}
}

func (h *Host) readChunk(in io.Reader, head string) error {
	parts := strings.Split(head, "\t")
	if len(parts) != 3 {
		return fmt.Errorf("not a chunk's head: %q", head)
	}
	size, err := strconv.Atoi(parts[2])
	if err != nil {
		return err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(in, data); err != nil {
		return fmt.Errorf("a chunk is cut: %w", err)
	}
	records, err := Decode(parts[0], parts[1], data)
	if h.options.OnRecord != nil {
		for _, r := range records {
			h.options.OnRecord(r)
		}
	}
	h.change(func(v *View) {
		v.Count += len(records)
		if h.options.OnRecord == nil {
			v.Records = append(v.Records, records...)
		}
		if err != nil {
			v.Sins = append(v.Sins, err.Error())
		}
	})
	return nil
}

func (h *Host) readLogs(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			line = strings.TrimSuffix(line, "\n")
			if h.options.Stderr != nil {
				fmt.Fprintln(h.options.Stderr, line)
			}
			l := Log{Text: line}
			if m := logForm.FindStringSubmatch(line); m != nil {
				l = Log{m[1], m[2]}
			}
			h.change(func(v *View) {
				if len(v.Logs) == maxLogs {
					v.Logs = slices.Delete(v.Logs, 0, maxLogs/2)
				}
				v.Logs = append(v.Logs, l)
				if h.real() {
					h.realEvent(v, l)
				}
			})
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
