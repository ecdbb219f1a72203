package defendersim

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// ten adds ten rows and returns the text of the whole answer.
func ten(t *rig) string {
	t.svc.Add(Generate(source(3), 10, noon.Add(-time.Hour), noon, Mix{})...)
	a := t.get("")
	if a.status != 200 {
		t.Fatalf("%d %v", a.status, a.err)
	}
	return string(a.body)
}

func TestStatusFaults(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		ten(t)
		for _, code := range []int{400, 401, 403, 404, 407, 429, 500, 502, 503, 504} {
			t.svc.Queue(KindAlerts, Status(code))
			a := t.get("")
			want(t, "status", a.status, code)
			contains(t, fmt.Sprint(code), a.body, `{"Message":"`)
			want(t, fmt.Sprint(code, ": challenge"), a.header.Get("WWW-Authenticate") != "", code == 401)
			want(t, "next", t.get("").status, 200)
		}
		t.svc.Queue(KindAlerts, Status(302).With(&Fault{Header: http.Header{"location": {"https://evil.example/"}}}))
		a := t.get("")
		want(t, "status", a.status, 302)
		want(t, "Location", a.header.Get("Location"), "https://evil.example/")
		want(t, "counted", t.svc.Stats().Faults["302"], 1)
	})
}

func TestRetryAfter(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.token()
		t.svc.Queue(KindAlerts, Throttle(90*time.Second), ThrottleUntil(90*time.Second))
		a, b := t.get(""), t.get("")
		want(t, "status", fmt.Sprint(a.status, b.status), "429 429")
		want(t, "seconds", a.header.Get("Retry-After"), "90")
		want(t, "date", b.header.Get("Retry-After"), "Mon, 06 May 2024 12:01:30 GMT")
	})
}

func TestConnectionFaults(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.token()
		t.http.CloseIdleConnections() // a connection that worked before would be tried again by net/http
		t.svc.Queue(KindAlerts, Refused())
		err := t.get("").err
		if refused := errors.Is(err, syscall.ECONNREFUSED); t.srv == nil && !refused || err == nil {
			t.Errorf("refused: %v", err)
		}
		t.svc.Queue(KindAlerts, ResetEarly())
		if err := t.get("").err; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reset: %v", err)
		}
		t.svc.Queue(KindAlerts, EndlessHeader())
		if err := t.get("").err; err == nil || !strings.Contains(err.Error(), "server response headers exceeded") {
			t.Errorf("endless header: %v", err)
		}
		want(t, "next", t.get("").status, 200)
	})
}

func TestCutsAtEveryPlace(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		whole := ten(t)
		size := int64(len(whole))
		for _, declared := range []bool{false, true} {
			t.svc.SetModes(func(m *Modes) { m.ContentLength = declared })
			for _, at := range []int64{0, 1, size / 3, size - 1, size, size + 1} {
				here := func(how CutHow) string {
					return fmt.Sprintf("cut %d at %d of %d, declared %v", how, at, size, declared)
				}
				end := whole[:min(at, size)]
				t.svc.Queue(KindAlerts, CutAt(at, CutBroken))
				a := t.get("")
				want(t, here(CutBroken), string(a.body), end)
				if broken := errors.Is(a.err, io.ErrUnexpectedEOF); broken != (at < size || at == size && !declared) {
					t.Errorf("%s: %v", here(CutBroken), a.err)
				}
				t.svc.Queue(KindAlerts, CutAt(at, CutReset))
				a = t.get("")
				if at < size && !errors.Is(a.err, syscall.ECONNRESET) || !strings.HasPrefix(whole, string(a.body)) {
					t.Errorf("%s: %v", here(CutReset), a.err)
				}
				for _, how := range []CutHow{CutText, CutWire} {
					t.svc.Queue(KindAlerts, CutAt(at, how))
					a := t.get("")
					want(t, here(how), string(a.body), end)
					want(t, here(how), a.err, nil)
				}
			}
		}
		t.svc.Queue(KindAlerts, CutOf(0.5, CutText), CutOf(0, CutText), CutOf(1, CutText))
		want(t, "half", string(t.get("").body), whole[:size/2])
		want(t, "nothing", string(t.get("").body), "")
		want(t, "all", string(t.get("").body), whole)
	})
}

func TestCutsOfACompressedAnswer(t *testing.T) {
	bothWays(t, Config{Modes: Modes{Gzip: true}}, func(t *rig) {
		whole := ten(t)
		unpack := func(how CutHow) (string, error) {
			t.svc.Queue(KindAlerts, CutAt(2000, how))
			a := t.get("", "Accept-Encoding", "gzip")
			z, err := gzip.NewReader(bytes.NewReader(a.body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(z)
			return string(text), errors.Join(err, a.err)
		}
		for how, wantErr := range map[CutHow]error{
			CutBroken: io.ErrUnexpectedEOF, CutText: nil, CutWire: io.ErrUnexpectedEOF,
		} {
			text, err := unpack(how)
			want(t, fmt.Sprint(how), text, whole[:2000])
			if !errors.Is(err, wantErr) || wantErr == nil && err != nil {
				t.Errorf("%d: %v", how, err)
			}
		}
	})
}

func TestBodiesThatAreNoList(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		whole := ten(t)
		body := func(f *Fault) string {
			t.svc.Queue(KindAlerts, f)
			a := t.get("")
			want(t, f.Name, a.status, 200)
			want(t, f.Name, a.err, nil)
			return string(a.body)
		}
		want(t, "empty", body(EmptyBody()), "")
		want(t, "object", body(NoAlerts()), `{"Message":"An error has occurred.","Code":0}`)
		want(t, "never closed", body(NeverClosed()), whole[:len(whole)-1])
		want(t, "text", body(Body("[1,2")), "[1,2")
		contains(t, "html", []byte(body(HTML())), "<title>Sign in</title>")
		want(t, "garbage", body(GarbleAt(5, "\x01!")), whole[:5]+"\x01!"+whole[5:])
		want(t, "garbage at a share", body(GarbleOf(0.5, "!")), whole[:len(whole)/2]+"!"+whole[len(whole)/2:])
		want(t, "garbage behind the end", body(GarbleAt(1e9, "!")), whole)
		want(t, "garbage and cut", body(GarbleAt(5, "!").With(CutAt(8, CutText))), whole[:5]+"!"+whole[5:8])
		want(t, "nested", body(Nested(3)), `[{"AlertId":"nested","AlertPart":0,"Deep":[[[1]]]}]`)
		t.svc.Queue(KindAlerts, Page("gives up", "text/plain", func(w io.Writer) error {
			io.WriteString(w, "[1,")
			w.(http.Flusher).Flush()
			return errors.New("enough")
		}))
		a := t.get("")
		want(t, "a page that gives up", string(a.body), "[1,")
		want(t, "its end", a.err, io.ErrUnexpectedEOF)
		want(t, "its type", a.header.Get("Content-Type"), "text/plain")
		t.svc.SetModes(func(m *Modes) { m.Form = FormValue })
		want(t, "never closed object", body(NeverClosed()), `{"value":`+whole[:len(whole)-1])
	})
}

func TestAPoisonedRowIsBrokenWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{TokenLife: 99 * time.Hour})
		a, b := row("a", noon.Add(-time.Hour)), row("b", noon.Add(-time.Minute))
		r.svc.Add(a, b)
		r.svc.Poison(a.Key(), noon.Add(48*time.Hour), "")
		half := len(a.Text) / 2
		broken := string(a.Text[:half]) + "\x01" + string(a.Text[half:])
		all := "sinceTimeUtc=2024-05-06T00:00:00Z"
		want(t, "an answer with it", string(r.get(all).body), "["+broken+","+string(b.Text)+"]")
		want(t, "an answer without it", r.keys("ago=PT2M"), "b")
		got, _ := r.svc.Lookup(a.Key())
		want(t, "ledger", string(got.Broken), broken)
		r.clk.advance(48 * time.Hour)
		want(t, "healed", r.keys(all), "a b")
		r.svc.Poison(b.Key(), time.Time{}, `"`)
		want(t, "is it JSON", json.Valid(r.get(all).body), false)
	})
}

func TestASpanFailsForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{TokenLife: 99 * time.Hour})
		at := func(m int) time.Time { return noon.Add(time.Duration(m) * time.Minute) }
		r.svc.FailSpan(at(-30), at(-29), at(2*24*60), Status(500))
		for _, c := range []struct {
			since, until, status int
		}{{-60, -31, 200}, {-60, -30, 500}, {-29, 0, 500}, {-28, 0, 200}, {-60, 0, 500}, {-30, -29, 500}} {
			want(t, fmt.Sprint(c.since, " to ", c.until), r.get(window(at(c.since), at(c.until))).status, c.status)
		}
		r.clk.advance(48 * time.Hour)
		want(t, "healed", r.get(window(at(-60), at(0))).status, 200)
		synctest.Wait()
		want(t, "counted", r.svc.Stats().Faults["500"], 4)
	})
}

func TestTheHookSeesEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{})
		var seen []Request
		r.svc.OnRequest(func(q Request) *Fault {
			seen = append(seen, q)
			if q.Kind == KindAlerts && q.Query.Limit == 7 {
				r.svc.RevokeTokens() // a hook may call the service
			}
			return nil
		})
		want(t, "a queued fault comes first", r.get("").status, 200)
		r.svc.Queue(KindAlerts, nil, Status(500))
		want(t, "queued none", r.get("limit=3&machinegroups=A").status, 200)
		want(t, "queued", r.get("").status, 500)
		want(t, "revoked in the middle", r.get("limit=7").status, 401)
		r.svc.OnRequest(nil)
		var kinds []Kind
		for _, q := range seen {
			kinds = append(kinds, q.Kind)
		}
		if !slices.Equal(kinds, []Kind{KindToken, KindAlerts, KindAlerts, KindAlerts}) {
			t.Errorf("kinds: %v", kinds)
		}
		want(t, "limit", seen[2].Query.Limit, 3)
		want(t, "host", seen[2].Host, "wdatp-alertexporter-us.windows.com")
		want(t, "version", seen[0].Version, 1)
		want(t, "at", seen[2].At, noon)
	})
}

// TestSlowness lives its delays in virtual time.
func TestSlowness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{Now: time.Now})
		r.svc.Add(row("a", time.Now()))
		size := len(r.get("").body)
		took := func(f *Fault) time.Duration {
			start := time.Now()
			r.svc.Queue(KindAlerts, f)
			a := r.get("ago=P1D")
			want(t, f.Name, len(a.body), size)
			return time.Since(start)
		}
		want(t, "late", took(Late(time.Minute)), time.Minute)
		want(t, "a byte a second", took(Slow(1)), time.Duration(size)*time.Second)
		want(t, "late and slow", took(Late(time.Minute).With(Slow(1))), time.Minute+time.Duration(size)*time.Second)
		r.svc.SetModes(func(m *Modes) { m.Rate = 2 })
		want(t, "every body", took(&Fault{}), time.Duration(size)*time.Second/2)
	})
}

func TestBigBody(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		read := func() (rows []struct{ FullId, AlertId, LastProcessedTimeUtc string }, size int) {
			t.svc.Queue(KindAlerts, BigBody(1<<20))
			a := t.get(window(noon.Add(-time.Hour), noon))
			if err := json.Unmarshal(a.body, &rows); err != nil {
				t.Fatal(err)
			}
			return rows, len(a.body)
		}
		rows, size := read()
		if size < 1<<20 || size > 1<<20+4000 {
			t.Errorf("size %d", size)
		}
		seen := make(map[string]bool)
		for _, r := range rows {
			seen[r.FullId] = true
			at, err := time.Parse(time.RFC3339, r.LastProcessedTimeUtc)
			if err != nil || at.Before(noon.Add(-time.Hour)) || at.After(noon) {
				t.Fatalf("%s: %v", r.LastProcessedTimeUtc, err)
			}
		}
		want(t, "rows that differ", len(seen), len(rows))
		want(t, "first", rows[0].FullId, "big-0000000000:x")
		want(t, "AlertId", rows[1].AlertId, "big-0000000001")
		again, _ := read()
		want(t, "the same again", slices.Equal(rows, again), true)
	})
}

func TestGzipBomb(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.svc.Queue(KindAlerts, GzipBomb(50<<20))
		a := t.get("")
		want(t, "encoding", a.header.Get("Content-Encoding"), "gzip")
		if len(a.body) > 100<<10 {
			t.Errorf("%d bytes on the wire", len(a.body))
		}
		z, err := gzip.NewReader(bytes.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, z)
		want(t, "error", err, nil)
		want(t, "text", n, int64(50<<20+len(`[{"AlertId":"bomb","AlertPart":0,"Description":""}]`)))
	})
}

func TestRandomFaults(t *testing.T) {
	if _, err := RandomFaults(1, 1, "no such"); err == nil {
		t.Error("an unknown name was taken")
	}
	for _, name := range FaultNames() {
		if f := namedFaults[name](rand.New(rand.NewPCG(1, 1))); f.Name == "" {
			t.Errorf("%s has no name to be counted by", name)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{})
		ten(r)
		hook, err := RandomFaults(1, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		r.svc.OnRequest(hook)
		for range 400 {
			r.get("")
		}
		synctest.Wait()
		sum, names := 0, 0
		for _, n := range r.svc.Stats().Faults {
			sum, names = sum+n, names+1
		}
		if sum < 140 || sum > 260 || names < 12 {
			t.Errorf("%d faults of %d kinds in 400 requests: %v", sum, names, r.svc.Stats().Faults)
		}
	})
}
