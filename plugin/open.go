package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unsafe"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/plugin/flb"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// startWithin is how long after its Exit Init waits for a runner that outlived it. Its last commit waits for a disk, which may well be slow for
// seconds, and a stanza that is refused at a reload ends Fluent Bit. Nothing else of Fluent Bit runs meanwhile; it sets no limit to an Init.
const startWithin = 30 * time.Second

// errHeld: a runner that outlived its Exit has the state of the stanza.
var errHeld = errors.New("what ran before the reload holds the state")

// open makes an instance of the stanza that Init is called for and starts it. False: it was told why, and nothing is left.
func open(plugin unsafe.Pointer) bool {
	core := flb.Attach(plugin, kind, instances.count())
	log := core.Log().Logger()
	token := instances.reserve()
	old := !core.SetToken(token)
	if old && len(instances.of(core.Thread())) > 0 {
		log.Error("this Fluent Bit cannot tell apart several stanzas that share a thread; leave out `threaded off`, or use Fluent Bit 4.1 or later")
		core.Log().Close()
		return false
	}
	r, key, err := build(func(key string) string { return flb.Property(plugin, key) }, log)
	if err != nil {
		report(log, err)
		core.Log().Close()
		return false
	}
	m := newMeter(core, log, time.Now(), r.Stats())
	instances.add(&instance{lines: core.Log(), log: log, engine: r, meter: m, state: key, old: old}, core.Thread(), token)
	r.Start()
	core.Log().Flush()
	return true
}

// report prints an error of build, each fault of the stanza on a line of its own.
func report(log *slog.Logger, err error) {
	if errors.Is(err, errHeld) {
		log.Error(fmt.Sprintf("what ran before the reload has not ended within %s and still holds the state of this stanza: a disk or network share hangs; "+
			"look at those of db and of the credential's file, and start Fluent Bit again", startWithin))
		return
	}
	var faults conf.Faults
	if !errors.As(err, &faults) {
		log.Error(err.Error())
		return
	}
	for _, f := range faults {
		log.Error(f.Error())
	}
}

// build makes the runner of a stanza, whose state has the key. On an error nothing is left open.
func build(get func(key string) string, log *slog.Logger) (*pull.Runner, state.Key, error) {
	cfg, err := conf.Load(get)
	if err != nil {
		return nil, state.Key{}, err
	}
	key := pull.KeyOf(cfg)
	r, err := buildFor(cfg, key, log)
	return r, key, err
}

func buildFor(cfg *conf.Config, key state.Key, log *slog.Logger) (*pull.Runner, error) {
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	if !instances.await(startWithin) {
		if instances.left(key) {
			return nil, errHeld
		}
		log.Warn(fmt.Sprintf("a stanza that ran before the reload has not ended within %s: a disk or network share hangs; "+
			"look at those of its db and its credential's file; this stanza has another state, and starts", startWithin))
	}
	store, err := openState(cfg, key, log)
	if err != nil {
		return nil, err
	}
	c, err := client.New(cfg, client.WithLogger(log))
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	source, err := pull.NewSource(cfg, c, store, log)
	if err != nil {
		c.Close()
		return nil, errors.Join(err, store.Close())
	}
	r := pull.NewRunner(pull.OptionsOf(cfg, log))
	if err := r.Add(source); err != nil {
		c.Close()
		return nil, errors.Join(err, store.Close())
	}
	where := cfg.DB
	if where == "" {
		where = "memory"
	}
	filters := cfg.Filters()
	if filters == "" {
		filters = "none"
	}
	log.Info(fmt.Sprintf("pulling %s alerts of tenant %s", cfg.API, cfg.TenantID), "place", cfg.Place(), "filters", filters,
		"every", cfg.PollInterval, "state", where, "version", client.Version)
	return r, nil
}

func openState(cfg *conf.Config, key state.Key, log *slog.Logger) (state.Store, error) {
	if cfg.DB == "" {
		return state.OpenMemory(key)
	}
	return state.OpenFile(cfg.DB, key, log)
}
