package flb

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	queueLines = 256  // lines of other threads that wait for the instance's
	lineBytes  = 3900 // the core cuts a line at 4088 bytes, its own header included
)

// Log takes lines from any goroutine and prints them on the instance's own thread, because only from there do they
// reach Fluent Bit's log: what other threads print goes to stderr alone. A line of that thread is printed at once,
// after those that wait. The queue is bounded: what does not fit is counted, and told when there is room again.
type Log struct {
	prefix string
	level  slog.Level
	thread int

	mu      sync.Mutex
	print   func(slog.Level, string) // nil: the core cannot print, or the instance is gone
	lines   []line
	dropped int

	stderr io.Writer
	self   func() int
}

type line struct {
	level slog.Level
	text  string
}

func newLog(prefix string, level slog.Level, thread int, print func(slog.Level, string)) *Log {
	return &Log{prefix: prefix, level: level, thread: thread, print: print, stderr: os.Stderr, self: ThreadID}
}

// Detached is a log without a core, as on one that cannot print: its lines go to stderr.
func Detached() *Log { return newLog("", slog.LevelInfo, ThreadID(), nil) }

// Logger is a slog logger over l. Attributes follow the message as key=value.
func (l *Log) Logger() *slog.Logger { return slog.New(handler{log: l}) }

// Flush prints what waits. It must be called on the instance's thread.
func (l *Log) Flush() {
	l.mu.Lock()
	print, lines, dropped := l.print, l.lines, l.dropped
	l.lines, l.dropped = nil, 0
	l.mu.Unlock()
	// Printed without the lock, so that no goroutine waits for the core's log.
	for _, line := range lines {
		l.write(print, line)
	}
	if dropped > 0 {
		text := fmt.Sprintf("%d log lines were dropped: %d waited already for the next callback", dropped, queueLines)
		l.write(print, line{slog.LevelWarn, text})
	}
}

// Close prints what waits and lets go of the core. What is logged later goes to stderr.
func (l *Log) Close() {
	l.Flush()
	l.mu.Lock()
	l.print = nil
	l.mu.Unlock()
}

func (l *Log) add(n line) {
	own := l.self() == l.thread
	l.mu.Lock()
	print := l.print
	queued := print != nil && !own
	if queued {
		if len(l.lines) < queueLines {
			l.lines = append(l.lines, n)
		} else {
			l.dropped++
		}
	}
	l.mu.Unlock()
	if !queued {
		if own {
			l.Flush()
		}
		l.write(print, n)
	}
}

func (l *Log) write(print func(slog.Level, string), n line) {
	if print == nil {
		fmt.Fprintf(l.stderr, "[%s] %s%s\n", strings.ToLower(n.level.String()), l.prefix, n.text)
		return
	}
	print(n.level, l.prefix+n.text)
}

// handler renders a record to one line of text.
type handler struct {
	log   *Log
	attrs string // rendered already
	group string // prefix of keys, with its dot
}

func (h handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.log.level }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		render(&b, h.group, a)
		return true
	})
	h.log.add(line{r.Level, clean(b.String())})
	return nil
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		render(&b, h.group, a)
	}
	h.attrs += b.String()
	return h
}

func (h handler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.group += name + "."
	}
	return h
}

func render(b *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inner := range v.Group() {
			render(b, group, inner)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	text := v.String()
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' }) {
		text = strconv.Quote(text)
	}
	b.WriteString(" " + group + a.Key + "=" + text)
}

// clean makes one line of any text: it could otherwise pass for lines of its own, or end a C string early.
func clean(s string) string {
	if len(s) > lineBytes {
		cut := lineBytes
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// number is a level as the core counts: 1 is an error and 5 a trace, with four of slog's levels from one to the next.
func number(level slog.Level) int { return min(max((15-int(level))/4, 1), 5) }

// levelOf is the lowest level to log when the core's highest is n; 0 is off.
func levelOf(n int) slog.Level { return slog.Level(12 - 4*n) }
