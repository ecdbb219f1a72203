package hostile

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// pace is how a soak runs. The service's clock does not run evenly: it jumps once a second. The engine goes on from a
// Date by its own monotonic clock and disbelieves one that is more than 10 s off until the next confirms it; under a
// clock of sixty times the speed no two Dates would ever agree. Under one that jumps, the first answer after a jump
// is doubted and the next confirms it, which takes windows of at least two steps: hence the overlap of two.
type pace struct {
	wall    time.Duration // how long it runs
	jump    time.Duration // of the service's clock, each second
	rate    int           // alerts a second of the service
	faulty  float64       // share of requests with a fault
	retain  time.Duration // how long the service remembers a row, far above any backlog
	overlap time.Duration
	// share of wall after which memory must be flat: the dedup set spans an hour of the service and the overlap
	warm float64
}

// soakPace is the pace, for ten hours of the service's clock or sixty times what SOAK says, such as 1h.
// Without SOAK it is one that comes past the dedup set's hour within seconds.
func soakPace() pace {
	if !soaking {
		return pace{wall: 12 * time.Second, jump: 10 * time.Minute, rate: 2, faulty: 0.1, retain: 6 * time.Hour,
			warm: 0.7, overlap: 20 * time.Minute}
	}
	wall, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		wall = 10 * time.Minute
	}
	return pace{wall: max(wall, 5*time.Minute), jump: time.Minute, rate: 100, faulty: 0.05, retain: time.Hour,
		warm: 0.6, overlap: 2 * time.Minute}
}

// soakFaults are those after which a reader need not wait for minutes of the service's time.
var soakFaults = []string{
	"401", "429", "429date", "500", "503", "refused", "reset", "late", "cut", "cutreset", "cutclean", "garble", "html",
	"empty", "object", "open",
}

// Nothing grows and nothing is lost or repeated, however long it runs and whatever fails meanwhile.
func TestSoak(t *testing.T) {
	t.Parallel()
	p := soakPace()
	f := newFront(t, defendersim.New(defendersim.Config{Retain: p.retain, JournalSize: 1000, Seed: 7,
		Modes: defendersim.Modes{Gzip: true}}))
	hook, err := defendersim.RandomFaults(7, p.faulty, soakFaults...)
	if err != nil {
		t.Fatal(err)
	}
	f.svc.OnRequest(hook)
	w := &world{T: t, svc: f.svc, dir: t.TempDir()}
	db := filepath.Join(w.dir, "state.db")
	o := options(w.config("debug", f.stanza("db "+db, fmt.Sprintf("overlap %ds", int(p.overlap.Seconds())),
		fmt.Sprintf("max_window %ds", int(p.jump.Seconds())),
		"initial_lookback 1m", "read_timeout 5s")))
	every := max(time.Second, p.wall/1000)
	said := &goroutines{transcript: transcript{most: 64 << 20}}
	o.Stderr = said
	o.Env = append(o.Env, fmt.Sprintf("GODEBUG=scheddetail=1,schedtrace=%d", every.Milliseconds()))
	m := newMill(f.svc, p)
	o.OnRecord = m.take
	m.fill()
	h := flbhost.Run(t, o)

	// A jump before the first poll would leave what lies before it out of initial_lookback.
	await(t, h, "the first alerts", func() bool { handed, _ := m.result(); return handed > 0 })
	watch := &watcher{h: h, db: db}
	// Both are of the service's clock: on a busy machine it takes longer.
	begin, whole := f.svc.Now(), time.Duration(p.wall.Seconds())*p.jump
	passed := func() time.Duration { return f.svc.Now().Sub(begin) }
	warm, start := 0, time.Now()
	jump := time.NewTicker(time.Second)
	defer jump.Stop()
	look := time.NewTicker(every / 4)
	defer look.Stop()
	for passed() < whole {
		if time.Since(start) > 4*p.wall+limit {
			t.Fatalf("only %v of %v have passed in %v", passed(), whole, time.Since(start))
		}
		select {
		case <-jump.C:
			m.fill()
			// On a busy machine the service's clock waits: it would forget rows before they can be asked for.
			if handed, _ := m.result(); m.made-handed < 8*p.rate*int(p.jump.Seconds()) {
				f.svc.Shift(p.jump - time.Second)
			}
		case <-look.C:
			watch.look(t, said)
			if float64(passed()) < p.warm*float64(whole) {
				warm = len(watch.samples)
			}
		}
	}
	last, lasted := m.made, passed().Round(time.Minute)
	had, since := 0, time.Now()
	for n := 0; !m.all(last) && time.Since(since) < limit; n++ { // on a busy machine it is behind, and comes nearer
		if <-jump.C; n < 6 {
			f.svc.Shift(p.jump - time.Second) // what is late becomes visible
		}
		if handed, _ := m.result(); handed > had {
			had, since = handed, time.Now()
		}
	}
	h.MustStop(t, limit)
	quiet(t, h)

	stats := f.svc.Stats()
	injected := 0
	for _, n := range stats.Faults {
		injected += n
	}
	steady := watch.samples[warm:]
	handed, repeated := m.result()
	report := fmt.Sprintf("soak of %v (%v of the service): %d rows served, %d made, %d delivered, %d repeated, %d "+
		"lost, %d faults in %d requests, %s",
		time.Since(start).Round(time.Second), lasted, stats.Rows, last, handed, repeated, last-handed, injected,
		stats.Tokens+stats.Alerts,
		watch.quarters())
	t.Log(report)
	if soaking {
		fmt.Println(report)
	}
	if handed != last || repeated > 0 {
		t.Errorf("%d lost, %d repeated", last-handed, repeated)
	}
	if injected == 0 {
		t.Error("no fault: nothing was soaked")
	}
	flat(t, "resident memory", steady, func(s sample) float64 { return mbs(s.rss) }, 5)
	// A loaded machine has more connections in the pool, two goroutines each, and more threads of the Go runtime.
	flat(t, "threads", steady, func(s sample) float64 { return float64(s.threads) }, 8)
	flat(t, "file descriptors", steady, func(s sample) float64 { return float64(s.fds) }, 8)
	flat(t, "goroutines", steady, func(s sample) float64 { return float64(s.goroutines) }, 8)
	// An entry has 40 bytes in its page; pages are half full at worst, each commit writes them anew beside the old
	// ones, and a file of more than 16 MB grows by as much.
	entries := float64(p.rate) * (time.Hour + 2*p.overlap + 10*p.jump).Seconds()
	if size := float64(steady[len(steady)-1].db); size > 4*40*entries+16*mb {
		t.Errorf("the state file has %.1f MB for %.0f entries at most", size/mb, entries)
	}
	f.search(t, "the log", said.text())
	f.searchFiles(t, w.dir, func(string) bool { return true })
	if f.stray > 0 || stats.StrayTokens > 0 {
		t.Errorf("%d credentials went to the wrong side", f.stray+stats.StrayTokens)
	}
}

// mill makes numbered alerts ahead of the service's clock, and notes which of them came.
type mill struct {
	svc    *defendersim.Service
	p      pace
	rnd    *rand.Rand
	format string
	until  time.Time // alerts are made up to this service time
	made   int

	mu       sync.Mutex
	came     []uint64 // a bit an alert
	handed   int
	repeated int
}

func newMill(svc *defendersim.Service, p pace) *mill {
	return &mill{svc: svc, p: p, rnd: rand.New(rand.NewPCG(1, 2)), until: svc.Now(), format: rowFormat()}
}

// fill makes the alerts of the next jumps, before they can be seen. A fifth of them shows late, the last just in time.
func (m *mill) fill() {
	gap := time.Second / time.Duration(m.p.rate)
	var all []defendersim.Alert
	for end := m.svc.Now().Add(2 * m.p.jump); m.until.Before(end); m.until = m.until.Add(gap) {
		at := m.until.Truncate(100)
		if m.rnd.IntN(10) == 0 {
			at = at.Truncate(time.Second) // many have the same time
		}
		a := defendersim.Alert{AlertID: "soak-" + strconv.Itoa(m.made), LastProcessed: at,
			Processed: at.UTC().Format("2006-01-02T15:04:05.9999999Z")}
		a.FullID = a.AlertID + ":x"
		if m.rnd.IntN(5) == 0 {
			a.VisibleAt = at.Add(time.Duration(m.rnd.Int64N(int64(m.p.overlap) + 1)))
		}
		a.Text = fmt.Appendf(nil, m.format, a.AlertID, a.Processed)
		all = append(all, a)
		m.made++
	}
	m.svc.Add(all...)
}

func (m *mill) take(r flbhost.Record) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.Body.String("AlertId"), "soak-"))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil || n < 0 || n/64 > len(m.came)+1<<20 {
		m.repeated++ // no alert of ours
		return
	}
	for n/64 >= len(m.came) {
		m.came = append(m.came, make([]uint64, 1024)...)
	}
	if m.came[n/64]&(1<<(n%64)) != 0 {
		m.repeated++
		return
	}
	m.came[n/64] |= 1 << (n % 64)
	m.handed++
}

func (m *mill) result() (handed, repeated int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.handed, m.repeated
}

func (m *mill) all(n int) bool {
	handed, _ := m.result()
	return handed >= n
}

// sample is what a host takes at one moment.
type sample struct {
	rss, db                  int64
	threads, fds, goroutines int
}

type watcher struct {
	h       *flbhost.Host
	db      string
	samples []sample
}

func (w *watcher) look(t *testing.T, g *goroutines) {
	stats, err := w.h.Stats()
	if err != nil {
		t.Fatal(err)
	}
	s := sample{rss: stats.RSS, threads: stats.Threads, fds: stats.FDs, goroutines: g.now()}
	if info, err := os.Stat(w.db); err == nil {
		s.db = info.Size()
	}
	w.samples = append(w.samples, s)
}

// quarters tells of the samples at each quarter.
func (w *watcher) quarters() string {
	var rss, db, threads, fds, gs []string
	for i := 1; i <= 4; i++ {
		s := w.samples[i*(len(w.samples)-1)/4]
		rss = append(rss, fmt.Sprintf("%.1f", mbs(s.rss)))
		db = append(db, fmt.Sprintf("%.2f", mbs(s.db)))
		threads = append(threads, strconv.Itoa(s.threads))
		fds = append(fds, strconv.Itoa(s.fds))
		gs = append(gs, strconv.Itoa(s.goroutines))
	}
	return fmt.Sprintf("at the quarters: RSS %s MB, state file %s MB, threads %s, file descriptors %s, goroutines %s",
		strings.Join(rss, " "), strings.Join(db, " "), strings.Join(threads, " "), strings.Join(fds, " "),
		strings.Join(gs, " "))
}

// flat fails when the medians of the four quarters of the samples lie further apart than allowed.
func flat(t *testing.T, what string, samples []sample, of func(sample) float64, allowed float64) {
	t.Helper()
	var medians []float64
	for i := range 4 {
		var values []float64
		for _, s := range samples[i*len(samples)/4 : (i+1)*len(samples)/4] {
			values = append(values, of(s))
		}
		if len(values) == 0 {
			t.Fatalf("%s: no samples", what)
		}
		slices.Sort(values)
		medians = append(medians, values[len(values)/2])
	}
	if slices.Max(medians)-medians[0] > allowed {
		t.Errorf("%s: not flat: %.1f in four quarters", what, medians)
	}
}

// goroutines takes the scheduler's reports out of the log and keeps the rest.
type goroutines struct {
	transcript
	mu     sync.Mutex
	counts int // of the report at hand
	last   int // of the last whole one
}

var (
	schedHead = regexp.MustCompile(`^SCHED \d+ms:`)
	schedG    = regexp.MustCompile(`^ +G\d+: status=(\d+)`)
	schedMP   = regexp.MustCompile(`^ +[MP]\d+: `)
)

func (g *goroutines) Write(p []byte) (int, error) {
	line := strings.TrimRight(string(p), "\n")
	g.mu.Lock()
	defer g.mu.Unlock()
	switch match := schedG.FindStringSubmatch(line); {
	case match != nil:
		if match[1] != "6" { // dead ones are kept for reuse
			g.counts++
		}
	case schedHead.MatchString(line):
		if g.counts > 0 {
			g.last = g.counts
		}
		g.counts = 0
	case schedMP.MatchString(line):
	default:
		return g.transcript.Write(p)
	}
	return len(p), nil
}

func (g *goroutines) now() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}
