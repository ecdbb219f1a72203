package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// scenarios begin with those that last longest.
var scenarios = []struct {
	name string
	play func(s *scenario)
}{
	{"gap and lost state", gapAndLostState},
	{"repeats", repeats},
	{"service", service500},
	{"throttled", throttled},
	{"forbidden", forbidden},
	{"graph links", graphLinks},
	{"broken answers", brokenAnswers},
	{"token answers", tokenAnswers},
	{"credentials", credentials},
	{"servers", servers},
	{"odd statuses", oddStatuses},
	{"tokens", tokens},
	{"wrong audience", wrongAudience},
	{"nobody there", nobodyThere},
	{"unknown authority", unknownAuthority},
	{"rows", oddRows},
	{"hidden cap and clock", capAndClock},
	{"other filters", otherFilters},
	{"paused", paused},
	{"stanza", faultyStanza},
	{"start", faultyStart},
	{"crowded", crowded},
	{"stop", lostStateAtTheStop},
	{"old core", oldCore},
	{"no metrics", noMetrics},
	{"daemon", daemon},
	{"locked state", lockedState},
	{"damaged state", damagedState},
}

// One line at the first failure, one when it is over, and nothing for those in between.
func repeats(s *scenario) {
	said := s.through(nil, defendersim.Status(500), defendersim.Status(500))
	s.once(said, "error in the service (500)", "alerts are pulled again after 2 failures")
}

// A failure that turns into another is told, with the count.
func service500(s *scenario) {
	said := s.through(nil, defendersim.Status(500), defendersim.HTML(), defendersim.Status(503),
		defendersim.EmptyBody())
	s.once(said, "error in the service (500)", "HTML or XML", "(2 failures since ", "is not available (503)",
		"an empty body", "pulled again after 4 failures")
}

func throttled(s *scenario) {
	said := s.through(nil, defendersim.Throttle(time.Second), defendersim.NoAlerts(), defendersim.Status(400),
		defendersim.CutOf(0.5, defendersim.CutBroken))
	s.once(said, "throttled (429), it asks to wait 1s", "an object without alert fields", "refused the query (400)",
		"answer cut after ")
}

func forbidden(s *scenario) {
	said := s.through(nil, defendersim.Status(403), defendersim.CutOf(0.5, defendersim.CutText),
		defendersim.Status(404),
		// net/http itself asks again when a connection in use breaks
		defendersim.ResetEarly(), defendersim.ResetEarly())
	s.once(said, "access is forbidden (403)", "before its list of alerts does", "nothing answers at "+s.srv.AlertsURL()+
		" (404)",
		"closed the connection before it answered")
}

func tokens(s *scenario) {
	s.svc.Queue(defendersim.KindToken, defendersim.Entra(7000215), defendersim.Entra(90033), defendersim.ResetEarly())
	said := s.through([]string{"read_timeout 1s"}, defendersim.Hang())
	s.once(said, "token request: AADSTS7000215: the client secret is wrong", "token request: AADSTS90033",
		"closed the connection before it answered",
		"pulled again after 3 failures", "within 1s (read_timeout)", "pulled again after 1 failure")
}

func wrongAudience(s *scenario) {
	s.svc.SetModes(func(m *defendersim.Modes) { m.NoDate = true })
	h := s.start("", s.stanza("resource https://api.securitycenter.microsoft.com", "retry_max 1s"))
	s.polls(4)
	s.says(h, 20*time.Second, "error", "the token is for https://api.securitycenter.microsoft.com (aud)")
	s.end(h)
	s.once(s.said(h, "error", "warn"), "(401), and a new one too: the token is for ", "no answer carried a usable "+
		"Date header")
}

func nobodyThere(s *scenario) {
	s.srv.Down()
	h := s.start("", s.stanza(short...))
	s.says(h, 20*time.Second, "warn", "refused the connection")
	if err := s.srv.Up(); err != nil {
		s.Fatal(err)
	}
	s.says(h, 20*time.Second, "info", "alerts are pulled again after ")
	s.end(h)
	s.once(s.said(h, "warn"), "refused the connection")
}

func unknownAuthority(s *scenario) {
	_, _, ca := service(s.T, defendersim.Config{}) // of another one
	h := s.start("", s.stanza("ca_file "+ca))
	s.says(h, 20*time.Second, "error", "is signed by an authority this machine does not know")
	s.end(h)
	s.said(h)
}

// Rows that are no records, that have to be repaired, and one that is no JSON: one line for each kind.
func oddRows(s *scenario) {
	at := s.svc.Now().Add(-time.Minute)
	for i := range 5 {
		s.svc.Add(defendersim.Alert{LastProcessed: at, Text: fmt.Appendf(nil, `"row %d"`, i)},
			defendersim.Alert{LastProcessed: at, Text: fmt.Appendf(nil, "{\"AlertId\":\"%d\",\"AlertTitle\":\"\xff\"}",
				i)})
	}
	s.svc.Add(defendersim.Alert{LastProcessed: at, Text: []byte(`{"AlertId":"x" oops}`)})
	h := s.start("", s.stanza(short...))
	await(s.T, 20*time.Second, "all rows", func() bool { return s.count() == 11 })
	s.polls(1)
	s.end(h)
	s.once(s.said(h, "warn"), `cannot become a record: not an object`, "bad UTF-8", "the answer is no valid "+
		"JSON at byte ", "has the same syntax error again")
}

// A span that keeps failing becomes a gap, and is filled once it can be read and is older than overlap. Meanwhile the
// state file is moved away and comes back: commits fail, and then do not.
func gapAndLostState(s *scenario) {
	db := filepath.Join(s.TempDir(), "defender.db")
	h := s.start("", s.stanza("initial_lookback 30s", "overlap 10s", "retry_max 1s", "db "+db))
	s.polls(2)
	now := s.svc.Now()
	s.svc.FailSpan(now.Add(-time.Hour), now, now.Add(7*time.Second), defendersim.Status(500))
	if err := os.Rename(db, db+".away"); err != nil {
		s.Fatal(err)
	}
	s.says(h, 25*time.Second, "error", "newer alerts go on")
	s.says(h, 25*time.Second, "warn", "cannot store what was pulled")
	if err := os.Rename(db+".away", db); err != nil {
		s.Fatal(err)
	}
	s.says(h, 25*time.Second, "info", "was read; unread ranges: 0")
	s.says(h, 25*time.Second, "info", "the state is stored again")
	s.end(h)
	s.once(s.said(h, "error", "warn", "info"), "newer alerts go on, this range is asked again until it can be read; "+
		"nothing to do unless it lasts for hours; unread ranges: 1", "was read; unread ranges: 0",
		"cannot store what was pulled", "the state is stored again")
}

func capAndClock(s *scenario) {
	s.svc.SetModes(func(m *defendersim.Modes) { m.Cap = 1000 })
	history(s.svc, 1500, 10*time.Minute)
	h := s.start("", s.stanza(short...))
	s.awaitAll(20*time.Second, of(s.svc))
	s.svc.Shift(-5 * time.Minute)
	s.says(h, 20*time.Second, "warn", "the service's clock went back by ")
	s.end(h)
	s.said(h)
}

func otherFilters(s *scenario) {
	db := "db " + filepath.Join(s.TempDir(), "defender.db")
	s.through([]string{db})
	h := s.start("", s.stanza(append(short, db, "machine_groups UKMachines")...))
	s.says(h, 20*time.Second, "warn", "no state for these filters")
	s.end(h)
	s.said(h)
}

func paused(s *scenario) {
	s.host.OutputRate = 20_000
	s.once(s.through([]string{"mem_buf_limit 6k", "batch_size 8k", "max_alert_size 8k"}),
		"Fluent Bit paused this input")
}

func faultyStanza(s *scenario) {
	db := filepath.Join(s.TempDir(), "missing", "defender.db")
	for _, stanza := range []string{s.stanza("poll_interval 0", "limit -1", "machinegroups a"), s.stanza("db " + db),
		s.stanza() + s.stanza()} {
		h := flbhost.Launch(s.T, s.options("", stanza))
		if err := h.Wait(20 * time.Second); err == nil {
			s.Error("the start was not refused")
		}
		s.said(h)
	}
	h := s.start("", s.stanza("client_secret 11111111-2222-3333-4444-555555555555"))
	s.end(h)
	s.said(h)
}

// Also log_file has the lines in the core's form: it is all that is left of a process in the background.
func daemon(s *scenario) {
	file := filepath.Join(s.TempDir(), "fluent-bit.log")
	o := s.options("    daemon on\n    log_file "+file, s.stanza())
	o.Daemon = true
	h := flbhost.Launch(s.T, o)
	if !s.real() {
		if err := h.Wait(20 * time.Second); err == nil {
			s.Error("the start was not refused")
		}
		s.said(h)
		return
	}
	const form = "[error] [input:defender:defender.0] "
	await(s.T, 20*time.Second, "the refusal", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && bytes.Contains(text, []byte(form+"Fluent Bit went into the background after"))
	})
	for _, line := range lines(s.T, file) {
		if _, line, ok := strings.Cut(line, form); ok {
			s.note("error", strings.TrimSpace(line))
		}
	}
}

func lockedState(s *scenario) {
	db := filepath.Join(s.TempDir(), "defender.db")
	lockState(s.T, db)
	h := flbhost.Launch(s.T, s.options("", s.stanza("db "+db)))
	if err := h.Wait(20 * time.Second); err == nil {
		s.Error("the start was not refused")
	}
	s.once(s.said(h, "error"), "locked: another process holds it")
}

func damagedState(s *scenario) {
	db := filepath.Join(s.TempDir(), "defender.db")
	if err := os.WriteFile(db, bytes.Repeat([]byte{0xaa}, 1<<16), 0o600); err != nil {
		s.Fatal(err)
	}
	h := s.start("", s.stanza("db "+db))
	s.says(h, 20*time.Second, "warn", "the state file is damaged")
	s.end(h)
	s.said(h)
}

// lockState locks a file as another process that uses it does.
func lockState(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}
