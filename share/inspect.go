package share

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"fluent-bit-defender/state"
)

// Report is what an API holds of one NAME, for people.
type Report struct {
	Workers []Lease // by their slots
	Sources []Holding
}

// Holding is the state of a source, and who pulls it.
type Holding struct {
	state.SourceReport
	Object string // its ConfigMap's name
	Owner  string // identity of the pod; empty: nobody
	Err    error  // it cannot be used: all else but Object is empty
}

// Inspect reads what an API gave.
func Inspect(leases []Lease, objects []Object) Report {
	rep := Report{Workers: slices.Clone(leases)}
	slices.SortFunc(rep.Workers, func(a, b Lease) int { return a.Slot - b.Slot })
	for _, o := range objects {
		h := Holding{Object: o.Name}
		r, err := decodeRecord(o)
		if err != nil {
			h.Err = fmt.Errorf("ConfigMap %s: %w", o.Name, err)
			rep.Sources = append(rep.Sources, h)
			continue
		}
		snap := r.image.snapshot()
		h.Owner, h.Key, h.Used = r.owner, r.key, r.written
		h.Watermark, h.Unread, h.Succeeded = snap.Watermark, snap.Unread, snap.Succeeded
		if h.IDs = len(snap.IDs); h.IDs > 0 {
			h.Oldest, h.Newest = time.Unix(0, snap.IDs[0].Age).UTC(), time.Unix(0, snap.IDs[h.IDs-1].Age).UTC()
		}
		for _, b := range o.Binary {
			h.Bytes += int64(len(b))
		}
		rep.Sources = append(rep.Sources, h)
	}
	slices.SortFunc(rep.Sources, func(a, b Holding) int { return strings.Compare(a.Object, b.Object) })
	return rep
}

// PodOf is the name of the pod in an identity.
func PodOf(identity string) string {
	pod, _, _ := strings.Cut(identity, "_")
	return pod
}

// Return makes a source one of its own API again, after it went on with the API's successor. ErrOwned: a pod pulls it,
// or did until it died. The other errors are those of the API, and why a ConfigMap is not used.
func Return(ctx context.Context, api API, name string, key state.Key) error {
	o, err := api.Get(ctx, objectName(name, key))
	if err != nil {
		return err
	}
	r, err := decodeRecord(o)
	switch {
	case err != nil:
		return err
	case r.owner != "":
		return fmt.Errorf("%w: %s; stop the pods first", ErrOwned, PodOf(r.owner))
	}
	r.image = image{slices.Clone(r.image.steps)}
	for i := range r.image.steps {
		r.image.steps[i].Succeeded = time.Time{}
	}
	r.sequence++
	o, _ = r.encode(o)
	_, err = api.Update(ctx, o)
	return err
}
