package state

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// inspectTries is how often a file is read that another process keeps writing: commits come once a second at most,
	// and a reading takes about 0.1 s for a million rows.
	inspectTries = 10
	inspectPause = 100 * time.Millisecond
)

// Report is what a state file holds.
type Report struct {
	Path    string
	Bytes   int64 // of the whole file
	Held    bool  // a process has the file open, this one included
	Sources []SourceReport
}

// SourceReport is the state of one Key. Times are in UTC.
type SourceReport struct {
	Key            Key
	Watermark      time.Time // everything processed before it was fetched and is durable; zero: nothing is
	Unread         []UnreadRange
	Succeeded      time.Time // since when the API's successor is pulled in its place; zero: it is not
	IDs            int
	Oldest, Newest time.Time // the ages at the two ends of the ids; zero when there are none
	Bytes          int64     // about what it takes in the file
	// the last commit, or the last day it was open, by the later of the local and the service's clock
	Used time.Time
}

// Inspect reads the state file at path, also while another process has it open. It changes nothing, maps nothing into
// memory, and checks every page as an open does: a damaged file, one of a newer version (ErrNewer) and one of another
// program (ErrForeign) are errors.
//
// A commit writes to pages that the version before it does not use. So what was read is one version, whole, when no
// other one was complete at the end; else it is read again, ten times at most.
func Inspect(path string) (Report, error) {
	rep := Report{Path: path}
	fd, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would hang
	if err != nil {
		return rep, fmt.Errorf("state file: %w", err)
	}
	defer fd.Close()
	if info, err := fd.Stat(); err != nil {
		return rep, fmt.Errorf("state file %s: %w", path, err)
	} else if !info.Mode().IsRegular() {
		return rep, fmt.Errorf("state file %s is not a regular file", path)
	}
	// A shared lock, held while reading, keeps a writer that comes now waiting for a moment.
	switch err := unix.Flock(int(fd.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		rep.Held = true
	case err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOLCK):
		return rep, fmt.Errorf("state file %s: lock: %w", path, err)
	}
	for try := 1; ; try++ {
		before := version(fd)
		err := rep.read(fd)
		same := version(fd) == before
		switch {
		case err == nil && same:
			return rep, nil
		case err == nil:
			err = errors.New("it is written faster than it can be read: try again")
		}
		if try == inspectTries || same && !rep.Held {
			return rep, fmt.Errorf("state file %s: %w", path, err)
		}
		time.Sleep(inspectPause)
	}
}

// version is the number of the last complete transaction; 0: there is none.
func version(fd *os.File) uint64 {
	info, err := fd.Stat()
	if err != nil {
		return 0
	}
	m, err := findMeta(fd, info.Size())
	if err != nil {
		return 0
	}
	return m.txid
}

// read checks the file and notes what it holds.
func (rep *Report) read(fd *os.File) error {
	info, err := fd.Stat()
	if err != nil {
		return err
	}
	rep.Bytes, rep.Sources = info.Size(), nil
	if err := check(fd, info.Size()); err != nil || info.Size() == 0 {
		return err
	}
	v := &inspection{report: rep}
	w, err := newWalker(fd, info.Size(), v)
	if err != nil {
		return err
	}
	v.walker = w
	if err := w.walk(); err != nil {
		return err
	}
	slices.SortFunc(rep.Sources, func(a, b SourceReport) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	return nil
}

// inspection is the visitor that takes notes.
type inspection struct {
	report *Report
	walker *walker
	st     SourceReport
	pages  int // that were read when the source began
}

func (v *inspection) element(path [][]byte, key, value []byte, bucket bool) error {
	switch {
	case len(path) == 0 && bytes.HasPrefix(key, sourcePrefix):
		v.st, v.pages = SourceReport{Bytes: int64(len(key) + len(value))}, v.walker.pages
	case len(path) == 0 || !bytes.HasPrefix(path[0], sourcePrefix):
	case len(path) == 1 && bytes.Equal(key, metaKey):
		var m sourceMeta
		if err := decodeRecord(value, &m); err != nil {
			return err
		}
		v.st.Key, v.st.Watermark, v.st.Unread, v.st.Used, v.st.Succeeded = m.Key, m.Watermark.UTC(), m.Unread,
			m.Used.UTC(), m.Succeeded.UTC()
	case len(path) == 2 && bytes.Equal(path[1], idsBucket) && len(key) == entryKey:
		age := time.Unix(0, decodeEntry(key).Age).UTC()
		if v.st.IDs == 0 {
			v.st.Oldest = age
		}
		v.st.Newest = age // they come in this order
		v.st.IDs++
	}
	return nil
}

func (v *inspection) leave(path [][]byte) error {
	if len(path) == 1 && bytes.HasPrefix(path[0], sourcePrefix) {
		v.st.Bytes += int64(v.walker.pages-v.pages) * int64(v.walker.pageSize)
		v.report.Sources = append(v.report.Sources, v.st)
	}
	return nil
}
