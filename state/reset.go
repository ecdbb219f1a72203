package state

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
)

// Reset makes the state of key in the file at path begin at to: what was processed from then on is pulled again,
// including what was delivered before. Ids and unread ranges before to stay as they are; of a later to, nothing
// before it is pulled but open unread ranges. A key that the file does not hold gets a state.
//
// The file must be there and sound, and nobody may have it open: ErrLocked, at once. Nothing is changed after an error.
func Reset(path string, key Key, to time.Time) error {
	if to.IsZero() {
		return fmt.Errorf("state file %s: reset: no time was given", path)
	}
	if _, err := (Change{Watermark: to}).Clean(maxReason); err != nil {
		return err
	}
	to = to.Round(0).UTC()
	return edit(path, "reset", func(tx *bbolt.Tx) error { return reset(tx, key, to, time.Now()) })
}

// Return makes the state of key one of its own API again, after it went on with the API's successor. What is
// remembered stays. As Reset it needs the file for itself; a key that the file does not hold is an error.
func Return(path string, key Key) error {
	return edit(path, "return", func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketName(key))
		if b == nil {
			return fmt.Errorf("it holds nothing of %s", key)
		}
		m, err := getMeta(b)
		if err != nil {
			return err
		}
		m.Succeeded = time.Time{}
		return putMeta(b, m)
	})
}

// edit changes a file that nobody has open, in one transaction.
func edit(path, what string, change func(*bbolt.Tx) error) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err == nil {
		f := &boltFile{path: path, info: info, refs: 1}
		err = f.do(func(db *bbolt.DB) error { return db.Update(change) })
		err = cmp.Or(err, f.release())
	}
	if err != nil {
		return fmt.Errorf("state file %s: %s: %w", path, what, err)
	}
	return nil
}

// reset is the transaction of a Reset.
func reset(tx *bbolt.Tx, key Key, to, now time.Time) error {
	snap := Change{Watermark: to}
	if b := tx.Bucket(bucketName(key)); b != nil {
		m, err := getMeta(b)
		if err != nil {
			return err
		}
		for _, g := range m.Unread {
			if g.Since.Before(to) {
				if g.Until.After(to) {
					g.Until = to
				}
				snap.Unread = append(snap.Unread, g)
			}
		}
		if ids := b.Bucket(idsBucket); ids != nil {
			var from [entryKey]byte
			c := ids.Cursor()
			for k, _ := c.Seek(Entry{Age: to.UnixNano()}.key(&from)); k != nil; k, _ = c.Next() {
				snap.Drop = append(snap.Drop, decodeEntry(k))
			}
		}
	}
	return apply(tx, key, snap, now)
}
