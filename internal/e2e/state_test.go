package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A state file that another process has locked: refused at start after about 5 s, with the reason.
func TestALockedStateFileIsRefused(t *testing.T) {
	everywhere(t, func(w *world) {
		db := filepath.Join(w.TempDir(), "defender.db")
		file, err := os.OpenFile(db, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { file.Close() })
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			w.Fatal(err)
		}
		begin := time.Now()
		said := w.refused(10*time.Second, w.stanza("db "+db))
		if took := time.Since(begin); took < 4*time.Second || took > 9*time.Second {
			w.Errorf("refused after %s", took)
		}
		if len(said) != 1 || !strings.Contains(said[0], db) || !strings.Contains(said[0], "another process") {
			w.Errorf("said %q", said)
		}
	})
}

// A damaged state file is moved aside with a warning, and pulling starts from initial_lookback.
func TestADamagedStateFileIsMovedAside(t *testing.T) {
	everywhere(t, func(w *world) {
		now := w.svc.Now()
		gen := generator(1)
		for range 20 {
			w.svc.Add(gen.Alert(now.Add(-40*time.Minute)), gen.Alert(now.Add(-5*time.Minute)))
		}
		db := filepath.Join(w.TempDir(), "defender.db")
		h := w.start("", w.stanza("db "+db, "initial_lookback 1h"))
		w.awaitAll(20*time.Second, of(w.svc))
		h.MustStop(w.T, grace)
		exactly(w.T, "alerts", of(w.svc), w.arrived())

		text, err := os.ReadFile(db)
		if err != nil {
			w.Fatal(err)
		}
		copy(text[len(text)/4:], bytes.Repeat([]byte{0xaa}, len(text)/2))
		if err := os.WriteFile(db, text, 0o600); err != nil {
			w.Fatal(err)
		}
		h = w.start("", w.stanza("db "+db, "initial_lookback 10m"))
		w.says(h, 10*time.Second, "warn", "the state file is damaged: it was moved aside")
		await(w.T, 20*time.Second, "the alerts of the lookback again", func() bool { return w.count() == 60 })
		w.polls(3)
		h.MustStop(w.T, grace)
		arrived := w.arrived()
		for _, row := range of(w.svc) {
			want := 1
			if row.LastProcessed.After(now.Add(-10 * time.Minute)) {
				want = 2
			}
			if arrived[row.ID] != want {
				w.Errorf("%s, processed %s before, came %d times", row.ID, now.Sub(row.LastProcessed), arrived[row.ID])
			}
		}
		aside, err := filepath.Glob(db + ".damaged-*")
		if err != nil || len(aside) != 1 {
			w.Fatalf("moved aside: %q, %v", aside, err)
		}
		if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, text) {
			w.Errorf("what was moved aside is not the damaged file (%v)", err)
		}
	})
}

// The disk is full while the state is committed: pulling goes on, a line warns, the commit comes when there is room
// again.
func TestAFullDiskDoesNotStopThePulling(t *testing.T) {
	everywhere(t, func(w *world) {
		disk := tmpfs(w.T, "size=512k")
		stanza := w.stanza("db "+filepath.Join(disk, "defender.db"), "initial_lookback 15m", "overlap 30s")
		history(w.svc, 50, 10*time.Minute)
		h := w.start("", stanza)
		w.awaitAll(20*time.Second, of(w.svc))

		filler := filepath.Join(disk, "filler")
		fill(w.T, filler)
		history(w.svc, 2_000, 5*time.Second) // the file has to grow for them
		w.awaitAll(30*time.Second, of(w.svc))
		w.says(h, 30*time.Second, "warn", "cannot store what was pulled")
		history(w.svc, 71, 4*time.Second)
		w.awaitAll(20*time.Second, of(w.svc))

		if err := os.Remove(filler); err != nil {
			w.Fatal(err)
		}
		w.says(h, 30*time.Second, "info", "the state is stored again")
		h.MustStop(w.T, grace)
		h = w.start("", stanza)
		history(w.svc, 41, 3*time.Second)
		w.awaitAll(20*time.Second, of(w.svc))
		w.polls(3)
		h.MustStop(w.T, grace)
		exactly(w.T, "alerts", of(w.svc), w.arrived())
	})
}

// A state file in a directory that cannot be written is refused at start.
func TestAReadOnlyDirectoryIsRefused(t *testing.T) {
	everywhere(t, func(w *world) {
		dir := w.TempDir()
		if os.Geteuid() == 0 { // whom no mode keeps out
			dir = tmpfs(w.T, "size=64k")
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				w.Fatal(err)
			}
		} else if err := os.Chmod(dir, 0o500); err != nil {
			w.Fatal(err)
		}
		db := filepath.Join(dir, "defender.db")
		said := w.refused(10*time.Second, w.stanza("db "+db))
		if len(said) != 1 || !strings.Contains(said[0], db) || !strings.Contains(said[0], "not writable") {
			w.Errorf("said %q", said)
		}
	})
}

// tmpfs mounts a file system of its own for the rest of the test, or skips it. Call it before what uses it is started.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Skipf("cannot mount a small file system (only root can): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill writes a file that takes all the room there is.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
