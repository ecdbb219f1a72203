package pull

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/state"
)

// plagues are what befalls tenants.
var plagues = []func(defendersim.Request) *defendersim.Fault{
	ofKind(defendersim.KindAlerts, defendersim.Hang()),
	ofKind(defendersim.KindToken, defendersim.Hang()),
	ofKind(defendersim.KindAlerts, defendersim.Status(500)),
	ofKind(defendersim.KindAlerts, defendersim.ResetEarly()),
	ofKind(defendersim.KindAlerts, defendersim.Status(403)),
	ofKind(defendersim.KindToken, defendersim.Entra(7000229)),
	ofKind(defendersim.KindAlerts, defendersim.Throttle(40*time.Second)),
	ofKind(defendersim.KindAlerts, defendersim.Late(50*time.Second)),
}

func ofKind(k defendersim.Kind, f *defendersim.Fault) func(defendersim.Request) *defendersim.Fault {
	return func(r defendersim.Request) *defendersim.Fault {
		if r.Kind == k {
			return f
		}
		return nil
	}
}

// tenantsLife is a stanza of many tenants, some of them plagued, in virtual time.
type tenantsLife struct {
	*testing.T
	cloud *defendersim.Fleet
	rnd   *rand.Rand
	gen   *defendersim.Generator
	core  *core
	cfgs  []*conf.Config
	added map[string]alertOf // by key
}

type alertOf struct {
	tenant int
	at     time.Time // when it could be pulled
}

func newTenantsLife(t *testing.T, seed uint64) *tenantsLife {
	return &tenantsLife{T: t, rnd: rand.New(rand.NewPCG(seed, 1)),
		cloud: defendersim.NewFleet(defendersim.Config{Seed: seed}), added: map[string]alertOf{},
		gen:  defendersim.NewGenerator(rand.New(rand.NewPCG(seed, 2)), defendersim.Mix{}),
		core: &core{arrived: map[string][]arrival{}, keyOf: defendersim.KeyOf}}
}

// enter adds a tenant to the stanza.
func (l *tenantsLife) enter(id string) *defendersim.Service {
	l.cfgs = append(l.cfgs, &conf.Config{
		API: conf.SIEM, TenantID: id, TenantsFile: "x",
		Credential: conf.Credential{
			Auth: conf.ClientSecret, ClientID: defendersim.DefaultClientID,
			ClientSecret: defendersim.DefaultSecret,
		},
		Service: conf.Service{
			Cloud: "public", URL: defendersim.AlertsHost + "/api/alerts",
			TokenURL: defendersim.LoginHost + "/" + id + "/oauth2/token",
			Resource: defendersim.DefaultResource,
		},
		Windows: conf.Windows{
			PollInterval: time.Minute, InitialLookback: 2 * time.Hour, Overlap: 15 * time.Minute,
			MaxWindow: time.Hour,
		},
		Memory: conf.Memory{BatchSize: 1e6, QueueLimit: 8e6, MaxAlertSize: 1e6},
		Network: conf.Network{
			ConnectTimeout: 10 * time.Second, ReadTimeout: time.Minute, RetryMax: 5 * time.Minute,
			Parallel: 8,
		},
		Shape: conf.Shape{TimeKey: "AlertTime"},
	})
	return l.cloud.Tenant(id)
}

func (l *tenantsLife) source(i int) *Source {
	cfg := l.cfgs[i]
	quiet := slog.New(slog.DiscardHandler)
	c, err := client.New(cfg, client.WithTransport(l.cloud.Transport()), client.WithLogger(quiet))
	if err != nil {
		l.Fatal(err)
	}
	st, err := state.OpenMemory(KeyOf(cfg))
	if err != nil {
		l.Fatal(err)
	}
	s, err := NewSource(cfg, c, nil, st, quiet)
	if err != nil {
		l.Fatal(err)
	}
	return s
}

func (l *tenantsLife) start() {
	r := NewRunner(OptionsOf(l.cfgs[0], slog.New(slog.DiscardHandler)))
	for i := range l.cfgs {
		if err := r.Add(l.source(i)); err != nil {
			l.Fatal(err)
		}
	}
	l.core.engine = r
	r.Start()
}

func (l *tenantsLife) stop() {
	if err := l.core.engine.Stop(context.Background()); err != nil {
		l.Fatal(err)
	}
	l.core.drain(true)
	l.core.lives++
}

func (l *tenantsLife) add(tenant int, ago time.Duration) {
	svc := l.cloud.Tenant(l.cfgs[tenant].TenantID)
	a := l.gen.Alert(time.Now().Add(-ago))
	svc.Add(a)
	l.added[a.Key()] = alertOf{tenant, time.Now()}
}

// live lives so many minutes, with an alert of each tenant in each.
func (l *tenantsLife) live(minutes int, alerts bool) {
	for range minutes {
		var at [60][]int
		for i := range l.cfgs {
			s := l.rnd.IntN(60)
			at[s] = append(at[s], i)
		}
		for s := range 60 {
			if alerts {
				for _, i := range at[s] {
					l.add(i, 0)
				}
			}
			l.core.live(time.Second)
			l.core.take()
		}
	}
}

// A third of the tenants is plagued, more than there are slots. That touches no other: each alert of those that are
// well comes within two polls, and once. So do all alerts of the plagued ones, once they are well again. One tenant
// leaves and comes back, and the stanza is restarted.
func TestTenantsDoNotTouchEachOther(t *testing.T) {
	seeds := 2
	if os.Getenv("SOAK") != "" {
		seeds = 50
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { tenantsTogether(t, uint64(seed)) })
		})
	}
}

func tenantsTogether(t *testing.T, seed uint64) {
	const tenants, plagued = 40, 14
	l := newTenantsLife(t, seed)
	rnd := l.rnd
	for i := range tenants {
		svc := l.enter(fmt.Sprintf("%08d-%04d-3333-4444-555555555555", i, seed))
		if i < plagued {
			svc.OnRequest(plagues[(i+int(seed))%len(plagues)])
		}
		if i == plagued-1 { // the last brings a backlog instead
			svc.OnRequest(nil)
			for range 5000 {
				l.add(i, time.Duration(rnd.Int64N(int64(100*time.Minute))))
			}
		}
	}
	const leaves = tenants - 1
	l.start()
	l.live(4, true)
	if err := l.core.engine.Remove(context.Background(), KeyOf(l.cfgs[leaves])); err != nil {
		t.Fatal(err)
	}
	l.live(2, true)
	if err := l.core.engine.Add(l.source(leaves)); err != nil {
		t.Fatal(err)
	}
	l.live(4, true)
	l.stop()
	l.start()
	l.live(5, true)
	sick := l.core.engine.Stats().Failing
	for i := range plagued { // they are well again
		l.cloud.Tenant(l.cfgs[i].TenantID).OnRequest(nil)
	}
	l.live(2, true)
	l.live(10, false)
	healed := l.core.engine.Stats()
	l.stop()

	const polls = 2*66*time.Second + 5*time.Second
	for key, a := range l.added {
		came := l.core.arrived[key]
		if len(came) != 1 {
			t.Fatalf("an alert of tenant %d at %s came %d times", a.tenant, a.at.Format(time.TimeOnly), len(came))
		}
		if took := came[0].at.Sub(a.at); a.tenant >= plagued && a.tenant != leaves && took > polls {
			t.Errorf("an alert of tenant %d, which is well, took %s", a.tenant, took)
		}
	}
	if len(l.core.arrived) != len(l.added) || len(l.core.broken) > 0 {
		t.Errorf("%d alerts came of %d; %v", len(l.core.arrived), len(l.added), l.core.broken)
	}
	if sick < plagued/2 || sick > plagued || healed.Failing != 0 || healed.Sources != tenants {
		t.Errorf("%d failed, of %d plagued; %d of %d when all were well", sick, plagued, healed.Failing, healed.Sources)
	}
}

// A region whose tenants were all well hangs from one moment on, with many more of them than there are slots: those
// of the others go on.
func TestARegionThatHangsHoldsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tenants, region = 120, 50
		l := newTenantsLife(t, 7)
		for i := range tenants {
			l.enter(fmt.Sprintf("%08d-0007-3333-4444-666666666666", i))
		}
		l.start()
		l.live(5, true)
		for i := range region {
			l.cloud.Tenant(l.cfgs[i].TenantID).OnRequest(plagues[0])
		}
		l.live(10, true)
		for i := range region {
			l.cloud.Tenant(l.cfgs[i].TenantID).OnRequest(nil)
		}
		l.live(10, false)
		l.stop()
		late, worst := 0, time.Duration(0)
		for key, a := range l.added {
			came := l.core.arrived[key]
			if len(came) != 1 {
				t.Fatalf("an alert of tenant %d came %d times", a.tenant, len(came))
			}
			if took := came[0].at.Sub(a.at); a.tenant >= region && took > 2*66*time.Second+5*time.Second {
				late++
				worst = max(worst, took)
			}
		}
		if late > 0 {
			t.Errorf("%d alerts of tenants that are well came late, one after %s", late, worst)
		}
	})
}

// What clients count is summed only after steps, and is never behind them.
func TestWhatClientsCountIsUpToDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := scene(10, 10*time.Minute, nil)
		stats := h.core.engine.Stats
		if s := stats(); s.Client.Tokens != 0 || s.Sources != 1 {
			t.Fatalf("%d tokens of %d sources before the first step", s.Client.Tokens, s.Sources)
		}
		for range 120 { // a token serves for an hour
			h.liveFor(time.Minute)
			if got, want := stats().Client, h.source.client.Stats(); got != want {
				t.Fatalf("%+v, want %+v", got, want)
			}
		}
		if n := stats().Client.Tokens; n < 2 {
			t.Errorf("%d tokens in two hours", n)
		}
		if err := h.core.engine.Remove(t.Context(), h.source.key); err != nil {
			t.Fatal(err)
		}
		if n := stats().Sources; n != 0 {
			t.Errorf("%d sources after the only one was removed", n)
		}
		h.stop(false)
	})
}

// What a removed tenant has counted stays counted: a counter never falls.
func TestCountersOutliveTheirTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := scene(10, 10*time.Minute, nil)
		h.liveFor(3 * time.Minute)
		before := h.core.engine.Stats()
		if err := h.core.engine.Remove(t.Context(), h.source.key); err != nil {
			t.Fatal(err)
		}
		after := h.core.engine.Stats()
		if before.Client.Tokens == 0 || after.Client.Tokens != before.Client.Tokens || after.Rows != before.Rows ||
			after.Delivered < before.Delivered {
			t.Errorf("%d tokens, %d rows and %d alerts became %d, %d and %d", before.Client.Tokens, before.Rows,
				before.Delivered,
				after.Client.Tokens, after.Rows, after.Delivered)
		}
		h.stop(false)
	})
}
