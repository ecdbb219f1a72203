package share

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

var errCut = errors.New("the connection was cut")

// fakeAPI is an API server in memory, as one pod reaches it.
type fakeAPI struct {
	*server
	settings Settings
	skew     time.Duration // of the pod's clock
	leads    func()        // called when it has won a Lease; may be nil
	// before and after are asked at each request; an error from before is one of a request that was not done, one from
	// after of one that was.
	before, after func(ctx context.Context, verb, name string) error
}

// server holds what all pods see.
type server struct {
	mu      sync.Mutex
	version int
	objects map[string]Object
	leases  map[int]Lease
	writes  int
	// wrote is called with each object before and after it is written; may be nil.
	wrote func(before, after Object)
}

func newServer() *server { return &server{objects: map[string]Object{}, leases: map[int]Lease{}} }

func (f *fakeAPI) clock() time.Time { return time.Now().Add(f.skew) }

func (f *fakeAPI) do(ctx context.Context, verb, name string, act func() error) error {
	if f.before != nil {
		if err := f.before(ctx, verb, name); err != nil {
			return err
		}
	}
	f.mu.Lock()
	err := act()
	f.mu.Unlock()
	if err == nil && f.after != nil {
		err = f.after(ctx, verb, name)
	}
	return err
}

func clone(o Object) Object {
	o.Data, o.Binary = maps.Clone(o.Data), maps.Clone(o.Binary)
	return o
}

func (f *fakeAPI) Get(ctx context.Context, name string) (o Object, err error) {
	err = f.do(ctx, "get", name, func() error {
		var found bool
		if o, found = f.objects[name]; !found {
			return ErrNotFound
		}
		o = clone(o)
		return nil
	})
	return o, err
}

func (f *fakeAPI) put(ctx context.Context, verb string, o Object, version string) (Object, error) {
	err := f.do(ctx, verb, o.Name, func() error {
		if f.objects[o.Name].Version != version {
			return fmt.Errorf("%w: at version %q", ErrConflict, f.objects[o.Name].Version)
		}
		f.version++
		f.writes++
		o = clone(o)
		o.Version = strconv.Itoa(f.version)
		if f.wrote != nil {
			f.wrote(f.objects[o.Name], o)
		}
		f.objects[o.Name] = o
		return nil
	})
	return clone(o), err
}

func (f *fakeAPI) Create(ctx context.Context, o Object) (Object, error) {
	return f.put(ctx, "create", o, "")
}
func (f *fakeAPI) Update(ctx context.Context, o Object) (Object, error) {
	return f.put(ctx, "update", o, o.Version)
}

func (f *fakeAPI) OfTenant(ctx context.Context, label string) (out []Object, err error) {
	err = f.do(ctx, "list", label, func() error {
		for _, name := range slices.Sorted(maps.Keys(f.objects)) {
			if o := f.objects[name]; o.Tenant == label {
				out = append(out, clone(o))
			}
		}
		return nil
	})
	return out, err
}

func (f *fakeAPI) Leases(ctx context.Context) (out []Lease, err error) {
	err = f.do(ctx, "list", "leases", func() error {
		for _, slot := range slices.Sorted(maps.Keys(f.leases)) {
			l := f.leases[slot]
			l.Sources = slices.Clone(l.Sources)
			out = append(out, l)
		}
		return nil
	})
	return out, err
}

// Lead does what kube.API does with client-go.
func (f *fakeAPI) Lead(ctx context.Context, slot int, c Candidate) error {
	write := func(holder string) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
		defer cancel()
		return f.do(ctx, "update", LeaseName("alerts", slot), func() error {
			l, found := f.leases[slot]
			if found && l.Holder != "" && l.Holder != c.Identity && !(c.Dead.Holder != "" && l.Same(c.Dead)) {
				return ErrConflict
			}
			if holder == "" && l.Holder != c.Identity {
				return ErrConflict
			}
			f.leases[slot] = Lease{Slot: slot, Holder: holder, Renewed: f.clock(), Sources: c.Sources()}
			return nil
		})
	}
	renew := func() error {
		sent := time.Now()
		err := write(c.Identity)
		if err != nil {
			c.Failed(err)
			return err
		}
		c.Renewed(sent)
		return nil
	}
	if err := renew(); err != nil {
		return err
	}
	if f.leads != nil {
		f.leads()
	}
	c.Leading()
	c.Dead = Lease{} // from now on it is one's own or lost
	last := time.Now()
	for {
		wait(ctx, nil, f.settings.RetryPeriod())
		if ctx.Err() != nil {
			_ = write("") // nobody waits for it
			return nil
		}
		switch err := renew(); {
		case err == nil:
			last = time.Now()
		case errors.Is(err, ErrConflict), time.Since(last) >= f.settings.RenewDeadline():
			return nil
		}
	}
}
