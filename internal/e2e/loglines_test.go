package e2e

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// heard is what the plugin said in all scenarios, by place: the host or Fluent Bit.
type heard struct {
	page   *logPage
	mu     sync.Mutex
	came   map[string]map[string]bool // place, form
	played map[string]int             // scenarios, by place
}

// A run with a fault of each kind yields the lines that docs/operating.md documents: none that is not there, and each
// that is marked as tested. None holds a secret.
func TestLogLines(t *testing.T) {
	t.Parallel()
	all := &heard{page: readLogPage(t), came: map[string]map[string]bool{}, played: map[string]int{}}
	t.Run("scenarios", func(t *testing.T) {
		for _, sc := range scenarios {
			t.Run(sc.name, func(t *testing.T) {
				everywhere(t, func(w *world) {
					s := &scenario{world: w, all: all}
					sc.play(s)
					all.mu.Lock()
					defer all.mu.Unlock()
					all.played[s.place()]++
				})
			})
		}
	})
	for place, came := range all.came {
		if all.played[place] < len(scenarios) {
			continue // -run chose some
		}
		for _, f := range all.page.forms {
			foreign := ofTheHost
			if place == "host" {
				foreign = ofFluentBit
			}
			if f.tested && !came[f.level+" "+f.text] && !slices.Contains(foreign, f.text) {
				t.Errorf("%s: no %s of the form %q", place, f.level, f.text)
			}
		}
	}
}

// ofFluentBit are the lines that Fluent Bit itself prints for an input, and the host does not.
var ofFluentBit = []string{"initializing", "storage_strategy='{kind}' ({kind})", "thread instance initialized",
	coreAfter}

// scenario is a world in which something goes wrong.
type scenario struct {
	*world
	all     *heard
	metrics *endpoint
	before  int // records that came before the start
}

// start is that of the world, with the metrics switched on.
func (s *scenario) start(service, inputs string) *flbhost.Host {
	s.Helper()
	s.metrics, s.before = newEndpoint(s.world), s.count()
	s.metrics.host = s.world.start(service+s.metrics.service(), inputs)
	return s.metrics.host
}

// end waits until the metrics of the run add up, then stops it: each row received was delivered as an alert, as raw
// text, or was a duplicate; what was delivered is what came; and where the log says that failures are over, failed
// requests are counted.
func (s *scenario) end(h *flbhost.Host) {
	s.Helper()
	why := ""
	defer func() {
		if why != "" {
			s.Logf("the metrics do not add up: %s", why)
		}
	}()
	awaitEvery(s.T, readEvery, 20*time.Second, "metrics that add up", func() bool {
		now, err := s.metrics.read()
		if err != nil {
			s.Fatal(err)
		}
		why = s.amiss(h, now)
		return why == ""
	})
	h.MustStop(s.T, grace)
}

// amiss tells what does not add up in the metrics; "": nothing.
func (s *scenario) amiss(h *flbhost.Host, now flbhost.Samples) string {
	stanzas := names(now)
	for _, stanza := range stanzas {
		of := func(name string) float64 { return metricOf(now, stanza, name) }
		received, handed, twice, raw := of("rows_received_total"), of("alerts_delivered_total"),
			of("duplicates_dropped_total"), of("rows_raw_total")
		if queue := of("queue_bytes"); queue != 0 || received != handed+twice+raw {
			return fmt.Sprintf("%s: %g rows received, %g delivered, %g duplicates, %g raw, %g bytes in the queue",
				stanza, received, handed, twice, raw, queue)
		}
	}
	total := func(name string) float64 { return now.Sum(ourMetrics + name) }
	if handed, came := int(total("alerts_delivered_total")+total("rows_raw_total")),
		s.count()-s.before; handed != came || len(stanzas) == 0 || total("requests_total") == 0 {
		return fmt.Sprintf("%g requests of the stanzas %q, %d records delivered, %d came", total("requests_total"),
			stanzas, handed, came)
	}
	over := false
	h.Look(func(v *flbhost.View) { over = v.HasLog("info", "alerts are pulled again after ") })
	if over && total("requests_total") == now.Sum(ourMetrics+"requests_total", "outcome", "ok") {
		return "no request failed"
	}
	return ""
}

// said holds every line of h against the page, and returns those of the plugin at these levels without the core's
// prefix.
func (s *scenario) said(h *flbhost.Host, levels ...string) (said []string) {
	s.Helper()
	secrets := []string{defendersim.DefaultSecret, url.QueryEscape(defendersim.DefaultSecret),
		url.PathEscape(defendersim.DefaultSecret),
		base64.StdEncoding.EncodeToString([]byte(defendersim.DefaultSecret))}
	h.Look(func(v *flbhost.View) {
		for _, l := range v.Logs {
			for _, secret := range secrets {
				if strings.Contains(l.Text, secret) {
					s.Errorf("a secret is in the log: %s", l.Text)
				}
			}
			if found := token.FindString(l.Text); found != "" {
				s.Errorf("%q is in the log: %s", found, l.Text)
			}
			head, ok := strings.CutPrefix(l.Text, "[input:defender:")
			alias, text, form := strings.Cut(head, "] ")
			if !ok {
				continue
			}
			if !form || alias == "" || strings.ContainsAny(alias, " []") {
				s.Errorf("not in the core's form: %s", l.Text)
			}
			s.note(l.Level, text)
			if slices.Contains(levels, l.Level) {
				said = append(said, text)
			}
		}
	})
	return said
}

func (s *scenario) place() string {
	if s.real() {
		return "fluent-bit"
	}
	return "host"
}

// note finds the forms of a line.
func (s *scenario) note(level, text string) {
	s.Helper()
	place := s.place()
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	if s.all.came[place] == nil {
		s.all.came[place] = map[string]bool{}
	}
	forms := s.all.page.find(level, text)
	if len(forms) == 0 {
		s.Errorf("a line that docs/operating.md does not have: %s %s", level, text)
	}
	for _, f := range forms {
		s.all.came[place][f.level+" "+f.text] = true
	}
}

// with counts the lines that hold text.
func with(lines []string, text string) (n int) {
	for _, line := range lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// short are the keys that make a scenario short.
var short = []string{"initial_lookback 15m", "overlap 10s", "retry_max 1s"}

// through runs a stanza, lets these faults befall its requests for alerts once the first have come, and returns all
// that it said when some more have. The first requests of a life may have a purpose of their own.
func (s *scenario) through(stanza []string, faults ...*defendersim.Fault) []string {
	s.Helper()
	history(s.svc, 20, 10*time.Minute)
	h := s.start("", s.stanza(slices.Concat(short, stanza)...))
	s.awaitAll(25*time.Second, of(s.svc))
	s.svc.Queue(defendersim.KindAlerts, faults...)
	history(s.svc, 20, 5*time.Second)
	s.awaitAll(25*time.Second, of(s.svc))
	if len(faults) > 0 {
		s.says(h, 10*time.Second, "info", "alerts are pulled again")
	}
	s.end(h)
	return s.said(h, "warn", "error", "info")
}

// once fails unless each text stands in exactly one line.
func (s *scenario) once(lines []string, texts ...string) {
	s.Helper()
	for _, text := range texts {
		if n := with(lines, text); n != 1 {
			s.Errorf("%q stands in %d lines of\n%s", text, n, strings.Join(lines, "\n"))
		}
	}
}
