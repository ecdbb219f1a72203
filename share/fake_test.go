package share

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
)

var errCut = errors.New("the connection was cut")

// fakeAPI is an API server in memory, as one pod reaches it.
type fakeAPI struct {
	*server
	// before and after are asked at each request; an error from before is one of a request that was not done, one from after of one that was.
	before, after func(verb, name string) error
}

// server holds what all pods see.
type server struct {
	mu      sync.Mutex
	version int
	objects map[string]Object
	writes  int
}

func newServer() *server { return &server{objects: map[string]Object{}} }

func (f *fakeAPI) do(verb, name string, act func() error) error {
	if f.before != nil {
		if err := f.before(verb, name); err != nil {
			return err
		}
	}
	f.mu.Lock()
	err := act()
	f.mu.Unlock()
	if err == nil && f.after != nil {
		err = f.after(verb, name)
	}
	return err
}

func clone(o Object) Object {
	o.Data, o.Binary = maps.Clone(o.Data), maps.Clone(o.Binary)
	return o
}

func (f *fakeAPI) Get(_ context.Context, name string) (o Object, err error) {
	err = f.do("get", name, func() error {
		found := false
		if o, found = f.objects[name]; !found {
			return ErrNotFound
		}
		o = clone(o)
		return nil
	})
	return o, err
}

func (f *fakeAPI) put(verb string, o Object, version string) (Object, error) {
	err := f.do(verb, o.Name, func() error {
		if f.objects[o.Name].Version != version {
			return fmt.Errorf("%w: at version %q", ErrConflict, f.objects[o.Name].Version)
		}
		f.version++
		f.writes++
		o = clone(o)
		o.Version = strconv.Itoa(f.version)
		f.objects[o.Name] = o
		return nil
	})
	return clone(o), err
}

func (f *fakeAPI) Create(_ context.Context, o Object) (Object, error) { return f.put("create", o, "") }
func (f *fakeAPI) Update(_ context.Context, o Object) (Object, error) {
	return f.put("update", o, o.Version)
}

func (f *fakeAPI) OfTenant(_ context.Context, label string) (out []Object, err error) {
	err = f.do("list", label, func() error {
		for _, name := range slices.Sorted(maps.Keys(f.objects)) {
			if o := f.objects[name]; o.Tenant == label {
				out = append(out, clone(o))
			}
		}
		return nil
	})
	return out, err
}

func (f *fakeAPI) Leases(context.Context) ([]Lease, error)    { return nil, errors.ErrUnsupported }
func (f *fakeAPI) Lead(context.Context, int, Candidate) error { return errors.ErrUnsupported }
