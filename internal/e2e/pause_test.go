package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// Two stanzas, one with a small mem_buf_limit before a slow output. The real Fluent Bit stops the collector of the
// last stanza when it pauses the first. Nothing is lost in either; the other may stand still meanwhile, and goes on
// within 2 s of the resume.
func TestASlowOutputPausesOneOfTwoStanzas(t *testing.T) {
	t.Parallel()
	needFluentBit(t)
	svc, srv, ca := service(t, defendersim.Config{})
	history(svc, 300, 10*time.Minute)
	slow, fast := newSink(t), newSink(t)
	common := []string{"initial_lookback 15m", "overlap 10s", "max_alert_size 32k"}
	inputs := stanza(srv, ca, "slow", append(common, "alias slow", "mem_buf_limit 60k", "batch_size 40k",
		"machine_groups UKMachines")...) +
		stanza(srv, ca, "fast", append(common, "alias fast", "machine_groups FranceMachines, Rest & more")...)
	f := newFluentBit(t, "", inputs, slow.output("slow"), fast.output("fast"))
	load := startLoad(t, svc, 60)
	f.start()
	f.await(20*time.Second, "the first alerts of both", func() bool {
		return len(slow.arrived()) > 0 &&
			len(fast.arrived()) > 0
	})
	name, late := "slow", 2*time.Second+500*time.Millisecond
	if realBefore("3.0.0") { // no alias in these lines, and times without fractions
		name, late = "defender.0", late+time.Second
	}
	pauses := func() []string { return f.told("[input] " + name + " paused (mem buf overlimit") }
	resumes := func() []string { return f.told("[input] " + name + " resume (mem buf overlimit") }
	for range times(3, 30) {
		paused := len(pauses())
		slow.hold()
		f.await(20*time.Second, "a pause", func() bool { return len(pauses()) > paused })
		stored := len(of(svc))
		f.await(20*time.Second, "more alerts during the pause", func() bool { return len(of(svc)) > stored+100 })
		slow.release()
		// What waited may pause it again and again for a moment, so it is the last resume that counts.
		var resumed, first time.Time
		f.await(20*time.Second, "an alert of the other after the resume", func() (ok bool) {
			if r := resumes(); len(r) == len(pauses()) {
				resumed = stamp(t, r[len(r)-1])
				first, ok = fast.after(resumed)
			}
			return ok
		})
		// The ring and the flush of the output have their share of it.
		if took := first.Sub(resumed); took > late {
			t.Errorf("the other stanza went on %s after the resume", took)
		}
	}
	load.stop()
	for _, end := range []struct {
		out *sink
		due []defendersim.Row
	}{{slow, of(svc, "UKMachines")}, {fast, of(svc, "FranceMachines", "Rest & more")}} {
		f.await(60*time.Second, "all alerts", func() bool { return missing(end.due, end.out.arrived()) == 0 })
	}
	asked := svc.Stats().Alerts
	f.await(10*time.Second, "some more polls", func() bool { return svc.Stats().Alerts > asked+4 })
	f.stop(10 * time.Second)
	exactly(t, "slow", of(svc, "UKMachines"), slow.arrived())
	exactly(t, "fast", of(svc, "FranceMachines", "Rest & more"), fast.arrived())
	advice := f.told("[input:defender:slow] Fluent Bit paused this input")
	if len(advice) == 0 || !strings.Contains(advice[0], "[ warn]") || !strings.Contains(advice[0],
		"storage.type filesystem") {
		t.Errorf("the warning that recommends filesystem storage: %q", advice)
	}
}

// stamp is the time of a line of Fluent Bit's log.
func stamp(t *testing.T, line string) time.Time {
	t.Helper()
	text, _, ok := strings.Cut(strings.TrimPrefix(line, "["), "]")
	at, err := time.ParseInLocation("2006/01/02 15:04:05.999999999", text, time.Local)
	if err != nil || !ok {
		t.Fatal(fmt.Errorf("a line without time: %q: %w", line, err))
	}
	return at
}
