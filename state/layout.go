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
//	bucket "source:" + hash of API and Tenant + hash of Place and Filters, 16 bytes each
//	    "meta"                 record of a sourceMeta
//	    bucket "ids"           8 bytes of Age, 16 bytes of ID -> nothing
//
// The sources of a tenant stand together, so that a Load finds its neighbours whatever else the file holds. Age comes
// first and sorts as a number, so that what a commit drops and adds lies on the pages at the two ends. A record is a
// CRC-32C, a format byte and JSON. IDs have no checksum of their own: one that the disk altered can let its row come
// again, and lose nothing.

const (
	layoutVersion = 1
	recordFormat  = 1
	recordHeader  = 5
	entryKey      = 24

	// maxMeta bounds a sourceMeta. Only unread ranges make it grow; so many mean that something else is wrong.
	maxMeta = 16 << 20
)

var (
	layoutBucket = []byte("defender-state") // sorts before the sources, so that a check reads the version first
	versionKey   = []byte("version")
	sourcePrefix = []byte("source:")
	metaKey      = []byte("meta")
	idsBucket    = []byte("ids")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// errUnchanged rolls a transaction back that had nothing to write.
	errUnchanged = errors.New("nothing to write")
)

type layoutRecord struct {
	Version int `json:"version"`
}

// sourceMeta is all that is known of a source but its ids.
type sourceMeta struct {
	Key       Key           `json:"key"`
	Watermark time.Time     `json:"watermark"`
	Unread    []UnreadRange `json:"unread,omitempty"`
	Succeeded time.Time     `json:"succeeded,omitzero"`
	// Used is the later of the local clock and Watermark, which is the service's clock, at the last commit or tidy: a
	// local clock that stands in the past does not make a source look unused.
	Used time.Time `json:"used"`
}

func bucketName(key Key) []byte {
	return append(tenantPrefix(key), hash16(key.Place, key.Filters)...)
}

// tenantPrefix begins the names of all sources with this API and Tenant.
func tenantPrefix(key Key) []byte {
	return append(slices.Clone(sourcePrefix), hash16(key.API, key.Tenant)...)
}

func hash16(texts ...string) []byte {
	sum := sha256.New()
	for _, s := range texts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		_, _ = sum.Write(n[:]) // a hash never fails to write
		_, _ = sum.Write([]byte(s))
	}
	return sum.Sum(nil)[:16]
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

// newestUse is the transaction of an open: the latest use of any source.
func newestUse(tx *bbolt.Tx) (newest time.Time, err error) {
	err = eachSource(tx, func(m sourceMeta) error {
		newest = latest(newest, m.Used)
		return nil
	})
	return newest, err
}

// tidy notes that open sources are in use, and deletes what was unused for 90 days, whose keys it returns.
//
// Unused means: last used 90 days before both the local clock and newest, and not open. newest is the latest use of
// any source as this process found the file. Neither a clock that is far ahead nor 90 days without Fluent Bit delete
// the state of a source.
func tidy(tx *bbolt.Tx, now, newest time.Time, open func(Key) bool) (deleted []Key, err error) {
	var stale []sourceMeta
	err = eachSource(tx, func(m sourceMeta) error {
		switch {
		case open(m.Key):
			if used := latest(now, m.Watermark); used.Sub(m.Used) > time.Hour {
				m.Used = used
				stale = append(stale, m)
			}
		case now.Sub(m.Used) > unusedFor && newest.Sub(m.Used) > unusedFor:
			deleted = append(deleted, m.Key)
		}
		return nil
	})
	for _, m := range stale { // a bucket must not be changed while it is iterated
		if err == nil {
			err = putMeta(tx.Bucket(bucketName(m.Key)), m)
		}
	}
	for _, key := range deleted {
		if err == nil {
			err = tx.DeleteBucket(bucketName(key))
		}
	}
	if err == nil && len(stale) == 0 && len(deleted) == 0 {
		err = errUnchanged
	}
	return deleted, err
}

func putLayout(tx *bbolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists(layoutBucket)
	if err != nil || b.Get(versionKey) != nil {
		return err
	}
	rec, err := encodeRecord(layoutRecord{Version: layoutVersion})
	if err != nil {
		return err
	}
	return b.Put(versionKey, rec)
}

func getMeta(b *bbolt.Bucket) (m sourceMeta, err error) {
	err = decodeRecord(b.Get(metaKey), &m)
	return m, err
}

func putMeta(b *bbolt.Bucket, m sourceMeta) error {
	rec, err := encodeRecord(m)
	if err != nil {
		return err
	}
	if len(rec) > maxMeta {
		return fmt.Errorf("%d unread ranges take %d bytes: at most %d can be stored", len(m.Unread), len(rec), maxMeta)
	}
	return b.Put(metaKey, rec)
}

func eachSource(tx *bbolt.Tx, do func(sourceMeta) error) error {
	return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if !bytes.HasPrefix(name, sourcePrefix) || b == nil {
			return nil
		}
		m, err := getMeta(b)
		if err != nil {
			return err
		}
		return do(m)
	})
}

// apply is the transaction of a commit. c is clean.
func apply(tx *bbolt.Tx, key Key, c Change, now time.Time) error {
	if err := putLayout(tx); err != nil { // an open writes nothing
		return err
	}
	b, err := tx.CreateBucketIfNotExists(bucketName(key))
	if err != nil {
		return err
	}
	m := sourceMeta{Key: key}
	if rec := b.Get(metaKey); rec != nil {
		if err := decodeRecord(rec, &m); err != nil {
			return err
		}
	}
	if !c.Watermark.IsZero() {
		m.Watermark = c.Watermark
	}
	m.Unread = c.Unread
	if !c.Succeeded.IsZero() {
		m.Succeeded = c.Succeeded
	}
	m.Used = latest(now, m.Watermark)
	if err := putMeta(b, m); err != nil {
		return err
	}
	ids, err := b.CreateBucketIfNotExists(idsBucket)
	if err != nil {
		return err
	}
	// Full pages suit rows that come in the order of their age, half-full ones (bbolt's default) late rows between
	// them: 100,000 rows took 8.7 and 7.5 MB with 0.5, 6.5 and 8.7 MB with 0.75, 5.4 and 12.2 MB with 0.9.
	ids.FillPercent = 0.75
	var buf [entryKey]byte
	for _, e := range ordered(c.Drop) {
		if err := ids.Delete(e.key(&buf)); err != nil {
			return err
		}
	}
	// In order, because bbolt splits a page at the end of the transaction only: until then each insertion moves what
	// comes after it.
	for _, e := range ordered(c.Add) {
		if err := ids.Put(e.key(&buf), nil); err != nil {
			return err
		}
	}
	return nil
}

func ordered(entries []Entry) []Entry {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, Entry.Compare)
	return sorted
}

// load is the transaction of a Load.
func load(tx *bbolt.Tx, key Key) (Snapshot, error) {
	var snap Snapshot
	own, prefix := bucketName(key), tenantPrefix(key)
	c := tx.Cursor()
	for name, _ := c.Seek(prefix); bytes.HasPrefix(name, prefix); name, _ = c.Next() {
		b := tx.Bucket(name)
		m, err := getMeta(b)
		if err != nil {
			return snap, err
		}
		if !bytes.Equal(name, own) {
			snap.Meet(m.Watermark, m.Unread)
			continue
		}
		snap.Found, snap.Watermark, snap.Unread, snap.Succeeded = true, m.Watermark, m.Unread, m.Succeeded
		if snap.IDs, err = loadIDs(b.Bucket(idsBucket)); err != nil {
			return snap, fmt.Errorf("source %s: %w", key, err)
		}
	}
	return snap, nil
}

func loadIDs(b *bbolt.Bucket) ([]Entry, error) {
	if b == nil {
		return nil, damaged("it has no ids")
	}
	n := b.Stats().KeyN
	if n == 0 {
		return nil, nil
	}
	all := make([]Entry, 0, n)
	err := b.ForEach(func(k, _ []byte) error {
		if len(k) != entryKey {
			return damaged("an id of %d bytes", len(k))
		}
		all = append(all, decodeEntry(k))
		return nil
	})
	return all, err
}
