package e2e

import (
	"os"
	"path/filepath"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// ofTheHost are the lines that only an old Fluent Bit, or one that was built with less, brings about. The bundled
// host can be such a one.
var ofTheHost = []string{
	"this Fluent Bit cannot tell apart several stanzas that share a thread; leave out `threaded off`, or use Fluent " +
		"Bit 4.1 or later",
	"this Fluent Bit offers no metrics to a plugin: {why}; alerts flow all the same, but its endpoint shows no " +
		"fluentbit_{name}_ metrics",
}

// faultyStart has files that cannot be used, each of which ends the start with a line.
func faultyStart(s *scenario) {
	dir := s.TempDir()
	missing := filepath.Join(dir, "missing")
	login := s.lone([]string{"client_secret"}, "auth authorization_code", "refresh_token_file "+filepath.Join(missing,
		"login"))
	for _, one := range []struct{ line, stanza string }{
		{"ca_file: ", s.lone(nil, "ca_file "+missing)},
		{"ca_file ", s.lone(nil, "ca_file "+s.file("ca.pem", "none", 0o600))},
		{"refresh_token_file: ", login},
		{"state file " + dir + " is not a regular file", s.stanza("db " + dir)},
	} {
		h := flbhost.Launch(s.T, s.options("", one.stanza))
		if err := h.Wait(20 * time.Second); err == nil {
			s.Errorf("the start was not refused: %s", one.line)
		}
		s.once(s.said(h, "error"), one.line)
	}
}

// crowded has more alerts in two seconds than a capped answer holds.
func crowded(s *scenario) {
	s.svc.SetModes(func(m *defendersim.Modes) { m.Cap = 1000 })
	history(s.svc, 400, 10*time.Minute)
	then := s.svc.Now().Add(-time.Minute)
	gen := generator(9)
	for range 1100 {
		s.svc.Add(gen.Alert(then))
	}
	h := s.start("", s.stanza(short...))
	s.says(h, 20*time.Second, "error", "alerts may be hidden")
	s.end(h)
	s.once(s.said(h, "error"), "the service answers with 1000 rows at most, and ")
}

// lostStateAtTheStop has no state file any more when the last commit comes.
func lostStateAtTheStop(s *scenario) {
	history(s.svc, 20, 10*time.Minute)
	db := filepath.Join(s.TempDir(), "defender.db")
	h := s.start("", s.stanza(append(short, "db "+db)...))
	s.awaitAll(20*time.Second, of(s.svc))
	if err := os.Rename(db, db+".away"); err != nil {
		s.Fatal(err)
	}
	s.end(h)
	s.once(s.said(h, "warn"), "stopping: ")
}

func oldCore(s *scenario) {
	if s.real() {
		return
	}
	s.host.Core = "3.0.0"
	h := flbhost.Launch(s.T, s.options("", s.stanza("threaded off")+s.stanza("threaded off", "machine_groups a")))
	if err := h.Wait(20 * time.Second); err == nil {
		s.Error("the start was not refused")
	}
	s.once(s.said(h, "error"), "cannot tell apart several stanzas")
}

func noMetrics(s *scenario) {
	if s.real() {
		return
	}
	s.host.Without = flbhost.WithoutMetrics
	h := s.world.start("", s.stanza(short...))
	s.polls(2)
	h.MustStop(s.T, grace)
	s.once(s.said(h, "warn"), "offers no metrics to a plugin")
}
