package share

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// engine is what pulls in a process: the plugin's runner, and the Fluent Bit around it.
type engine struct {
	*pull.Runner
	pod    *simPod
	log    *slog.Logger
	paused chan struct{} // closed: Fluent Bit asks for nothing any more
	gone   chan struct{} // closed: nor will it
}

func newEngine(p *simPod, log *slog.Logger) *engine {
	opt := pull.OptionsOf(p.h.cfgs[0], log)
	opt.Fence = p.pod.Fence
	e := &engine{Runner: pull.NewRunner(opt), pod: p, log: log, paused: make(chan struct{}), gone: make(chan struct{})}
	e.Start()
	go e.core()
	return e
}

// core takes what there is each second, and more often from a process that was frozen or cut off: it may not know yet
// what others did meanwhile.
func (e *engine) core() {
	defer close(e.gone)
	for {
		every := time.Second
		if e.pod.returned() {
			every = 10 * time.Millisecond
		}
		wait(context.Background(), e.paused, every)
		select {
		case <-e.paused:
			return
		default:
		}
		for e.pod.thaw() {
			b := e.Take()
			if b == nil {
				break
			}
			e.pod.deliver(b.Data)
			e.Done(b)
		}
	}
}

// returned tells whether p has been well again for a moment only.
func (p *simPod) returned() bool {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	return slices.ContainsFunc(p.trouble, func(s span) bool {
		since := time.Since(s.to)
		return since >= 0 && since < 5*time.Second
	})
}

// deliver notes what the records of a batch are.
func (p *simPod) deliver(batch []byte) {
	h := p.h
	for dec := msgpack.NewDecoder(bytes.NewReader(bytes.Clone(batch))); ; {
		fields, err := nextRecord(dec)
		if errors.Is(err, io.EOF) {
			return
		}
		which, known := h.byKey[defendersim.KeyOf(fields)]
		if err != nil || !known {
			h.failf("%s delivered what is no alert: %v, %v", p.id, fields, err)
		}
		h.mu.Lock()
		h.delivered = append(h.delivered, delivery{source: which[0], n: which[1], at: time.Now(), pod: p})
		h.mu.Unlock()
	}
}

// nextRecord reads a record to its end, and of its fields what KeyOf asks for.
func nextRecord(dec *msgpack.Decoder) (map[string]any, error) {
	if n, err := dec.DecodeArrayLen(); err != nil || n != 2 {
		return nil, cmp.Or(err, fmt.Errorf("a record of %d", n))
	}
	if err := dec.Skip(); err != nil {
		return nil, err
	}
	n, err := dec.DecodeMapLen()
	fields := map[string]any{}
	for range n {
		key, err := dec.DecodeString()
		if err != nil {
			return nil, err
		}
		switch key {
		case "FullId", "AlertId", "AlertPart", "LastProcessedTimeUtc", "raw":
			fields[key], err = dec.DecodeInterface()
		default:
			err = dec.Skip()
		}
		if err != nil {
			return nil, err
		}
	}
	return fields, err
}

// Add and Remove are those of the plugin's Puller.
func (e *engine) Add(key state.Key, st *Store) error {
	h := e.pod.h
	i := slices.Index(h.sources, key)
	h.note("source %d: %s begins", i, e.pod.id)
	c, err := client.New(h.cfgs[i], client.WithTransport(e), client.WithLogger(e.log))
	if err != nil {
		return errors.Join(err, st.Close())
	}
	source, err := pull.NewSource(h.cfgs[i], c, nil, st, e.log)
	if err == nil {
		err = e.Runner.Add(source)
	}
	if err != nil {
		c.Close()
		return errors.Join(err, st.Close())
	}
	return nil
}

// RoundTrip is the network between the process and Microsoft.
func (e *engine) RoundTrip(r *http.Request) (*http.Response, error) {
	p := e.pod
	alive := p.thaw()
	p.h.mu.Lock()
	offline := time.Until(p.offline)
	p.h.mu.Unlock()
	if offline > 0 {
		wait(r.Context(), nil, offline)
	}
	if !alive || offline > 0 {
		return nil, errCut
	}
	answer, err := p.h.cloud.Transport().RoundTrip(r)
	if !p.thaw() && err == nil {
		answer.Body.Close()
		return nil, errCut
	}
	return answer, err
}

// pause is what Fluent Bit does first when it exits.
func (e *engine) pause() {
	close(e.paused)
	<-e.gone
	e.Pause()
	e.Pause()
}

// stop is the rest of an exit, or what is left of a process that was killed: nothing of it reaches anybody.
func (e *engine) stop() {
	if err := e.Stop(context.Background()); err != nil {
		e.pod.h.note("%s stopped: %v", e.pod.id, err)
	}
}

// populate makes the tenants and their alerts. Some of these are there from the beginning, as old as two hours; some
// become visible late.
func (h *history) populate() {
	gen := defendersim.NewGenerator(h.rng, defendersim.Mix{})
	h.cloud = defendersim.NewFleet(defendersim.Config{Seed: h.rng.Uint64()})
	h.poll = time.Duration(3+h.rng.IntN(10)) * time.Second
	size := []int{4 << 10, 1 << 20}[h.rng.IntN(2)]
	for s := range 1 + h.rng.IntN(4) {
		tenant := fmt.Sprintf("%08d-0000-4000-8000-000000000000", s)
		cfg := &conf.Config{
			API: conf.SIEM, TenantID: tenant,
			Service: conf.Service{
				Cloud: "public", URL: defendersim.AlertsHost + "/api/alerts",
				Resource: defendersim.DefaultResource,
				TokenURL: defendersim.LoginHost + "/" + tenant + "/oauth2/token",
			},
			Shape: conf.Shape{TimeKey: "AlertTime"},
			Network: conf.Network{
				Parallel: 8, ConnectTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
				RetryMax: 10 * time.Second,
			},
			Credential: conf.Credential{
				Auth: conf.ClientSecret, ClientID: defendersim.DefaultClientID,
				ClientSecret: defendersim.DefaultSecret,
			},
			Windows: conf.Windows{
				PollInterval: h.poll, InitialLookback: 2 * time.Hour, Overlap: 15 * time.Second,
				MaxWindow: 30 * time.Minute,
			},
			Memory: conf.Memory{BatchSize: size, QueueLimit: 1 << 20, MaxAlertSize: size},
		}
		h.cfgs, h.sources = append(h.cfgs, cfg), append(h.sources, pull.KeyOf(cfg))
		h.names = append(h.names, objectName("alerts", h.sources[s]))
		svc := h.cloud.Tenant(tenant)
		svc.OnRequest(h.fault)
		var alerts []time.Time
		add := func(at, visible time.Time) {
			a := gen.Alert(at)
			a.VisibleAt = visible
			svc.Add(a)
			h.byKey[a.Key()] = [2]int{s, len(alerts)}
			alerts = append(alerts, visible)
		}
		for range h.rng.IntN(20) {
			add(h.begin.Add(-time.Duration(h.rng.Int64N(int64(110*time.Minute)))), h.begin)
		}
		mean := float64(time.Second) * (0.5 + 4*h.rng.Float64())
		for at := h.begin; at.Before(h.end); at = at.Add(time.Duration(h.rng.ExpFloat64() * mean)) {
			late := time.Duration(0)
			if h.rng.IntN(4) == 0 {
				late = time.Duration(h.rng.Int64N(int64(cfg.Overlap - time.Second)))
			}
			add(at, at.Add(late))
		}
		h.alerts = append(h.alerts, alerts)
	}
}

// fault is what goes wrong at Microsoft.
func (h *history) fault(defendersim.Request) *defendersim.Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().After(h.sick) || h.dice.IntN(2) == 0 {
		return nil
	}
	switch h.dice.IntN(5) {
	case 0:
		return defendersim.Throttle(time.Duration(1+h.dice.IntN(10)) * time.Second)
	case 1:
		return defendersim.ResetEarly()
	case 2:
		return defendersim.CutOf(h.dice.Float64(), defendersim.CutText)
	case 3:
		return defendersim.Hang()
	}
	return defendersim.Status(500)
}
