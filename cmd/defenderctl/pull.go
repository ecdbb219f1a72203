package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// pullOptions are the flags of pull.
type pullOptions struct {
	config, stanza   string
	tenant, format   string
	since, until, db string
}

// formatHelp names the formats.
const formatHelp = conf.Native + ", " + conf.ECS + ", " + conf.OCSF + " or " + conf.CEF

func (a *app) pullCommand() *cobra.Command {
	var o pullOptions
	c := &cobra.Command{
		Use:   "pull -c FILE --since TIME",
		Short: "Pull the alerts of a span of time as JSON lines",
		Long: "pull asks the service with the credentials and filters of a stanza for what was processed " +
			"(LastProcessedTimeUtc; with api graph\n" +
			"lastUpdateDateTime) from --since up to --until, and writes each alert to standard output " +
			"as a line of JSON: the record that Fluent\n" +
			"Bit would get. It splits the span as the plugin does, " +
			"so that neither limit nor a cap of the service hides anything, and writes no\n" +
			"alert twice. Microsoft Graph has each alert only as it is now: " +
			"one that was updated after --until is not in the span any more.\n\n" +
			"With --db it remembers what was written, and the same command goes on where it ended; " +
			"after a crash the last few seconds may come\n" +
			"again. The file is one of its own, not Fluent Bit's. " +
			"On a terminal, standard error shows how far it is.\n\n" +
			"A TIME is " + momentHelp + ".",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.pull(cmd.Context(), o) },
	}
	c.Flags().StringVarP(&o.config, "config", "c", "", "Fluent Bit's configuration `FILE`, classic or YAML")
	c.Flags().StringVar(&o.stanza, "stanza", "", stanzaHelp)
	c.Flags().StringVar(&o.tenant, "tenant", "", tenantHelp)
	c.Flags().StringVar(&o.format, "format", "", "the `FORMAT` of the records, in place of the stanza's: "+formatHelp)
	c.Flags().StringVar(&o.since, "since", "", "the `TIME` to begin at")
	c.Flags().StringVar(&o.until, "until", "", "the `TIME` to end before (default: now)")
	c.Flags().StringVar(&o.db, "db", "", "remember in this `FILE` what was written, and go on from there")
	return c
}

func (a *app) pull(ctx context.Context, o pullOptions) error {
	if o.since == "" {
		return usagef("no --since is given: %s", momentHelp)
	}
	now := a.now()
	since, err := parseMoment("since", o.since, now)
	if err != nil {
		return err
	}
	until := moment{}
	if o.until != "" {
		if until, err = parseMoment("until", o.until, now); err != nil {
			return err
		}
		if !since.Before(until.Time) {
			return usagef("--until %s is not after --since %s", stamp(until.Time), stamp(since.Time))
		}
	}
	if o.db != "" && (since.relative || until.relative) {
		return usagef("--db needs a --since and --until that stay the same: write them as 2006-01-02T15:04:05Z")
	}
	s, cfg, err := a.oneTenant(o.config, o.stanza, o.tenant)
	if err != nil {
		return err
	}
	if err := ownLogin(cfg); err != nil {
		return fmt.Errorf("stanza %s: %w", s.name, err)
	}
	if o.format != "" {
		if cfg, err = cfg.WithFormat(o.format); err != nil {
			return usagef("--format %s %w", clip(o.format), err)
		}
	}
	span := *cfg
	span.Ago, span.AgoText = 0, ""
	log := a.logger()
	store, err := windowStore(&span, o.db, since, until, log)
	if err != nil {
		return err
	}
	c, err := client.New(&span, append([]client.Option{client.WithLogger(log)}, a.client...)...)
	if err != nil {
		return errors.Join(fmt.Errorf("stanza %s: %w", s.name, err), store.Close())
	}
	source, err := pull.NewSource(&span, c, nil, store, log)
	if err != nil {
		c.Close()
		return errors.Join(err, store.Close())
	}
	return a.once(ctx, pull.NewRunner(pull.OptionsOf(&span, log)), source, since, until)
}

// windowStore remembers what was written of one window: apart from what the plugin remembers in the same file, if it
// is the same.
func windowStore(cfg *conf.Config, db string, since, until moment, log *slog.Logger) (state.Store, error) {
	key := pull.KeyOf(cfg)
	key.API += " pull"
	key.Filters += fmt.Sprintf("&since=%s", since.Format(time.RFC3339Nano))
	if !until.IsZero() {
		key.Filters += fmt.Sprintf("&until=%s", until.Format(time.RFC3339Nano))
	}
	if cfg.Format != conf.Native {
		key.Filters += "&format=" + cfg.Format
	}
	if db == "" {
		return state.OpenMemory(key)
	}
	return state.OpenFile(db, key, log)
}

// once runs the source over the span and writes what comes.
func (a *app) once(ctx context.Context, r *pull.Runner, source *pull.Source, since, until moment) error {
	end := until.Time
	if end.IsZero() {
		end = a.now().Add(24 * time.Hour) // it stops at the service's present
	}
	out := bufio.NewWriterSize(a.out, 64<<10)
	l := newLines(out)
	finish := func() {}
	if a.errTTY {
		stop := make(chan struct{})
		go a.progress(r, stop)
		finish = func() {
			stop <- struct{}{}
			fmt.Fprintf(a.err, "\r\x1b[K%s\n", plural(l.written, "alert"))
		}
	}
	err := r.Once(ctx, source, since.Time, end, func(records []byte) error {
		if err := l.write(records); err != nil {
			return err
		}
		return out.Flush()
	})
	finish()
	// What was written is stored also after Ctrl-C.
	if stopErr := r.Stop(context.WithoutCancel(ctx)); err == nil {
		err = stopErr
	}
	if _, unread := errors.AsType[*pull.UnreadError](err); unread {
		return fmt.Errorf("%w; all else was written, and with --db the same command asks for the rest", err)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("interrupted after %s; with --db the same command goes on from there",
			plural(l.written, "alert"))
	}
	return err
}

// progress shows on a terminal how far it is, until it is told to stop.
func (a *app) progress(r *pull.Runner, stop <-chan struct{}) {
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			s := r.Stats()
			at := "asking"
			if !s.Watermark.IsZero() {
				at = "at " + stamp(s.Watermark)
			}
			fmt.Fprintf(a.err, "\r\x1b[K%s: %s, %s, %s", at,
				plural(s.Delivered+s.Raw, "alert"), plural(s.Asked(), "request"), size(int64(s.BytesRead)))
		}
	}
}
