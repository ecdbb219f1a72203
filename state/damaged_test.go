package state

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

var sampleKey, besideKey = Key{API: "siem", Tenant: "sample"}, Key{API: "siem", Tenant: "sample", Filters: "beside"}

// The sample's content after its last commit and after the one before, to which bbolt goes back when the last meta page
// is lost.
var sampleStates = []Snapshot{
	{Found: true, Watermark: at(9), IDs: entries(300, 900), Unread: sampleGaps, Neighbour: at(1)},
	{Found: true, Watermark: at(8), IDs: entries(0, 900), Unread: sampleGaps, Neighbour: at(1)},
}

// more than a page
var sampleGaps = slices.Repeat([]UnreadRange{{Since: at(1), Until: at(2), Reason: strings.Repeat("long ", 200)}}, 6)

// sample is a state file with all that one can have: two sources, branch, leaf, overflow, inline and free pages.
var sample = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "state.db")
	commit := func(key Key, c Change) {
		s, err := OpenFile(path, key, nil)
		if err == nil {
			err = s.Commit(c)
		}
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			panic(err)
		}
	}
	commit(besideKey, Change{Watermark: at(1), Add: entries(0, 3)})
	commit(sampleKey, Change{Watermark: at(7), Add: entries(0, 800)})
	commit(sampleKey, Change{Watermark: at(8), Add: entries(800, 900), Unread: sampleGaps})
	commit(sampleKey, Change{Watermark: at(9), Drop: entries(0, 300), Unread: sampleGaps})
	b, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	return b
})

// openDamaged opens a file with the given bytes, which may end in two ways: it works and holds one of the states of the
// sample, or it was moved aside as it was, with a warning, and an empty one works in its place. moved says which.
func openDamaged(t testing.TB, path string, data []byte) (moved bool) {
	t.Helper()
	for _, old := range asides(t, path) {
		if err := os.Remove(old); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	log, text := logTo()
	s, err := OpenFile(path, sampleKey, log)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer s.Close()
	old := asides(t, path)
	moved = len(old) > 0
	snap := mustLoad(t, s)
	if moved {
		aside, err := os.ReadFile(old[0])
		if err != nil || !bytes.Equal(aside, data) || len(old) > 1 {
			t.Fatalf("%d files aside, unchanged: %v (%v)", len(old), bytes.Equal(aside, data), err)
		}
		if got := text.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, path) ||
			!strings.Contains(got, old[0]) || !strings.Contains(got, "initial_lookback") {
			t.Fatalf("the log says %q", got)
		}
		if diff := differ(Snapshot{}, snap); diff != "" {
			t.Fatalf("after a new start (-want +got):\n%s", diff)
		}
	} else if text.Len() > 0 {
		t.Fatalf("the log says %q", text)
	}
	// Write to all of it: a page that is damaged in a way that the check does not see would be met now.
	c := Change{Watermark: at(10), Add: entries(900, 1800), Drop: snap.IDs}
	mustCommit(t, s, c)
	after := mustLoad(t, s)
	if diff := differ(Snapshot{Found: true, Watermark: at(10), IDs: c.Add, Neighbour: snap.Neighbour},
		after); diff != "" {
		t.Fatalf("after a commit (-want +got):\n%s", diff)
	}
	if moved {
		return true
	}
	for _, state := range sampleStates {
		if reflect.DeepEqual(state, snap) {
			return false
		}
	}
	t.Fatalf("neither moved aside nor whole: %+v", snap)
	return false
}

func asides(t testing.TB, path string) []string {
	t.Helper()
	found, err := filepath.Glob(path + asideMark + "*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func withoutSync(t testing.TB) {
	boltOptions.NoSync = true
	t.Cleanup(func() { boltOptions.NoSync = false })
}

func TestTheSampleHasAllKindsOfPages(t *testing.T) {
	path := filepath.Join(tempDir(t), "state.db")
	if err := os.WriteFile(path, sample(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, path, sampleKey).(*fileStore)
	err := s.file.db.View(func(tx *bbolt.Tx) error {
		of := tx.Bucket(bucketName(sampleKey)).Stats()
		beside := tx.Bucket(bucketName(besideKey)).Stats()
		if of.BranchPageN == 0 || of.LeafPageN < 4 || of.LeafOverflowN == 0 || beside.InlineBucketN == 0 {
			t.Errorf("%+v %+v", of, beside)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantLoad(t, s, sampleStates[0])
	mustClose(t, s)
	if openDamaged(t, filepath.Join(t.TempDir(), "state.db"), sample()) {
		t.Error("the unharmed sample was moved aside")
	}
}

func TestADamagedFileIsMovedAside(t *testing.T) {
	withoutSync(t)
	page := os.Getpagesize()
	garbage := make([]byte, 5*page)
	for i := range garbage {
		garbage[i] = byte(rand.Uint32())
	}
	patched := func(off int, b ...byte) []byte {
		data := slices.Clone(sample())
		copy(data[off:], b)
		return data
	}
	both := patched(16, 1, 2, 3, 4)
	copy(both[page+16:], both[16:20])
	for _, c := range []struct {
		name string
		data []byte
		ok   bool
	}{
		{"empty: a new file", nil, true},
		{"one byte", []byte{1}, false},
		{"text", []byte("this is no database\n"), false},
		{"garbage", garbage, false},
		{"zeros", make([]byte, 4*page), false},
		{"wrong magic in both meta pages", both, false},
		{"wrong magic in one meta page", patched(16, 1, 2, 3, 4), true},
		{"one meta page only", sample()[:page], false},
		{"cut to half", sample()[:len(sample())/2], false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "state.db")
			if c.data == nil {
				mustClose(t, mustOpen(t, path, sampleKey))
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
				wantLoad(t, mustOpen(t, path, sampleKey), Snapshot{})
				if old := asides(t, path); len(old) > 0 {
					t.Errorf("moved aside: %v", old)
				}
				return
			}
			if moved := openDamaged(t, path, c.data); moved == c.ok {
				t.Errorf("moved aside: %v", moved)
			}
		})
	}
}

// Each page in turn is lost in each way. Free pages and the older meta page do no harm.
func TestADamagedPageIsNeverUsed(t *testing.T) {
	withoutSync(t)
	path := filepath.Join(tempDir(t), "state.db")
	page := os.Getpagesize()
	pages := len(sample()) / page
	random := rand.New(rand.NewPCG(1, 2))
	moved, kept := 0, 0
	for i := range pages {
		for _, damage := range []func(b []byte){
			func(b []byte) { clear(b) },
			func(b []byte) { clear(b[len(b)/2:]) },
			func(b []byte) { clear(b[:pageHeader]) },
			func(b []byte) {
				for i := range b {
					b[i] = byte(random.Uint32())
				}
			},
			func(b []byte) { copy(b, sample()[(i+1)%pages*page:]) }, // another page's content
		} {
			data := slices.Clone(sample())
			damage(data[i*page : (i+1)*page])
			if bytes.Equal(data, sample()) {
				continue
			}
			if openDamaged(t, path, data) {
				moved++
			} else {
				kept++
			}
		}
	}
	t.Logf("%d moved aside, %d not harmed", moved, kept)
	if moved < pages || kept == 0 {
		t.Errorf("of %d pages, %d damages were found and %d did no harm", pages, moved, kept)
	}
}

func TestTheNewestThreeDamagedFilesStay(t *testing.T) {
	withoutSync(t)
	dir := tempDir(t)
	path := filepath.Join(dir, "state.db")
	other := path + asideMark + "notes" // not ours
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range byte(5) {
		if err := os.WriteFile(path, []byte{'d', '0' + i}, 0o600); err != nil {
			t.Fatal(err)
		}
		mustClose(t, mustOpen(t, path, sampleKey))
	}
	var texts []string
	for _, name := range asides(t, path) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
		if info, err := os.Stat(name); name != other && (err != nil || info.Mode() != 0o600) {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if want := []string{"d2", "d3", "d4", ""}; !slices.Equal(texts, want) {
		t.Errorf("aside are %q, not %q", texts, want)
	}
	stamp, _ := strings.CutPrefix(asides(t, path)[0], path+asideMark)
	if when, err := time.Parse(asideTime, stamp); err != nil || time.Since(when).Abs() > time.Minute {
		t.Errorf("the name says %s", stamp)
	}
}

// tolerate opens a file of any bytes and uses it. Whatever they are, there is no panic, and a file that was let through
// works.
func tolerate(t interface{ Fatalf(string, ...any) }, path string, data []byte) {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	s, err := OpenFile(path, sampleKey, nil)
	if err != nil {
		return
	}
	defer s.Close()
	snap, err := s.Load()
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	for i, c := range []Change{{Add: entries(0, 1000), Drop: snap.IDs}, {Add: entries(1000, 2000),
		Unread: sampleGaps}} {
		c.Watermark = at(10 + i)
		if err := s.Commit(c); err != nil {
			t.Fatalf("commit: %v", err)
		}
	}
	if snap, err = s.Load(); err != nil || !snap.Watermark.Equal(at(11)) || len(snap.IDs) != 2000 {
		t.Fatalf("%d entries, watermark %s, %v", len(snap.IDs), snap.Watermark, err)
	}
}

// Numbers of the format, one or a few of them wrong, everything else right: what a blind fuzzer seldom hits.
func TestWrongNumbersAreSurvived(t *testing.T) {
	withoutSync(t)
	page := os.Getpagesize()
	pages := len(sample()) / page
	path := filepath.Join(t.TempDir(), "state.db")
	rapid.Check(t, func(rt *rapid.T) {
		data := slices.Clone(sample())
		for range rapid.IntRange(1, 3).Draw(rt, "wrong numbers") {
			at := rapid.IntRange(0, pages-1).Draw(rt, "page") * page
			if rapid.Bool().Draw(rt, "header") {
				at += rapid.IntRange(0, pageHeader/2-1).Draw(rt, "place") * 2
			} else { // element, free page, meta
				at += pageHeader + rapid.IntRange(0, 40).Draw(rt, "element")*8 + rapid.SampledFrom([]int{0, 4}).Draw(rt,
					"half")
			}
			low := rapid.Uint64Range(0, uint64(pages)+2)
			number := rapid.OneOf(low, rapid.Map(low, func(n uint64) uint64 { return n * elementSize }),
				rapid.SampledFrom([]uint64{0xFFFF, 1 << 31, 1<<32 - 1, 1<<63 - 1, 1<<64 - 1,
					1<<32 - elementSize})).Draw(rt, "number")
			switch rapid.IntRange(1, 3).Draw(rt, "size") {
			case 1:
				binary.NativeEndian.PutUint16(data[at:], uint16(number))
			case 2:
				binary.NativeEndian.PutUint32(data[at:], uint32(number))
			case 3:
				binary.NativeEndian.PutUint64(data[at:], number)
			}
		}
		if rapid.Bool().Draw(rt, "seal") {
			seal(data)
		}
		tolerate(rt, path, data)
	})
}

// seal puts the checksums of the meta pages right.
func seal(data []byte) {
	for _, at := range []int{0, os.Getpagesize()} {
		meta := data[at+pageHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:metaSize-8])
		binary.NativeEndian.PutUint64(meta[metaSize-8:], sum.Sum64())
	}
}

func FuzzOpen(f *testing.F) {
	withoutSync(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		tolerate(t, filepath.Join(t.TempDir(), "state.db"), data)
	})
}

// FuzzPatch changes some bytes of the sample: patch is a list of 2 bytes of place (in units of 4 bytes), 1 of length
// and as many as that to write.
func FuzzPatch(f *testing.F) {
	withoutSync(f)
	f.Fuzz(func(t *testing.T, patch []byte, sealed bool) {
		data := slices.Clone(sample())
		for len(patch) > 3 {
			at := int(binary.BigEndian.Uint16(patch)) * 4 % len(data)
			n := min(int(patch[2]), len(patch)-3)
			copy(data[at:], patch[3:3+n])
			patch = patch[3+n:]
		}
		if sealed {
			seal(data)
		}
		tolerate(t, filepath.Join(t.TempDir(), "state.db"), data)
	})
}
