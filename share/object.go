package share

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"fluent-bit-defender/state"
)

// Why a ConfigMap is not used. Nothing of it is changed then.
var (
	ErrNewer = errors.New("a newer version of this plugin wrote it: use that version in all pods, or delete it to " +
		"begin again at initial_lookback")
	ErrEdited = errors.New("it is not as this plugin wrote it: put it back as it was, or delete it to begin again " +
		"at initial_lookback")
	ErrForeign = errors.New("it belongs to something else: choose another name in db kubernetes://")
)

const (
	version = 1
	sizeMax = 900 << 10 // bytes of an image; a ConfigMap holds 1 MiB

	unreadShown = 20  // ranges written for people
	reasonMost  = 256 // bytes; 1,000 ranges are the most that an engine keeps, and have to fit
)

// The keys of a ConfigMap. What people read stands beside the image, which alone is read by this plugin; the checksum
// covers all.
const (
	dataVersion   = "version"
	dataKey       = "source"
	dataOwner     = "owner"
	dataWriter    = "writer"
	dataSequence  = "sequence"
	dataWritten   = "written"
	dataWatermark = "watermark"
	dataUnread    = "unread"
	dataSucceeded = "succeeded"
	dataChecksum  = "checksum"
	binaryState   = "state"
)

// record is a ConfigMap's content.
type record struct {
	key      state.Key
	owner    string    // identity of the pod that pulls the source; empty: nobody
	writer   string    // identity of the pod that wrote it
	sequence uint64    // counts writes, so that a pod knows its own again
	written  time.Time // by the writer's clock
	image    image
}

// encode makes the ConfigMap of a source. dropped is the number of ids that found no room.
func (r record) encode(o Object) (out Object, dropped int) {
	bytes := r.image.encode()
	for len(bytes) > sizeMax {
		if n := min(1+(len(bytes)-sizeMax)/17, r.image.added()); n > 0 {
			r.image, dropped = r.image.without(n), dropped+n
		} else {
			// unread ranges alone, of many commits: those of the last one have room
			r.image = r.image.folded(r.image.last())
		}
		bytes = r.image.encode()
	}
	snap := r.image.snapshot()
	key, _ := json.Marshal(r.key) // strings only
	unread, _ := json.Marshal(snap.Unread[:min(len(snap.Unread), unreadShown)])
	o.Tenant = tenantLabel(r.key)
	o.Data = map[string]string{
		dataVersion:  strconv.Itoa(version),
		dataKey:      string(key),
		dataOwner:    r.owner,
		dataWriter:   r.writer,
		dataSequence: strconv.FormatUint(r.sequence, 10),
		dataWritten:  r.written.UTC().Format(time.RFC3339Nano),
	}
	if snap.Found {
		o.Data[dataWatermark] = snap.Watermark.Format(time.RFC3339Nano)
	}
	if !snap.Succeeded.IsZero() {
		o.Data[dataSucceeded] = snap.Succeeded.Format(time.RFC3339Nano)
	}
	if len(snap.Unread) > 0 {
		o.Data[dataUnread] = string(unread)
	}
	o.Binary = map[string][]byte{binaryState: bytes}
	o.Data[dataChecksum] = checksum(o)
	return o, dropped
}

func checksum(o Object) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(o.Data)) {
		if k != dataChecksum {
			fmt.Fprintf(h, "%q %q\n", k, o.Data[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(o.Binary)) {
		fmt.Fprintf(h, "%q %d\n", k, len(o.Binary[k]))
		_, _ = h.Write(o.Binary[k]) // never fails
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// decodeRecord reads the ConfigMap of a source. The errors are ErrNewer, ErrEdited and ErrForeign.
func decodeRecord(o Object) (record, error) {
	var r record
	text, found := o.Data[dataVersion]
	if !found {
		return r, ErrForeign
	}
	v, err := strconv.Atoi(text)
	switch {
	case err != nil || v < 1:
		return r, ErrForeign
	case v > version:
		return r, ErrNewer
	case checksum(o) != o.Data[dataChecksum]:
		return r, ErrEdited
	}
	d := json.NewDecoder(strings.NewReader(o.Data[dataKey]))
	d.DisallowUnknownFields()
	if err := d.Decode(&r.key); err != nil {
		return r, ErrEdited
	}
	if r.sequence, err = strconv.ParseUint(o.Data[dataSequence], 10, 64); err != nil {
		return r, ErrEdited
	}
	if r.written, err = time.Parse(time.RFC3339Nano, o.Data[dataWritten]); err != nil {
		return r, ErrEdited
	}
	r.owner, r.writer = o.Data[dataOwner], o.Data[dataWriter]
	if r.image, err = decode(o.Binary[binaryState]); err != nil {
		return r, ErrEdited
	}
	return r, nil
}
