package defendersim

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (t *rig) request(ctx context.Context, query string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", t.alerts+"?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+t.token())
	return req
}

// TestPollingInABubble is how a property test uses the service: its clock is the bubble's, days pass in no time.
func TestPollingInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{Now: time.Now})
		gen := NewGenerator(source(1), Mix{})
		got := make(map[string]bool)
		for range 3 * 24 * 60 {
			r.svc.Add(gen.Alert(time.Now()))
			for range 2 { // once more after the token's end
				if a := r.get("ago=PT1M"); a.status == 401 {
					r.tok = ""
				} else {
					for _, name := range strings.Fields(r.keys("ago=PT1M")) {
						got[name] = true
					}
					break
				}
			}
			time.Sleep(time.Minute)
		}
		want(t, "alerts", len(got), 3*24*60)
		if n := r.svc.Stats().Issued; n < 72 || n > 74 {
			t.Errorf("%d tokens in 72 hours", n)
		}
	})
}

func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{Now: time.Now})
		r.token()
		sent := int64(0)
		r.svc.Queue(KindAlerts, Page("endless", "", func(w io.Writer) error {
			for {
				n, err := w.Write(make([]byte, 1000))
				if err != nil {
					return err
				}
				sent += int64(n)
			}
		}))
		res, err := r.http.Do(r.request(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := sent
		if before > wireBuffer+64<<10 {
			t.Errorf("%d bytes are under way", before)
		}
		if _, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if more := sent - before; more < 1<<20-64<<10 || more > 1<<20+64<<10 {
			t.Errorf("%d more for a MiB read", more)
		}
		res.Body.Close() // the handler ends, or the bubble would find it
		synctest.Wait()
		want(t, "under way", r.svc.Stats().Open, 0)
		want(t, "whole", r.svc.Journal()[1].Whole, false)
	})
}

func TestAStalledReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{Now: time.Now, Modes: Modes{StallCut: time.Minute}})
		r.svc.Queue(KindAlerts, BigBody(1<<20), BigBody(1<<20))
		read := func(pause time.Duration) error {
			res, err := r.http.Do(r.request(t.Context(), ""))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			time.Sleep(pause)
			_, err = io.Copy(io.Discard, res.Body)
			return err
		}
		want(t, "a pause of 59 s", read(59*time.Second), nil)
		want(t, "a pause of 61 s", read(61*time.Second), io.ErrUnexpectedEOF)
	})
}

func TestContextsEndBothSides(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.token()
		idle := func() {
			t.Helper()
			for range 1000 {
				if t.svc.Stats().Open == 0 {
					return
				}
				if t.srv == nil {
					synctest.Wait()
				} else {
					<-time.After(10 * time.Millisecond)
				}
			}
			t.Error("the service still works on the request")
		}
		for name, f := range map[string]*Fault{"before the header": Hang(), "in a delay": Late(time.Hour)} {
			t.svc.Queue(KindAlerts, f)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := t.http.Do(t.request(ctx, ""))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			idle()
		}
		for name, f := range map[string]*Fault{"in a slow body": Slow(1), "in a long body": BigBody(1 << 30)} {
			t.svc.Queue(KindAlerts, f)
			ctx, cancel := context.WithCancel(t.Context())
			res, err := t.http.Do(t.request(ctx, ""))
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := io.Copy(io.Discard, res.Body); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
			res.Body.Close()
			idle()
		}
		t.svc.Queue(KindToken, Hang())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		form := must(http.NewRequestWithContext(ctx, "POST", t.v1, strings.NewReader(v1Form().Encode())))
		form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if _, err := t.http.Do(form); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("for a token: %v", err)
		}
		cancel()
		idle()
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := t.http.Do(t.request(ctx, "")); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled beforehand: %v", err)
		}
	})
}

func TestReadingAClosedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := memory(t, Config{})
		res, err := r.http.Do(r.request(context.Background(), ""))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		_, err = res.Body.Read(make([]byte, 1))
		want(t, "error", err, errBodyClosed)
	})
}

func BenchmarkPollOverMemory(b *testing.B) {
	r := &rig{
		svc: New(Config{}), v1: LoginHost + "/" + DefaultTenant + "/oauth2/token",
		alerts: AlertsHost + "/api/alerts",
	}
	r.http = &http.Client{Transport: r.svc.Transport()}
	now := time.Now()
	r.svc.Add(Generate(source(1), 1000, now.Add(-2*time.Hour), now, Mix{})...)
	a := must(http.NewRequest("POST", r.v1, strings.NewReader(v1Form().Encode())))
	a.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	body := string(r.do(a).body)
	r.tok = body[strings.LastIndex(body[:len(body)-2], `"`)+1 : len(body)-2]
	req := must(http.NewRequest("GET", r.alerts+"?ago=PT2M", nil))
	req.Header.Set("Authorization", "Bearer "+r.tok)
	for b.Loop() {
		if a := r.do(req); a.status != 200 {
			b.Fatalf("%d %s", a.status, a.body)
		}
	}
}

func BenchmarkNewServiceWithToken(b *testing.B) {
	for b.Loop() {
		svc := New(Config{})
		client := &http.Client{Transport: svc.Transport()}
		res, err := client.PostForm(LoginHost+"/"+DefaultTenant+"/oauth2/token", v1Form())
		if err != nil || res.StatusCode != 200 {
			b.Fatal(err)
		}
		res.Body.Close()
	}
}

func BenchmarkGenerate(b *testing.B) {
	for b.Loop() {
		Generate(source(1), 1000, noon, noon.Add(time.Hour), Mix{Style: MixedStyle, UpdateShare: 0.1, PartShare: 0.1})
	}
}
