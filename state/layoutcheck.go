package state

import (
	"bytes"
	"fmt"
	"io"
)

// check says whether r, size bytes long, is a file that this package can use: nil, ErrDamaged, ErrNewer, ErrForeign,
// or an error of reading it. An empty file is a new one.
func check(r io.ReaderAt, size int64) error {
	if size == 0 {
		return nil
	}
	var magic [len(sqliteMagic)]byte
	if _, err := r.ReadAt(magic[:], 0); err == nil && string(magic[:]) == sqliteMagic {
		// The db key of Fluent Bit's own inputs is such a file, and a copied stanza names it easily.
		return fmt.Errorf("%w (SQLite, as the db of Fluent Bit's other inputs)", ErrForeign)
	}
	var l layoutCheck
	if err := walk(r, size, &l); err != nil {
		return err
	}
	return l.finish()
}

const sqliteMagic = "SQLite format 3\x00"

// layoutCheck is the visitor that checks a file for the layout above. Buckets and records that it does not know are
// left alone.
type layoutCheck struct {
	version, sources, others bool // what the file has: a version, sources, buckets of someone else
	meta, ids                bool // what the source has that is being visited
}

func (l *layoutCheck) element(path [][]byte, key, value []byte, bucket bool) error {
	if len(path) == 0 {
		switch {
		case !bucket:
			return damaged("a value outside of all buckets") // bbolt has no way to put one there
		case bytes.Equal(key, layoutBucket):
		case bytes.HasPrefix(key, sourcePrefix) && len(key) == len(sourcePrefix)+2*16:
			l.sources, l.meta, l.ids = true, false, false
		default:
			l.others = true
		}
		return nil
	}
	if len(path) == 1 && bytes.Equal(path[0], layoutBucket) && bytes.Equal(key, versionKey) {
		var rec layoutRecord
		if err := decodeRecord(value, &rec); err != nil {
			return err
		}
		if rec.Version > layoutVersion {
			return fmt.Errorf("%w (layout %d)", ErrNewer, rec.Version)
		}
		l.version = true
		return nil
	}
	if !bytes.HasPrefix(path[0], sourcePrefix) {
		return nil
	}
	switch {
	case len(path) == 1 && bytes.Equal(key, metaKey):
		l.meta = true
		if bucket || len(value) > maxMeta {
			return damaged("the meta record of a source has %d bytes", len(value))
		}
		return decodeRecord(value, new(sourceMeta))
	case len(path) == 1 && bytes.Equal(key, idsBucket):
		l.ids = true
		if !bucket {
			return damaged("the ids of a source are no bucket")
		}
	case len(path) == 2 && bytes.Equal(path[1], idsBucket) && (bucket || len(key) != entryKey):
		return damaged("an id of %d bytes", len(key))
	}
	return nil
}

func (l *layoutCheck) leave(path [][]byte) error {
	if len(path) == 1 && bytes.HasPrefix(path[0], sourcePrefix) && (!l.meta || !l.ids) {
		return damaged("a source has no meta record or no ids")
	}
	return nil
}

// finish judges the file as a whole, once all of it was visited.
func (l *layoutCheck) finish() error {
	switch {
	case l.version || !l.sources && !l.others: // ours, or a new one
		return nil
	case l.sources:
		return damaged("it has sources and no layout version")
	default:
		return ErrForeign
	}
}
