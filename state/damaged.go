package state

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// keepDamaged files that were moved aside stay for whoever wants to look into them, this one included.
	keepDamaged = 3

	asideMark = ".damaged-"
	asideTime = "20060102T150405Z" // sorts as text
)

// moveAside renames a damaged file to <path>.damaged-<UTC time>, deletes all but the newest keepDamaged of its kind, and
// returns the new name. The caller holds the file's lock.
func moveAside(path string, now time.Time) (string, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	now = now.UTC().Truncate(time.Second)
	var old []string
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), base+asideMark)
		when, err := time.Parse(asideTime, stamp)
		if !ok || err != nil || !e.Type().IsRegular() {
			continue // not ours
		}
		old = append(old, e.Name())
		now = latest(now, when.Add(time.Second)) // a name of its own, and the last in order
	}
	aside := path + asideMark + now.Format(asideTime)
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	slices.Sort(old)
	for _, name := range old[:max(0, len(old)+1-keepDamaged)] {
		_ = os.Remove(filepath.Join(dir, name)) // one too many is better than no start
	}
	syncDir(dir)
	return aside, nil
}

// syncDir makes a new name in dir last over a power failure, where the file system can do that.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // some file systems cannot; the name is in use already
		_ = d.Close()
	}
}
