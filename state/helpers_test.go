package state

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

// childEnv makes this test binary act as another process: see children in crash_test.go.
const childEnv = "STATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if kind, path, ok := strings.Cut(os.Getenv(childEnv), " "); ok {
		if err := children[kind](path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var keys atomic.Int64

// newKey is a Key that no other test uses.
func newKey(t testing.TB) Key {
	return Key{API: "siem", Place: "public/eu", Tenant: fmt.Sprintf("%s %d", t.Name(), keys.Add(1)),
		Filters: "machinegroups=a,b"}
}

// opener opens one kind of store; where is ignored by the one in memory.
type opener struct {
	name string
	open func(where string, key Key) (Store, error)
}

var openers = []opener{
	{"memory", func(_ string, key Key) (Store, error) { return OpenMemory(key) }},
	{"file", func(where string, key Key) (Store, error) {
		return OpenFile(filepath.Join(where, "state.db"), key, nil)
	}},
}

// eachStore runs a test of the behaviour that both kinds of store share. open closes the store at the end, if need be.
func eachStore(t *testing.T, test func(t *testing.T, open func(Key) Store)) {
	for _, kind := range openers {
		t.Run(kind.name, func(t *testing.T) {
			where := tempDir(t)
			test(t, func(key Key) Store {
				t.Helper()
				s, err := kind.open(where, key)
				if err != nil {
					t.Fatalf("open: %v", err)
				}
				t.Cleanup(func() { _ = s.Close() })
				return s
			})
		})
	}
}

// tempDir is a directory whose state files have to be sound when the test ends.
func tempDir(t testing.TB) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.db"))
		for _, path := range paths {
			mustBeSound(t, path)
		}
	})
	return dir
}

// mustBeSound fails the test unless both our check and that of bbolt accept the file. Nobody else may have it open.
func mustBeSound(t testing.TB, path string) {
	t.Helper()
	fd, err := os.Open(path)
	if err != nil {
		t.Errorf("the file cannot be read: %v", err)
		return
	}
	defer fd.Close()
	info, err := fd.Stat()
	if err != nil || info.Size() == 0 {
		return
	}
	if err := check(fd, info.Size()); err != nil {
		t.Errorf("our check: %v", err)
		return
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Errorf("bbolt: %v", err)
		return
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt's check: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func mustCommit(t testing.TB, s Store, c Change) {
	t.Helper()
	if err := s.Commit(c); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func mustLoad(t testing.TB, s Store) Snapshot {
	t.Helper()
	snap, err := s.Load()
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return snap
}

func mustClose(t testing.TB, s Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func mustOpen(t testing.TB, path string, key Key) Store {
	t.Helper()
	s, err := OpenFile(path, key, nil)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func wantLoad(t testing.TB, s Store, want Snapshot) {
	t.Helper()
	if diff := differ(want, mustLoad(t, s)); diff != "" {
		t.Fatalf("load (-want +got):\n%s", diff)
	}
}

// differ is cmp.Diff, which takes a second for some 10,000 rows, but for the case that there is no difference.
func differ(want, got Snapshot) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}

// logTo returns a logger and the text that it wrote.
func logTo() (*slog.Logger, *bytes.Buffer) {
	var text bytes.Buffer
	return slog.New(slog.NewTextHandler(&text, nil)), &text
}

// at is a watermark that tells its number.
func at(i int) time.Time { return time.Unix(1_700_000_000+int64(i), 100).UTC() }
