package pull

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"fluent-bit-defender/state"
)

// core stands for Fluent Bit: it takes a batch a second and keeps it in a ring until that is drained, 250 ms later
// unless the input is paused. What lies in the ring at a crash, or at the exit of an input that back-pressure has
// paused, is lost.
type core struct {
	engine *Runner
	paused bool
	ring   []taken

	active  time.Duration // time lived without a pause
	arrived map[string][]arrival
	lives   int // starts so far
	raw     int
	bad     []string // the texts of raw rows
	broken  []string // what was not as it must be

	keyOf func(fields map[string]any) string
}

type taken struct {
	keys  []string
	drain time.Duration // active time at which the ring is drained
	at    arrival
}

// arrival is when a row reached an output.
type arrival struct {
	life   int
	active time.Duration
	at     time.Time
}

const drainAfter = 250 * time.Millisecond

// second lives d (at most a second) and then takes a batch.
func (c *core) live(d time.Duration) {
	time.Sleep(d)
	if !c.paused {
		c.active += d
	}
	c.drain(false)
}

func (c *core) take() {
	b := c.engine.Take()
	if b == nil {
		return
	}
	if c.paused {
		c.broken = append(c.broken, "a paused engine gave a batch")
	}
	if len(b.Data) == 0 {
		c.broken = append(c.broken, "an empty batch")
	}
	t := taken{drain: c.active + drainAfter, at: arrival{c.lives, c.active, time.Now()}}
	dec := msgpack.NewDecoder(bytes.NewReader(bytes.Clone(b.Data)))
	for dec.Buffered().(*bytes.Reader).Len() > 0 {
		key, raw, err := c.decodeRecord(dec)
		if err != nil {
			c.broken = append(c.broken, err.Error())
			break
		}
		if raw {
			c.raw++
		}
		t.keys = append(t.keys, key)
	}
	c.engine.Done(b)
	c.ring = append(c.ring, t)
}

// drain moves what the ring has held long enough, or all, to the outputs.
func (c *core) drain(all bool) {
	for len(c.ring) > 0 && (all || !c.paused && c.ring[0].drain <= c.active) {
		for _, k := range c.ring[0].keys {
			c.arrived[k] = append(c.arrived[k], c.ring[0].at)
		}
		c.ring = c.ring[1:]
	}
}

// inInvalidText tells whether what identifies an alert came in text that was delivered raw: invalid text may take the
// row behind it along.
func (c *core) inInvalidText(identity ...string) bool {
	return slices.ContainsFunc(c.bad, func(text string) bool {
		return !slices.ContainsFunc(identity, func(id string) bool { return !strings.Contains(text, id) })
	})
}

func (c *core) pause()  { c.paused = true; c.engine.Pause() }
func (c *core) resume() { c.paused = false; c.engine.Resume() }

// decodeRecord reads one record and returns the key of its alert, and whether it is a raw one.
func (c *core) decodeRecord(dec *msgpack.Decoder) (key string, raw bool, err error) {
	if n, err := dec.DecodeArrayLen(); err != nil || n != 2 {
		return "", false, fmt.Errorf("a record is no pair: %d, %v", n, err)
	}
	if _, n, err := dec.DecodeExtHeader(); err != nil || n != 8 {
		return "", false, fmt.Errorf("no event time: %v", err)
	}
	var when [8]byte
	if err := dec.ReadFull(when[:]); err != nil {
		return "", false, err
	}
	fields, err := dec.DecodeMap()
	if err != nil {
		return "", false, fmt.Errorf("no map: %v", err)
	}
	text, raw := fields["raw"]
	if raw {
		c.bad = append(c.bad, fmt.Sprint(text))
	}
	return c.keyOf(fields), raw, nil
}

// crashStore keeps what was committed over the death of the process that did it.
type crashStore struct {
	found   bool
	settled time.Time
	seen    map[state.Entry]bool
	gaps    []state.UnreadRange
	faulty  func() error // asked before a commit
	dead    atomic.Bool  // the process is gone: nothing is stored any more
	disk    *crashStore  // where commits go

	succeeded     time.Time
	neighbour     time.Time // of the disk: settled time of the tenant with other filters
	neighbourGaps []state.UnreadRange
}

func newDisk() *crashStore { return &crashStore{seen: map[state.Entry]bool{}} }

// open gives a process its view of the disk.
func (s *crashStore) open() *crashStore { return &crashStore{disk: s, faulty: s.faulty} }

func (s *crashStore) Load() (state.Snapshot, error) {
	snap := state.Snapshot{Found: s.disk.found, Watermark: s.disk.settled, Unread: s.disk.gaps,
		Succeeded: s.disk.succeeded, Neighbour: s.disk.neighbour, NeighbourUnread: s.disk.neighbourGaps}
	for e := range s.disk.seen {
		snap.IDs = append(snap.IDs, e)
	}
	return snap, nil
}

func (s *crashStore) Commit(c state.Change) error {
	if s.dead.Load() {
		return fmt.Errorf("the process is gone")
	}
	if s.faulty != nil {
		if err := s.faulty(); err != nil {
			return err
		}
	}
	d := s.disk
	d.found, d.settled, d.gaps = true, c.Watermark, c.Unread
	if !c.Succeeded.IsZero() {
		d.succeeded = c.Succeeded
	}
	for _, e := range c.Drop {
		delete(d.seen, e)
	}
	for _, e := range c.Add {
		d.seen[e] = true
	}
	return nil
}

func (s *crashStore) Close() error { return nil }
