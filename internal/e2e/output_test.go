package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// output is what the file output has written for a tag, read as far as its last whole line.
type output struct {
	size  int64
	lines []string
	keys  map[string]int // times each alert came, by its key
}

// output reads on where it stopped before.
func (f *fluentBit) output(tag string) *output {
	f.t.Helper()
	o := f.outputs[tag]
	if o == nil {
		o = &output{keys: map[string]int{}}
		f.outputs[tag] = o
	}
	file, err := os.Open(filepath.Join(f.out(), tag))
	if errors.Is(err, os.ErrNotExist) {
		return o
	}
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, o.size, 1<<62))
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is still being written
		}
		key, err := keyOf(line)
		if err != nil {
			f.t.Fatal(err)
		}
		o.size += int64(len(line))
		o.lines = append(o.lines, string(line))
		o.keys[key]++
	}
	return o
}

// lines are the records that the file output wrote for a tag.
func (f *fluentBit) lines(tag string) []string { return f.output(tag).lines }

// arrived counts them by their alert's key.
func (f *fluentBit) arrived(tag string) map[string]int { return f.output(tag).keys }

// awaitAll waits until the file output of a tag has every alert that is due, then checks that it has each once.
func (f *fluentBit) awaitAll(limit time.Duration, tag string, due []defendersim.Row) {
	f.t.Helper()
	f.await(limit, fmt.Sprintf("all %d alerts of %s", len(due), tag),
		func() bool { return missing(due, f.arrived(tag)) == 0 })
	exactly(f.t, tag, due, f.arrived(tag))
}

func keyOf(line []byte) (string, error) {
	var r struct { // nothing else is asked for: there are tens of thousands of them
		FullID    any `json:"FullId"`
		AlertID   any `json:"AlertId"`
		Part      any `json:"AlertPart"`
		Processed any `json:"LastProcessedTimeUtc"`
		ID        any `json:"id"`
		Updated   any `json:"lastUpdateDateTime"`
		Raw       any `json:"raw"`
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return "", fmt.Errorf("not a record: %w: %s", err, line)
	}
	if r.Updated != nil {
		return defendersim.GraphKeyOf(map[string]any{"id": r.ID, "raw": r.Raw, "lastUpdateDateTime": r.Updated}), nil
	}
	return defendersim.KeyOf(map[string]any{"FullId": r.FullID, "AlertId": r.AlertID, "AlertPart": r.Part,
		"LastProcessedTimeUtc": r.Processed, "raw": r.Raw}), nil
}

// sink is the server behind an http output. It notes when each record came, and answers only while it is not held.
// While it refuses it takes nothing.
type sink struct {
	t    *testing.T
	host string
	port string

	mu      sync.Mutex
	came    map[string][]time.Time
	held    chan struct{} // nil: answer at once
	refuses bool
	refused int // requests
}

// newSink starts a sink that lives as long as the test. Make it before the Fluent Bit that uses it.
func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{t: t, came: map[string][]time.Time{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(s.release)
	var err error
	if s.host, s.port, err = net.SplitHostPort(server.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return s
}

// output is the section of an http output that sends a tag here.
func (s *sink) output(tag string) string {
	return fmt.Sprintf("[OUTPUT]\n    name http\n    match %s\n    host %s\n    port %s\n    format json_lines\n"+
		"    json_date_key date\n    retry_limit no_limits\n", tag, s.host, s.port)
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed: it will send all of it again
	}
	now := time.Now()
	s.mu.Lock()
	if s.refuses {
		s.refused++
		s.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for line := range bytes.Lines(body) {
		key, err := keyOf(line)
		if err != nil {
			s.t.Error(err)
			continue
		}
		s.came[key] = append(s.came[key], now)
	}
	held := s.held
	s.mu.Unlock()
	if held != nil {
		<-held
	}
}

// hold keeps the answers to all that comes from now on until release.
func (s *sink) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = make(chan struct{})
	}
}

func (s *sink) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		close(s.held)
		s.held = nil
	}
}

// refuse says whether to refuse what comes from now on. It returns how many requests were refused so far.
func (s *sink) refuse(refuses bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = refuses
	return s.refused
}

// arrived counts the records that came by their alert's key.
func (s *sink) arrived() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := map[string]int{}
	for key, came := range s.came {
		keys[key] = len(came)
	}
	return keys
}

// times returns when each record came, in order.
func (s *sink) times() map[string][]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string][]time.Time{}
	for key, came := range s.came {
		all[key] = came[:len(came):len(came)]
	}
	return all
}

// after returns when the first record came after t; false when none has yet.
func (s *sink) after(t time.Time) (first time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, came := range s.came {
		if last := came[len(came)-1]; last.After(t) && (!ok || last.Before(first)) {
			first, ok = last, true
		}
	}
	return first, ok
}
