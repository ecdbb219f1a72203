package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
	"fluent-bit-defender/tenants"
)

// mostStopping is how many tenants are stopped or changed at once: each waits some seconds until what was delivered
// is durable.
const mostStopping = 32

// stanza is what runs behind an instance: a runner with the source of its tenant, or with those of its tenants_file,
// which it follows.
type stanza struct {
	*pull.Runner
	conf   *conf.Stanza
	log    *slog.Logger
	gather *pull.Gatherer // nil: one tenant
	stop   context.CancelFunc
	shared *shared // nil: all tenants are pulled here

	watching sync.WaitGroup

	mu   sync.Mutex
	keys map[state.Key]bool // of what is open
}

// load reads a stanza with its tenants. Nothing is open yet.
func load(get func(key string) string, log *slog.Logger) (*stanza, []*conf.Config, error) {
	whole, cfgs, err := tenants.Load(get, os.Getenv)
	if err != nil {
		return nil, nil, err
	}
	s := &stanza{conf: whole, log: log, stop: func() {}, keys: map[state.Key]bool{}}
	if whole.TenantsFile != "" {
		// Each tenant is asked once within a poll and its jitter.
		s.gather = pull.NewGatherer(log, min(whole.PollInterval*11/10+5*time.Second, 75*time.Second))
	}
	return s, cfgs, nil
}

// open begins with the tenants, all of them or none.
func (s *stanza) open(cfgs []*conf.Config) error {
	for _, w := range s.conf.Warnings() {
		s.log.Warn(w)
	}
	opt := pull.OptionsOf(s.conf.Config, s.log)
	here := cfgs
	if _, _, ok := s.conf.Config.Shared(); ok {
		shared, err := newShared(s)
		if err != nil {
			return err
		}
		s.shared, opt.Fence = shared, shared.pod.Fence
		here = nil // join begins, with those that become this pod's
	}
	s.Runner = pull.NewRunner(opt)
	for _, cfg := range here {
		if err := s.begin(cfg); err != nil {
			if s.gather != nil {
				err = fmt.Errorf("tenant %s: %w", cfg.Label(), err)
			}
			return errors.Join(err, s.Runner.Stop(context.Background()))
		}
	}
	s.announce(cfgs)
	return nil
}

func (s *stanza) announce(cfgs []*conf.Config) {
	where := cmp.Or(s.conf.DB, "memory")
	if s.gather != nil {
		s.log.Info(fmt.Sprintf("pulling alerts of %d tenants", len(cfgs)),
			"tenants_file", s.conf.TenantsFile, "every", s.conf.PollInterval, "parallel", s.conf.Parallel,
			"state", where, "version", client.Version)
		return
	}
	cfg := cfgs[0]
	s.log.Info(fmt.Sprintf("pulling %s alerts of tenant %s", cfg.API, cfg.TenantID),
		"place", cfg.Place(), "filters", cmp.Or(cfg.Filters(), "none"), "every", cfg.PollInterval,
		"state", where, "version", client.Version)
}

// begin opens what one tenant needs and adds its source to the runner. After an error nothing of it is open.
func (s *stanza) begin(cfg *conf.Config) error {
	store, err := openState(cfg, s.log)
	if err != nil {
		return err
	}
	return s.beginWith(cfg, store)
}

// beginWith is begin with a store that is open. After an error that is closed too.
func (s *stanza) beginWith(cfg *conf.Config, store state.Store) error {
	log := s.log
	if s.gather != nil {
		log = s.gather.Logger(cfg.Label(), cfg.TenantID)
	}
	var clients [2]*client.Client // of the API and its successor
	var err error
	for i, cfg := range []*conf.Config{cfg, cfg.Successor} {
		if cfg != nil && err == nil {
			clients[i], err = client.New(cfg, client.WithLogger(log))
		}
	}
	if err == nil {
		var source *pull.Source
		if source, err = pull.NewSource(cfg, clients[0], clients[1], store, log); err == nil {
			err = s.Runner.Add(source)
		}
	}
	if err != nil {
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
		return errors.Join(err, store.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[pull.KeyOf(cfg)] = true
	return nil
}

// end stops one tenant. What was delivered last is made durable before.
func (s *stanza) end(ctx context.Context, cfg *conf.Config) {
	if err := s.remove(ctx, pull.KeyOf(cfg)); err != nil {
		s.log.Warn(fmt.Sprintf("stopping tenant %s: %v; "+
			"what was delivered last may come again when it comes back", cfg.Label(), err))
	}
}

func (s *stanza) remove(ctx context.Context, key state.Key) error {
	err := s.Runner.Remove(ctx, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
	return err
}

// start begins to pull, and to follow the file of tenants.
func (s *stanza) start(cfgs []*conf.Config) {
	s.Runner.Start()
	if s.shared != nil {
		if err := s.shared.join(cfgs); err != nil {
			s.log.Error(err.Error())
		}
	}
	if s.gather == nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	watcher := tenants.NewWatcher(s.conf, cfgs, s.apply, s.log)
	s.watching.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				s.log.Error(fmt.Sprintf("internal error while following tenants_file: %v; "+
					"its tenants stay as they are until a restart; please report this: %s", p, debug.Stack()))
			}
		}()
		watcher.Run(ctx)
	})
}

// apply does what a changed file of tenants asks for.
func (s *stanza) apply(ctx context.Context, d conf.Difference) (failed []*conf.Config) {
	if s.shared != nil {
		return s.shared.apply(d)
	}
	var mu sync.Mutex
	begin := func(cfg *conf.Config) {
		if ctx.Err() != nil {
			return
		}
		if err := s.begin(cfg); err != nil {
			s.gather.Logger(cfg.Label(), cfg.TenantID).Error(fmt.Sprintf("cannot begin: %v; "+
				"this is tried again every minute", err))
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, cfg)
		}
	}
	var todo []func()
	for _, cfg := range d.Stop {
		todo = append(todo, func() { s.end(ctx, cfg) })
	}
	for _, r := range d.Change {
		todo = append(todo, func() {
			s.end(ctx, r.Old)
			begin(r.New)
		})
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, mostStopping)
	for _, f := range todo {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			f()
		})
	}
	running.Wait()
	for _, cfg := range d.Begin { // behind what stopped: other filters of a tenant go on from there
		begin(cfg)
	}
	return failed
}

// Stop ends all.
func (s *stanza) Stop(ctx context.Context) error {
	s.stop()
	s.watching.Wait()
	if s.shared != nil {
		s.shared.leave()
	}
	err := s.Runner.Stop(ctx)
	if s.shared != nil {
		s.shared.pod.leave()
	}
	if s.gather != nil {
		s.gather.Close()
	}
	return err
}

// holds are the keys of what is open.
func (s *stanza) holds() []state.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.keys))
}

func openState(cfg *conf.Config, log *slog.Logger) (state.Store, error) {
	if cfg.DB == "" {
		return state.OpenMemory(pull.KeyOf(cfg))
	}
	return state.OpenFile(cfg.DB, pull.KeyOf(cfg), log)
}
