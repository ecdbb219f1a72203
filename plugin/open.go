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

// startWithin is how long Init waits for an engine that outlived its Exit: as long as for a locked state file.
const startWithin = 5 * time.Second

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
	if !instances.await(startWithin) {
		log.Warn(fmt.Sprintf("what ran before the reload has not ended within %s; starting all the same, so some alerts may come twice; if it repeats, report it with a log at debug", startWithin))
	}
	e, err := build(func(key string) string { return flb.Property(plugin, key) }, log)
	if err != nil {
		report(log, err)
		core.Log().Close()
		return false
	}
	m := newMeter(core, log, time.Now(), e.Stats())
	instances.add(&instance{lines: core.Log(), log: log, engine: e, meter: m, old: old}, core.Thread(), token)
	e.Start()
	core.Log().Flush()
	return true
}

// report prints an error of build, each fault of the stanza on a line of its own.
func report(log *slog.Logger, err error) {
	var faults conf.Faults
	if !errors.As(err, &faults) {
		log.Error(err.Error())
		return
	}
	for _, f := range faults {
		log.Error(f.Error())
	}
}

// build makes the engine of a stanza. On an error nothing is left open.
func build(get func(key string) string, log *slog.Logger) (*pull.Engine, error) {
	cfg, err := conf.Load(get)
	if err != nil {
		return nil, err
	}
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	store, err := openState(cfg, log)
	if err != nil {
		return nil, err
	}
	c, err := client.New(cfg, client.WithLogger(log))
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	e, err := pull.New(cfg, c, store, log)
	if err != nil {
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
	return e, nil
}

func openState(cfg *conf.Config, log *slog.Logger) (state.Store, error) {
	key := state.Key{API: cfg.API, Place: cfg.Place(), Tenant: cfg.TenantID, Filters: cfg.Filters()}
	if cfg.DB == "" {
		return state.OpenMemory(key)
	}
	return state.OpenFile(cfg.DB, key, log)
}
