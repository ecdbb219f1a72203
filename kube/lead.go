//go:build kubernetes

package kube

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"fluent-bit-defender/share"
)

// Leases are the Leases of the workers.
func (a *API) Leases(ctx context.Context) (out []share.Lease, err error) {
	leases, err := a.leases.List(ctx, meta.ListOptions{LabelSelector: share.NameLabel + "=" + a.options.Name})
	if err != nil {
		return nil, a.failure("list", "leases", err)
	}
	for i := range leases.Items {
		if l, ok := a.lease(&leases.Items[i]); ok {
			out = append(out, l)
		}
	}
	return out, nil
}

// lease reads a Lease. ok is false when it is not a worker's.
func (a *API) lease(l *coordinationv1.Lease) (out share.Lease, ok bool) {
	slot, found := strings.CutPrefix(l.Name, a.options.Name+"-worker-")
	n, err := strconv.Atoi(slot)
	if !found || err != nil || share.LeaseName(a.options.Name, n) != l.Name {
		return out, false
	}
	out = share.Lease{Slot: n, Sources: share.SplitHashes(l.Annotations[share.SourcesAnnotation])}
	if l.Spec.HolderIdentity != nil {
		out.Holder = *l.Spec.HolderIdentity
	}
	if l.Spec.RenewTime != nil {
		out.Renewed = l.Spec.RenewTime.Time
	}
	return out, true
}

// Lead tries once to get a Lease, and holds it then. client-go does both; what it asks the API server for passes
// through attempt.
func (a *API) Lead(ctx context.Context, slot int, c share.Candidate) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &attempt{LeaseInterface: a.leases, api: a, outer: ctx, cancel: cancel, Candidate: c}
	started := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  meta.ObjectMeta{Name: share.LeaseName(a.options.Name, slot), Namespace: a.namespace},
			Client:     t,
			LockConfig: resourcelock.ResourceLockConfig{Identity: c.Identity},
			Labels:     a.labels(),
		},
		LeaseDuration:   a.options.Settings.LeaseDuration,
		RenewDeadline:   a.options.Settings.RenewDeadline(),
		RetryPeriod:     a.options.Settings.RetryPeriod(),
		ReleaseOnCancel: true,
		Name:            a.options.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { defer close(started); c.Leading() },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("election: %w", err)
	}
	elector.Run(inner)
	if t.leading() {
		<-started // its goroutine is nobody else's to wait for
		return nil
	}
	return t.why()
}

// attempt is the Lease as client-go's election sees it, from the first look to its loss.
type attempt struct {
	coordination.LeaseInterface
	share.Candidate
	api    *API
	outer  context.Context // ends when the Lease is to be released
	cancel context.CancelFunc

	mu     sync.Mutex
	held   bool
	holder string // as the last answer showed it
	err    error  // of the attempt
}

func (t *attempt) leading() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}

func (t *attempt) why() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Leases makes attempt a coordination.LeasesGetter.
func (t *attempt) Leases(string) coordination.LeaseInterface { return t }

// Get shows the Lease of a dead worker as one that nobody holds: client-go would wait for the lease duration again.
// An election that is not won at once is over, and so is one that another has won.
func (t *attempt) Get(ctx context.Context, name string, o meta.GetOptions) (*coordinationv1.Lease, error) {
	l, err := t.LeaseInterface.Get(ctx, name, o)
	if err != nil {
		if failure := t.api.failure("get", "leases", err); failure != share.ErrNotFound {
			t.fail(failure)
		}
		return l, err
	}
	seen, _ := t.api.lease(l)
	dead := t.Dead.Holder != "" && seen.Same(t.Dead)
	t.mu.Lock()
	t.holder = seen.Holder
	t.mu.Unlock()
	switch {
	case seen.Holder == "" || seen.Holder == t.Identity:
	case dead:
		nobody := ""
		l.Spec.HolderIdentity = &nobody
	default:
		t.lose(share.ErrConflict)
	}
	return l, nil
}

func (t *attempt) Create(
	ctx context.Context, l *coordinationv1.Lease, o meta.CreateOptions,
) (*coordinationv1.Lease, error) {
	return t.write("create", l, func() (*coordinationv1.Lease, error) { return t.LeaseInterface.Create(ctx, l, o) })
}

func (t *attempt) Update(
	ctx context.Context, l *coordinationv1.Lease, o meta.UpdateOptions,
) (*coordinationv1.Lease, error) {
	if l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "" {
		// client-go releases also what it could not renew, and, after it was frozen, what another holds meanwhile.
		t.mu.Lock()
		mine := t.holder == t.Identity
		t.mu.Unlock()
		if t.outer.Err() == nil || !mine {
			return nil, share.ErrRefused
		}
		return t.LeaseInterface.Update(ctx, l, o)
	}
	return t.write("update", l, func() (*coordinationv1.Lease, error) { return t.LeaseInterface.Update(ctx, l, o) })
}

func (t *attempt) write(
	verb string, l *coordinationv1.Lease, do func() (*coordinationv1.Lease, error),
) (*coordinationv1.Lease, error) {
	if l.Annotations == nil {
		l.Annotations = map[string]string{}
	}
	l.Annotations[share.SourcesAnnotation] = share.JoinHashes(t.Sources())
	sent := time.Now()
	out, err := do()
	if err != nil {
		failure := t.api.failure(verb, "leases", err)
		t.Failed(failure)
		t.fail(failure)
		return out, err
	}
	t.mu.Lock()
	t.held, t.holder = true, t.Identity
	t.mu.Unlock()
	t.Renewed(sent)
	return out, nil
}

// fail ends the attempt, if the Lease is not held yet.
func (t *attempt) fail(err error) {
	if !t.leading() {
		t.lose(err)
	}
}

func (t *attempt) lose(err error) {
	t.mu.Lock()
	t.err = err
	t.mu.Unlock()
	t.cancel()
}
