package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// The layout of a state file, a bbolt database:
//
//	bucket "defender-state"
//	    "version"              record of the layout's version
//	bucket "stanza:" + SHA-256 of the Key
//	    "meta"                 record of a stanzaMeta
//	    bucket "seen"          8 bytes of Age, 16 bytes of ID -> nothing
//
// Age comes first and sorts as a number, so that what a commit drops and adds lies on the pages at the two ends. A
// record is a CRC-32C, a format byte and JSON. IDs entries have no checksum of their own: one that the disk altered can
// let its row come again, and lose nothing.

const (
	layoutVersion = 1
	recordFormat  = 1
	recordHeader  = 5
	entryKey      = 24

	// maxMeta bounds a stanzaMeta. Only gaps make it grow; so many mean that something else is wrong.
	maxMeta = 16 << 20
)

var (
	layoutBucket = []byte("defender-state") // sorts before the stanzas, so that a check reads the version first
	versionKey   = []byte("version")
	stanzaPrefix = []byte("stanza:")
	metaKey      = []byte("meta")
	seenBucket   = []byte("seen")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// errUnchanged rolls a transaction back that had nothing to write.
	errUnchanged = errors.New("nothing to write")
)

type layoutRecord struct {
	Version int `json:"version"`
}

// stanzaMeta is all that is known of a stanza but its seen set.
type stanzaMeta struct {
	Key       Key           `json:"key"`
	Watermark time.Time     `json:"settled"`
	Unread    []UnreadRange `json:"gaps,omitempty"`
	// Used is the later of the local clock and Watermark, which is the service's clock, at the last open or commit: a
	// local clock that stands in the past does not make a bucket look unused.
	Used time.Time `json:"used"`
}

func bucketName(key Key) []byte {
	sum := sha256.New()
	for _, s := range []string{key.API, key.Place, key.Tenant, key.Filters} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		_, _ = sum.Write(n[:]) // a hash never fails to write
		_, _ = sum.Write([]byte(s))
	}
	return sum.Sum(slices.Clone(stanzaPrefix))
}

func encodeRecord(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b := make([]byte, recordHeader, recordHeader+len(text))
	b[4] = recordFormat
	b = append(b, text...)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b, nil
}

func decodeRecord(b []byte, v any) error {
	if len(b) < recordHeader || binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return damaged("a record of %d bytes does not match its checksum", len(b))
	}
	if b[4] > recordFormat {
		return fmt.Errorf("%w (record format %d)", ErrNewer, b[4])
	}
	if err := json.Unmarshal(b[recordHeader:], v); err != nil {
		return damaged("a record cannot be read: %v", err)
	}
	return nil
}

func (e Entry) key(buf *[entryKey]byte) []byte {
	binary.BigEndian.PutUint64(buf[:], uint64(e.Age)^1<<63) // times before 1970 sort first
	copy(buf[8:], e.ID[:])
	return buf[:]
}

func decodeEntry(key []byte) (e Entry) {
	e.Age = int64(binary.BigEndian.Uint64(key) ^ 1<<63)
	copy(e.ID[:], key[8:])
	return e
}

// prepare is the transaction of an open: it gives a new file its layout, notes that key is in use, and deletes what was
// unused for 90 days. It returns the keys of what it deleted.
//
// Unused means: last used 90 days before both the local clock and newest, and not by an open stanza. newest is the latest use of
// any bucket as the process found the file; where it is zero, prepare sets it. Neither a clock that is far ahead at boot nor 90 days
// without Fluent Bit delete the state of a stanza whose turn to be opened is yet to come.
func prepare(tx *bbolt.Tx, key Key, now time.Time, newest *time.Time, inUse func(Key) bool) ([]Key, error) {
	changed, err := putLayout(tx)
	if err != nil {
		return nil, err
	}
	type stanza struct {
		name []byte
		meta stanzaMeta
	}
	var all []stanza
	var found time.Time
	err = eachStanza(tx, func(name []byte, m stanzaMeta) error {
		found = latest(found, m.Used)
		all = append(all, stanza{bytes.Clone(name), m})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if newest.IsZero() { // later the file holds what the stanzas opened before this one wrote
		*newest = found
	}
	own := bucketName(key)
	var deleted []Key
	for _, st := range all {
		m := st.meta
		unused := now.Sub(m.Used) > unusedFor && newest.Sub(m.Used) > unusedFor && !inUse(m.Key)
		switch used := latest(now, m.Watermark); {
		case bytes.Equal(st.name, own) && used.Sub(m.Used) > time.Hour: // not at each reload: it is a write to the disk
			m.Used = used
			err = putMeta(tx.Bucket(own), m)
		case !bytes.Equal(st.name, own) && unused:
			deleted = append(deleted, m.Key)
			err = tx.DeleteBucket(st.name)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		changed = true
	}
	if !changed {
		return nil, errUnchanged
	}
	return deleted, nil
}

func putLayout(tx *bbolt.Tx) (changed bool, err error) {
	b, err := tx.CreateBucketIfNotExists(layoutBucket)
	if err != nil || b.Get(versionKey) != nil {
		return false, err
	}
	rec, err := encodeRecord(layoutRecord{Version: layoutVersion})
	if err != nil {
		return false, err
	}
	return true, b.Put(versionKey, rec)
}

func putMeta(b *bbolt.Bucket, m stanzaMeta) error {
	rec, err := encodeRecord(m)
	if err != nil {
		return err
	}
	if len(rec) > maxMeta {
		return fmt.Errorf("%d gaps take %d bytes: at most %d can be stored", len(m.Unread), len(rec), maxMeta)
	}
	return b.Put(metaKey, rec)
}

func eachStanza(tx *bbolt.Tx, do func(name []byte, m stanzaMeta) error) error {
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if !bytes.HasPrefix(name, stanzaPrefix) || b == nil {
			return nil
		}
		var m stanzaMeta
		if err := decodeRecord(b.Get(metaKey), &m); err != nil {
			return err
		}
		return do(name, m)
	})
}

// apply is the transaction of a commit. c is clean.
func apply(tx *bbolt.Tx, key Key, c Change, now time.Time) error {
	if _, err := putLayout(tx); err != nil { // an open on a full disk could not
		return err
	}
	b, err := tx.CreateBucketIfNotExists(bucketName(key))
	if err != nil {
		return err
	}
	m := stanzaMeta{Key: key}
	if rec := b.Get(metaKey); rec != nil {
		if err := decodeRecord(rec, &m); err != nil {
			return err
		}
	}
	if !c.Watermark.IsZero() {
		m.Watermark = c.Watermark
	}
	m.Unread = c.Unread
	m.Used = latest(now, m.Watermark)
	if err := putMeta(b, m); err != nil {
		return err
	}
	seen, err := b.CreateBucketIfNotExists(seenBucket)
	if err != nil {
		return err
	}
	// Full pages suit rows that come in the order of their age, half-full ones (bbolt's default) late rows between them:
	// 100,000 rows took 8.7 and 7.5 MB with 0.5, 6.5 and 8.7 MB with 0.75, 5.4 and 12.2 MB with 0.9.
	seen.FillPercent = 0.75
	var buf [entryKey]byte
	for _, e := range ordered(c.Drop) {
		if err := seen.Delete(e.key(&buf)); err != nil {
			return err
		}
	}
	// In order, because bbolt splits a page at the end of the transaction only: until then each insertion moves what
	// comes after it.
	for _, e := range ordered(c.Add) {
		if err := seen.Put(e.key(&buf), nil); err != nil {
			return err
		}
	}
	return nil
}

func ordered(entries []Entry) []Entry {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, Entry.compare)
	return sorted
}

// load is the transaction of a Load.
func load(tx *bbolt.Tx, key Key) (Snapshot, error) {
	var snap Snapshot
	own := bucketName(key)
	err := eachStanza(tx, func(name []byte, m stanzaMeta) error {
		if !bytes.Equal(name, own) {
			if m.Key.API == key.API && m.Key.Tenant == key.Tenant {
				snap.meet(m.Watermark, m.Unread)
			}
			return nil
		}
		snap.Found, snap.Watermark, snap.Unread = true, m.Watermark, m.Unread
		seen := tx.Bucket(name).Bucket(seenBucket)
		if seen == nil {
			return damaged("the stanza %s has no seen set", key)
		}
		n := seen.Stats().KeyN
		if n == 0 {
			return nil
		}
		snap.IDs = make([]Entry, 0, n)
		return seen.ForEach(func(k, _ []byte) error {
			if len(k) != entryKey {
				return damaged("a seen entry of %d bytes", len(k))
			}
			snap.IDs = append(snap.IDs, decodeEntry(k))
			return nil
		})
	})
	return snap, err
}
