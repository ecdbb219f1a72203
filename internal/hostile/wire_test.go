package hostile

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"fluent-bit-defender/internal/defendersim"

	"github.com/klauspost/compress/gzip"
)

// These answers are no list of alerts, or come over the wire in a way that none should.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	f := func(name string, make func(w *world, done <-chan struct{}) attack) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, defendersim.Config{})
			done := untilEnd(t)
			a := make(w, done)
			if strings.Contains(strings.Join(a.says, " "), "(read_timeout)") {
				// elsewhere a timeout would be the machine's, and take the place of what is told
				a.stanza = "read_timeout 2s"
			}
			a.run(w, name)
		})
	}
	simple := func(fault *defendersim.Fault, words ...string) func(*world, <-chan struct{}) attack {
		return func(*world, <-chan struct{}) attack { return attack{faults: times(2, fault), says: words} }
	}
	f("HTML", simple(defendersim.HTML(), "HTML or XML", "Sign in"))
	f("an empty answer", simple(defendersim.EmptyBody(), "an empty body"))
	f("an object without alerts", simple(defendersim.NoAlerts(), "an object without alert fields",
		"An error has occurred"))
	f("a word", simple(page(text("Hello")), "neither an array nor an object", "Hello"))
	f("NUL bytes alone", simple(page(repeat("\x00", 8*mb)), "neither an array nor an object"))
	f("an endless header", simple(defendersim.EndlessHeader(), "larger than 64 KiB"))
	f("white space of 64 MB", simple(page(repeat(" \r\n\t", 64*mb)), "an empty body"))
	f("an object of 64 MB without alerts", simple(page(text("{"), repeat(`"key":"value",`, 64*mb), text(`"k":1}`)),
		"an object without alert fields"))
	f("text behind the end", simple(page(text("[]"), repeat("x", 8*mb)), "text behind the end"))
	f("a list of 8 MB of commas", simple(page(text("["), repeat(",", 8*mb), text("]")), "no valid JSON"))
	f("brackets of 64 MB", simple(page(repeat("[", 64*mb)), "no valid JSON"))
	f("a gzip stream of noise", simple(page(text("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xffnoise")).With(gzipped),
		"bad gzip"))
	f("a million empty gzip members", simple(page(repeat(member(""), int64(1_000_000*len(member(""))))).With(gzipped),
		"an empty body"))

	f("a list that never closes", func(w *world, _ <-chan struct{}) attack {
		return attack{faults: times(2, defendersim.NeverClosed()), beside: []defendersim.Alert{w.add(), w.add()},
			says: []string{"ends at byte", "before its list"}}
	})
	f("an answer that falls silent", func(w *world, done <-chan struct{}) attack {
		a := w.gen.Alert(w.svc.Now())
		return attack{faults: times(2, page(text("["+string(a.Text)+","), then(done, ""))),
			beside: []defendersim.Alert{a}, says: []string{"silent for 2s (read_timeout)"}}
	})
	f("a trickle of one byte a second", func(w *world, done <-chan struct{}) attack {
		a := w.gen.Alert(w.svc.Now())
		return attack{faults: times(2, page(text("["+string(a.Text)+","), then(done, " "))),
			beside: []defendersim.Alert{a}, says: []string{"trickles", "(read_timeout)"}}
	})
	f("a bare trickle of one byte a second", simple(defendersim.Slow(1), "trickles", "(read_timeout)"))
	f("a hanging answer", simple(defendersim.Hang(), "no answer from", "(read_timeout)"))
	f("a gzip bomb", func(*world, <-chan struct{}) attack {
		return attack{
			faults: times(1, defendersim.GzipBomb(size(10_240, 512)*mb)), raw: `"AlertId":"bomb"`,
			why: "larger than 1000000 bytes", says: []string{"raw", "larger than 1000000 bytes"},
		}
	})
}

// gzipped declares a page as compressed.
var gzipped = &defendersim.Fault{Encoded: true}

// member is a gzip member.
func member(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

// untilEnd returns a channel that closes when the test ends, before its server waits for the answers under way.
func untilEnd(t *testing.T) <-chan struct{} {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	return done
}

// The login side may be as hostile.
func TestHostileTokens(t *testing.T) {
	t.Parallel()
	endless := func(w io.Writer) error {
		for {
			if _, err := io.WriteString(w, `{"access_token":"`+strings.Repeat("x", 1<<20)); err != nil {
				return err
			}
		}
	}
	bomb := page(repeat(member(strings.Repeat("A", 1<<20)), 1<<20)).With(gzipped)
	for name, a := range map[string]attack{
		"a token without end": {tokens: times(2, defendersim.Page("endless", "", endless)),
			says: []string{"larger than 256 KiB"}},
		"a token of 100 KiB": {tokens: times(2,
			defendersim.Body(fmt.Sprintf(`{"access_token":%q,"expires_in":"60"}`, strings.Repeat("x", 100<<10)))),
			says: []string{"longer than 32 KiB"}},
		"a token with a line break": {tokens: times(2,
			defendersim.Body(`{"access_token":"x\r\nHost: evil","expires_in":"60"}`)),
			says: []string{"no header can carry"}},
		"a compressed token": {tokens: times(2, bomb), says: []string{"token request"}},
		"HTML for a token":   {tokens: times(2, defendersim.HTML()), says: []string{"holds no token"}},
		"an endless header of a token": {tokens: times(2, defendersim.EndlessHeader()),
			says: []string{"larger than 64 KiB"}},
		"a trickling token": {tokens: times(1, defendersim.Slow(1)), says: []string{"token request", "read_timeout"}},
		"a hanging token":   {tokens: times(1, defendersim.Hang()), says: []string{"token request", "read_timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a.stanza = "read_timeout 2s"
			a.run(newWorld(t, defendersim.Config{}), name)
		})
	}
}
