package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// warnings is a slog handler for people: "warning: the message key=value" or "error: ...", and nothing below.
type warnings struct {
	mu    *sync.Mutex
	out   io.Writer
	attrs string
}

// logger tells on standard error what the packages below warn of.
func (a *app) logger() *slog.Logger { return slog.New(warnings{mu: &sync.Mutex{}, out: a.err}) }

func (w warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (w warnings) Handle(_ context.Context, r slog.Record) error {
	text := "warning: "
	if r.Level >= slog.LevelError {
		text = "error: "
	}
	text += oneLine(r.Message) + w.attrs
	r.Attrs(func(at slog.Attr) bool {
		text += attrText(at)
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := fmt.Fprintln(w.out, text)
	return err
}

func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, at := range attrs {
		w.attrs += attrText(at)
	}
	return w
}

func (w warnings) WithGroup(string) slog.Handler { return w }

func attrText(at slog.Attr) string { return fmt.Sprintf(" %s=%s", at.Key, oneLine(at.Value.String())) }
