package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/share"
	"fluent-bit-defender/state"
)

// leaveSharedWithin is the part of an Exit in which what is being taken or given back may come to its end.
const leaveSharedWithin = 500 * time.Millisecond

// pods are this process's places among the pods that share a state: one for each NAME, whatever stanzas have it.
var pods = struct {
	sync.Mutex
	open map[podPlace]*openPod
}{open: map[podPlace]*openPod{}}

type podPlace struct{ kubeconfig, namespace, name string }

type openPod struct {
	*share.Pod
	place    podPlace
	settings share.Settings
	stanzas  int
}

// joinPods returns the place of this process for a stanza, which leaves it by leave. log is that of the first stanza.
func joinPods(cfg *conf.Config, log *slog.Logger) (*openPod, error) {
	namespace, name, _ := cfg.Shared()
	place := podPlace{cfg.Kubeconfig, namespace, name}
	settings := share.Settings{
		Workers: cfg.Workers, LeaseDuration: cfg.LeaseDuration, TakeoverOverlap: cfg.TakeoverOverlap,
	}
	pods.Lock()
	defer pods.Unlock()
	p := pods.open[place]
	switch {
	case p == nil:
		api, err := openKubernetes(place, settings)
		if err != nil {
			return nil, fmt.Errorf("db %s: %w", cfg.DB, err)
		}
		sources := &share.Sources{API: api, Name: name, Identity: podIdentity(), Log: log}
		p = &openPod{Pod: share.New(sources, settings), place: place, settings: settings}
		pods.open[place] = p
	case p.settings != settings:
		return nil, fmt.Errorf("db %s: another stanza has it with other workers, "+
			"lease_duration or takeover_overlap: give both the same", cfg.DB)
	}
	p.stanzas++
	return p, nil
}

func (p *openPod) leave() {
	pods.Lock()
	p.stanzas--
	last := p.stanzas == 0
	if last {
		delete(pods.open, p.place)
	}
	pods.Unlock()
	if last {
		p.Close()
	}
}

// podIdentity is the pod's name and a part that is new at each start, so that no pod takes itself for the one that it
// was before.
func podIdentity() string {
	host, _ := os.Hostname()
	return cmp.Or(os.Getenv("POD_NAME"), host) + "_" + rand.Text()[:8] // only people read the name
}

// shared is a stanza whose sources are pulled by one of several pods. It is the share.Puller of those that are pulled
// here.
type shared struct {
	stanza *stanza
	pod    *openPod
	handle *share.Stanza

	mu   sync.Mutex
	cfgs map[state.Key]*conf.Config
}

// newShared takes the stanza's place among the pods. Nothing is pulled before join.
func newShared(s *stanza) (*shared, error) {
	pod, err := joinPods(s.conf.Config, s.log)
	if err != nil {
		return nil, err
	}
	return &shared{stanza: s, pod: pod, cfgs: map[state.Key]*conf.Config{}}, nil
}

// join begins to share the work.
func (s *shared) join(cfgs []*conf.Config) (err error) {
	s.handle, err = s.pod.Join(s, s.configure(cfgs))
	return err
}

// configure sets what the tenants are, and returns their keys.
func (s *shared) configure(cfgs []*conf.Config) (keys []state.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.cfgs)
	for _, cfg := range cfgs {
		s.cfgs[pull.KeyOf(cfg)] = cfg
		keys = append(keys, pull.KeyOf(cfg))
	}
	return keys
}

func (s *shared) all() (cfgs []*conf.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cfg := range s.cfgs {
		cfgs = append(cfgs, cfg)
	}
	return cfgs
}

// apply does what a changed file of tenants asks for.
func (s *shared) apply(d conf.Difference) (failed []*conf.Config) {
	gone := map[state.Key]bool{}
	for _, cfg := range d.Stop {
		gone[pull.KeyOf(cfg)] = true
	}
	for _, r := range d.Change {
		gone[pull.KeyOf(r.Old)] = true
	}
	var cfgs []*conf.Config
	for _, cfg := range s.all() {
		if !gone[pull.KeyOf(cfg)] {
			cfgs = append(cfgs, cfg)
		}
	}
	for _, r := range d.Change {
		cfgs = append(cfgs, r.New)
	}
	cfgs = append(cfgs, d.Begin...)
	before := s.all()
	if err := s.handle.Configure(s.configure(cfgs)); err != nil {
		s.stanza.log.Error(fmt.Sprintf("the changed tenants_file cannot be used: %v; "+
			"this is tried again every minute", err))
		s.configure(before)
		for _, r := range d.Change {
			failed = append(failed, r.New)
		}
		return append(failed, d.Begin...)
	}
	for _, r := range d.Change {
		s.handle.Renew(pull.KeyOf(r.New))
	}
	return nil
}

// Add is called when this pod has become the owner of a source.
func (s *shared) Add(key state.Key, st *share.Store) error {
	s.mu.Lock()
	cfg := s.cfgs[key]
	s.mu.Unlock()
	if cfg == nil { // it has gone from the file meanwhile
		return errors.Join(fmt.Errorf("no tenant has the state %s any more", key), st.Close())
	}
	return s.stanza.beginWith(cfg, st)
}

// Remove is called when this pod gives a source back, or has lost it.
func (s *shared) Remove(ctx context.Context, key state.Key) error { return s.stanza.remove(ctx, key) }

// leave ends the taking of sources. Those that are pulled here are given back when the runner stops.
func (s *shared) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveSharedWithin)
	defer cancel()
	s.handle.Leave(ctx)
}
