// Package state keeps what was pulled: the watermark, the ids of the rows that were delivered and the unread ranges,
// in memory or in a file that sources share. It knows nothing of what an alert holds.
package state

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of this package, wrapped in one that names the file or the source. Each says what the operator can do.
var (
	// ErrLocked: the file's lock was not to be had within 5 s.
	ErrLocked = errors.New("another process holds it: stop that process, or give this one a db of its own")
	// ErrKeyInUse: an open Store of this process has the same Key, be it in memory or in any file.
	ErrKeyInUse = errors.New("another stanza has the same api, cloud and region (or url), tenant and filters: remove " +
		"one of the two, or tell them apart by their filters")
	// ErrReadOnly: the file or its directory may not be written.
	ErrReadOnly = errors.New("not writable: give the user that runs Fluent Bit write permission on the directory and " +
		"the file, or set db to another place")
	// ErrNoRoom: a file cannot be begun. One that is there is opened all the same, and its commits wait for room.
	ErrNoRoom = errors.New("no room for it: make room on the disk, or set db to another place")
	// ErrNoDirectory: the directory that the file shall live in does not exist. It is not made, so that a volume that
	// is not mounted is noticed.
	ErrNoDirectory = errors.New("no such directory: create it, mount it, or set db to another place")
	// ErrNewer: a later version of this plugin wrote the file. It is left as it is.
	ErrNewer = errors.New("written by a newer version: use that version again, or move the file away to start " +
		"without state")
	// ErrForeign: the file is a database in working order, but not ours. It is left as it is.
	ErrForeign = errors.New("belongs to another program: set db to a file of its own")
	// ErrReplaced: the file was deleted, or another put in its place, while this process had it open.
	ErrReplaced = errors.New("removed or replaced while in use: nothing is stored until Fluent Bit is restarted " +
		"or reloaded")
	// ErrTaken: another process owns the state now, or somebody changed it. Nothing more can be stored, and nothing
	// more must be pulled by it.
	ErrTaken = errors.New("it is not this process's any more")
	// ErrClosed: the Store was closed before.
	ErrClosed = errors.New("the state store is closed")
)

// ID identifies a row.
type ID [16]byte

// Entry is one row of the dedup set. The pair is the identity: a row that is to age by another time is dropped with its
// old Age and added with the new one.
type Entry struct {
	ID  ID
	Age int64 // Unix time in nanoseconds by which the entry ages
}

// Compare orders entries by age, then by ID: the order of Snapshot.IDs and of the file.
func (e Entry) Compare(o Entry) int {
	if e.Age != o.Age {
		return cmp.Compare(e.Age, o.Age)
	}
	return bytes.Compare(e.ID[:], o.ID[:])
}

// UnreadRange is a span that could not be read although newer ones were.
type UnreadRange struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"` // never a secret; stored up to maxReason bytes
}

// Key names the state of a source: one tenant with its filters. Two sources with one Key would take each other's
// alerts.
type Key struct {
	API     string `json:"api"`
	Place   string `json:"place"`
	Tenant  string `json:"tenant"`
	Filters string `json:"filters"`
}

func (k Key) String() string {
	return fmt.Sprintf("%s of %s, tenant %s, filters %q", k.API, k.Place, k.Tenant, k.Filters)
}

// Snapshot is what a Store holds. The caller owns it. Times are in UTC; empty lists are nil.
type Snapshot struct {
	Found     bool      // something was committed under this Key before
	Watermark time.Time // zero when not Found
	IDs       []Entry   // ascending by Age, then by ID
	Unread    []UnreadRange
	Succeeded time.Time // since when the API's successor is pulled in its place; zero: it is not
	Neighbour time.Time // the latest watermark of another Key with the same API and Tenant; zero: none
	// NeighbourUnread are the unread ranges of all such Keys, by their Since: whose filters became this Key's nobody
	// knows.
	NeighbourUnread []UnreadRange
}

// Change is one step of a Store, stored whole or not at all. The Store keeps no part of it.
//
// First Drop is taken out, then Add put in. To drop what is not held or to add what is held is no fault, so that a
// Change whose Commit failed can be merged with the next one and committed again.
type Change struct {
	Watermark time.Time     // the new watermark; zero leaves the stored one
	Add       []Entry       // in any order
	Drop      []Entry       // in any order
	Unread    []UnreadRange // the whole list
	Succeeded time.Time     // since when the API's successor is pulled in its place; zero leaves what is stored
}

// Store keeps the state of one Key. Its methods are called by one goroutine at a time; several Stores, of one file too,
// may be used concurrently.
type Store interface {
	// Load returns what was committed.
	Load() (Snapshot, error)
	// Commit stores the change. After an error nothing of it is stored, or, where the disk failed at the very last
	// write, all of it; the Store stays usable, and the same change (merged with later ones) may be committed again.
	Commit(Change) error
	// Close releases the Key and, with the last Store of a file, the file. Only the first call does anything.
	Close() error
}

// Meet adds another Key of the same API and Tenant to what is known of the neighbours.
func (s *Snapshot) Meet(watermark time.Time, unread []UnreadRange) {
	s.Neighbour = latest(s.Neighbour, watermark)
	s.NeighbourUnread = append(s.NeighbourUnread, unread...)
	slices.SortFunc(s.NeighbourUnread, func(a, b UnreadRange) int {
		return cmp.Or(a.Since.Compare(b.Since), a.Until.Compare(b.Until), cmp.Compare(a.Reason, b.Reason))
	})
}

const (
	// maxReason bounds the text of one unread range.
	maxReason = 1 << 10
	// unusedFor is how long the state of a Key is kept in a file after its last use.
	unusedFor = 90 * 24 * time.Hour
)

// Clean returns the change as all stores keep it, so that they give back the same: UTC, no monotonic clock, reasons of
// at most so many bytes of valid UTF-8. It does not touch the caller's lists.
func (c Change) Clean(reasonMost int) (Change, error) {
	c.Watermark, c.Succeeded = c.Watermark.Round(0).UTC(), c.Succeeded.Round(0).UTC()
	unread := make([]UnreadRange, 0, len(c.Unread))
	times := []time.Time{c.Watermark, c.Succeeded}
	for _, g := range c.Unread {
		reason := strings.ToValidUTF8(g.Reason, "\uFFFD")
		if len(reason) > reasonMost {
			reason = strings.ToValidUTF8(reason[:reasonMost], "") // the cut may have split a character
		}
		g = UnreadRange{Since: g.Since.Round(0).UTC(), Until: g.Until.Round(0).UTC(), Reason: reason}
		unread, times = append(unread, g), append(times, g.Since, g.Until)
	}
	c.Unread = unread
	for _, t := range times {
		if t.Year() < 1 || t.Year() > 9999 { // RFC 3339 has no more
			return c, fmt.Errorf("state: the time %s cannot be stored: only the years 1 to 9999 can", t)
		}
	}
	return c, nil
}

// claims are the Keys of the open Stores of this process. They span memory and all files: two sources that pull the
// same are a mistake wherever they store it.
var claims = struct {
	sync.Mutex
	keys map[Key]bool
}{keys: make(map[Key]bool)}

func claim(key Key) error {
	claims.Lock()
	defer claims.Unlock()
	if claims.keys[key] {
		return fmt.Errorf("state: %s: %w", key, ErrKeyInUse)
	}
	claims.keys[key] = true
	return nil
}

func unclaim(key Key) {
	claims.Lock()
	defer claims.Unlock()
	delete(claims.keys, key)
}

func claimed(key Key) bool {
	claims.Lock()
	defer claims.Unlock()
	return claims.keys[key]
}

// latest returns the later of two times.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
