package pull

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
)

// wire changes requests to alerts or their answers on the way.
type wire func(rt http.RoundTripper, r *http.Request) (*http.Response, error)

func (w wire) of(rt http.RoundTripper) http.RoundTripper {
	if w == nil {
		return rt
	}
	return wired{rt, w}
}

type wired struct {
	http.RoundTripper
	wire wire
}

func (w wired) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.Contains(r.URL.Path, "alerts_v2") {
		return w.RoundTripper.RoundTrip(r)
	}
	return w.wire(w.RoundTripper, r)
}

// graphScene is a history without chance: a Graph with an alert every so often, and an engine that polls it.
func graphScene(alerts int, every time.Duration, change func(*life)) (*history, []defendersim.GraphAlert) {
	p := life{seed: 7, span: time.Duration(alerts) * every, graph: true, cfg: conf.Config{
		Windows: conf.Windows{
			PollInterval: time.Minute, Overlap: 15 * time.Minute, MaxWindow: time.Hour,
			InitialLookback: 2 * time.Hour,
		},
		Network: conf.Network{
			RetryMax: 5 * time.Minute, ConnectTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		},
		Memory: conf.Memory{BatchSize: 1 << 20, QueueLimit: 8 << 20, MaxAlertSize: 1 << 20},
	}}
	if change != nil {
		change(&p)
	}
	h := newHistory(p)
	var all []defendersim.GraphAlert
	for i := range alerts {
		a := graphs.Alert(h.began.Add(time.Duration(i) * every))
		h.svc.AddGraph(a)
		all = append(all, a)
	}
	return h, all
}

var graphs = defendersim.NewGraphGenerator(rand.New(rand.NewPCG(5, 5)), defendersim.GraphMix{})

// within fails unless each of the alerts came once, and no later than limit.
func (h *history) within(t *testing.T, limit time.Duration, alerts []defendersim.GraphAlert) {
	t.Helper()
	wrong := 0
	for i, a := range alerts {
		came := h.core.arrived[a.Key()]
		if len(came) == 1 && came[0].at.Sub(a.Updated) <= limit {
			continue
		}
		if wrong++; wrong > 3 {
			continue
		}
		if len(came) == 0 {
			t.Errorf("alert %d never came", i)
		} else {
			t.Errorf("alert %d came %d times, at first after %s", i, len(came), came[0].at.Sub(a.Updated))
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d; %d unread ranges, settled %s behind; said:\n%.3000s", wrong, len(alerts),
			h.core.engine.Stats().Unread, time.Since(h.core.engine.Stats().Watermark), h.log.String())
	}
}

// emptyPage answers a request with a page whose link has this token; "": none.
func emptyPage(r *http.Request, next string) *http.Response {
	body := `{"value":[]}`
	if next != "" {
		body = fmt.Sprintf(`{"@odata.nextLink":"https://%s%s?$skiptoken=%s","value":[]}`, r.URL.Host, r.URL.Path, next)
	}
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: -1,
		Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body:   io.NopCloser(strings.NewReader(body))}
}

// lastLink gives the last page of each answer a link with this token.
func lastLink(rt http.RoundTripper, r *http.Request, token string) (*http.Response, error) {
	resp, err := rt.RoundTrip(r)
	if err != nil || resp.StatusCode != 200 {
		return resp, err
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !bytes.Contains(text, []byte("nextLink")) {
		link := fmt.Sprintf(`"@odata.nextLink":"https://%s%s?$skiptoken=%s","value":[`, r.URL.Host, r.URL.Path, token)
		text = bytes.Replace(text, []byte(`"value":[`), []byte(link), 1)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), -1
	return resp, err
}

// Links of the last page that lead to empty pages, in a chain, to themselves or without end, or are refused: no alert
// is held up by them.
func TestLinksThatLeadNowhere(t *testing.T) {
	serial := 0
	for name, over := range map[string]wire{
		"an empty page": func(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("$skiptoken") == "end" {
				return emptyPage(r, ""), nil
			}
			return lastLink(rt, r, "end")
		},
		"a chain of empty pages": func(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
			switch r.URL.Query().Get("$skiptoken") {
			case "one":
				return emptyPage(r, "two"), nil
			case "two":
				return emptyPage(r, ""), nil
			}
			return lastLink(rt, r, "one")
		},
		"an empty page that leads to itself": func(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("$skiptoken") == "self" {
				return emptyPage(r, "self"), nil
			}
			return lastLink(rt, r, "self")
		},
		"empty pages without end": func(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Query().Get("$skiptoken"), "n") {
				serial++
				return emptyPage(r, fmt.Sprint("n", serial)), nil
			}
			return rt.RoundTrip(r) // only answers of several pages end so
		},
		"refused": func(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("$skiptoken") == "bad" {
				resp := emptyPage(r, "")
				resp.StatusCode = 400
				return resp, nil
			}
			return lastLink(rt, r, "bad")
		},
		"reset": func(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("$skiptoken") != "reset" {
				return lastLink(rt, r, "reset")
			}
			if serial++; serial%2 == 0 {
				return nil, errors.New("connection reset by peer")
			}
			return emptyPage(r, ""), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, all := graphScene(14, 9*time.Minute, nil)
				h.over = over
				h.start()
				h.liveFor(150 * time.Minute)
				h.stop(false)
				h.within(t, 5*time.Minute, all)
				// A link that cannot be followed is no end: what it leads to is unread, and told.
				if told := strings.Contains(h.log.String(), "level=ERROR"); told != (name == "refused") ||
					told != (len(h.disk.gaps) > 0) {
					t.Errorf("%d unread ranges; said:\n%.3000s", len(h.disk.gaps), h.log.String())
				}
			})
		})
	}
}

// Hundreds of alerts of one moment are paged, over resets and a rate limit, and what is newer is not held up.
func TestManyAlertsOfOneMoment(t *testing.T) {
	for _, fault := range []string{"none", "reset", "rate"} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, all := graphScene(3, 2*time.Minute, func(p *life) {
					p.cfg.Limit, p.cfg.Overlap = 10, 2*time.Minute
					if fault == "rate" {
						p.modes.Graph.PerMinute = 100
					}
				})
				if fault == "reset" {
					r := rand.New(rand.NewPCG(3, 3))
					h.svc.OnRequest(func(req defendersim.Request) *defendersim.Fault {
						if req.Kind == defendersim.KindToken || r.Float64() > 0.05 {
							return nil
						}
						return defendersim.ResetEarly()
					})
				}
				at := h.began.Add(-5 * time.Minute)
				for range 1100 {
					a := graphs.Alert(at)
					h.svc.AddGraph(a)
					all = append(all, a)
				}
				h.start()
				h.liveFor(22 * time.Minute)
				h.stop(false)
				h.within(t, 20*time.Minute, all)
			})
		})
	}
}

// What a service calls incomplete for days: the alerts come, the work does not grow, and unread ranges are asked
// again meanwhile.
func TestIncompleteForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := graphScene(4*24, time.Hour, func(p *life) {
			p.cfg.PollInterval,
				p.modes.Graph.Partial = 10*time.Minute, 0.0001
		})
		h.start()
		h.liveFor(60 * time.Hour)
		before := h.svc.Stats().Graph
		h.liveFor(24 * time.Hour)
		if n := h.svc.Stats().Graph - before; n > 6_000 {
			t.Errorf("%d requests in a day", n)
		}
		if n := h.core.engine.Stats().Unread; n < 24 || n > 100 {
			t.Errorf("%d unread ranges", n)
		}
		h.svc.SetModes(func(m *defendersim.Modes) { m.Graph.Partial = 0 })
		h.liveFor(13 * time.Hour)
		if s := h.core.engine.Stats(); s.Unread != 0 || time.Since(s.Watermark) > time.Hour {
			t.Errorf("%d unread ranges are open, settled is %s behind", s.Unread, time.Since(s.Watermark))
		}
		h.stop(false)
		h.within(t, 20*time.Minute, all)
	})
}

// A gap that can be read again is filled, also while other answers are incomplete.
func TestIncompleteAnswersDoNotHoldAnUnreadRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := graphScene(2, 10*time.Minute, func(p *life) { p.cfg.Overlap = 2 * time.Minute })
		from := h.began.Add(10*time.Minute - 10*time.Second)
		h.svc.FailSpan(from, from.Add(20*time.Second), h.began.Add(2*time.Hour), defendersim.Status(500))
		h.start()
		h.liveFor(90 * time.Minute)
		if n := h.core.engine.Stats().Unread; n == 0 {
			t.Fatal("no unread range")
		}
		h.svc.OnRequest(func(req defendersim.Request) *defendersim.Fault {
			if req.Kind == defendersim.KindGraph && req.Query.Until.After(h.began.Add(100*time.Minute)) {
				return defendersim.Partial(0.01)
			}
			return nil
		})
		h.liveFor(2 * time.Hour)
		h.stop(false)
		for _, u := range h.disk.gaps {
			if u.Since.Before(h.began.Add(time.Hour)) {
				t.Errorf("%s to %s is unread", u.Since, u.Until)
			}
		}
		h.within(t, 3*time.Hour, all)
	})
}

// Bad text at the end of a page takes the link behind the list along: it is found there all the same, and the bad
// alert is delivered once.
func TestALinkInInvalidText(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h, all := graphScene(12, 10*time.Millisecond, func(p *life) {
				p.modes.Graph.PageCap, p.modes.Graph.LateLink, p.modes.Graph.Order = 5, late, defendersim.OldestUpdated
			})
			h.svc.Poison(all[4].Key(), time.Time{}, "")
			h.start()
			h.liveFor(3 * time.Hour)
			h.stop(false)
			h.within(t, 5*time.Minute, append(all[:4:4], all[5:]...))
			if h.core.raw != 1 {
				t.Errorf("late link %t: %d raw rows", late, h.core.raw)
			}
		})
	}
}

// With `updates first` a wrong Date at the start, which nothing confirms for long, makes nothing forgotten.
func TestAWrongDateMakesNothingForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := graphScene(100, time.Second, func(p *life) { p.first, p.cfg.Overlap = true, 5*time.Minute })
		h.start()
		h.liveFor(10 * time.Minute)
		h.stop(false)
		down := true
		h.svc.SetModes(func(m *defendersim.Modes) { m.DateOffset = 200 * 24 * time.Hour })
		h.svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
			if r.Kind == defendersim.KindToken {
				return nil
			}
			h.svc.SetModes(func(m *defendersim.Modes) { m.DateOffset = 0 })
			if down {
				return defendersim.Refused()
			}
			return nil
		})
		h.start()
		h.liveFor(10 * time.Minute)
		if n := h.core.engine.Stats().IDs; n != len(all) {
			t.Errorf("%d of %d are remembered", n, len(all))
		}
		down = false
		for _, a := range all {
			h.svc.AddGraph(graphs.Update(a, time.Now().Add(time.Minute)))
		}
		newer := graphs.Alert(time.Now().Add(2 * time.Minute))
		h.svc.AddGraph(newer)
		h.liveFor(time.Hour)
		h.stop(false)
		for _, a := range all {
			if n := len(h.core.arrived[a.ID]); n != 1 {
				t.Fatalf("an alert came %d times", n)
			}
		}
		if came := h.core.arrived[newer.ID]; len(came) != 1 || came[0].at.Sub(newer.Updated) > 10*time.Minute {
			t.Errorf("a new alert came %v", came)
		}
	})
}

// While every third answer is incomplete, what was read whole is not asked for again: the engine keeps up at the pace
// of its requests.
func TestIncompleteAnswersDoNotMultiplyTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := graphScene(120, 30*time.Second, func(p *life) { p.cfg.Limit, p.cfg.Overlap = 3, time.Minute })
		r := rand.New(rand.NewPCG(4, 4))
		h.svc.OnRequest(func(req defendersim.Request) *defendersim.Fault {
			if req.Kind == defendersim.KindGraph && r.Float64() < 0.3 {
				return defendersim.Partial(0.3)
			}
			return nil
		})
		h.start()
		h.liveFor(80 * time.Minute)
		if n := h.svc.Stats().Graph; n > 2500 {
			t.Errorf("%d requests", n)
		}
		h.stop(false)
		h.within(t, 15*time.Minute, all)
	})
}

// dense has 250 alerts in half a second, of which a page shows 50.
func dense(change func(*life)) (*history, []defendersim.GraphAlert) {
	h, all := graphScene(3, 2*time.Minute, func(p *life) {
		p.cfg.Overlap, p.modes.Graph.PageCap = 2*time.Minute, 50
		change(p)
	})
	for i := range 250 {
		a := graphs.Alert(h.began.Add(-5*time.Minute + time.Duration(i)*2*time.Millisecond))
		h.svc.AddGraph(a)
		all = append(all, a)
	}
	return h, all
}

// Links that name another host, as those of the service do behind a gateway, are asked at url (issue 13).
func TestPagesBehindAGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := dense(func(p *life) { p.modes.Graph.LinkHost = "https://graph.microsoft.com" })
		h.start()
		h.liveFor(15 * time.Minute)
		h.stop(false)
		h.within(t, 10*time.Minute, all)
		if len(h.disk.gaps) > 0 {
			t.Errorf("unread: %v", h.disk.gaps)
		}
	})
}

// A link that is refused is the proof that more is there: windows are split until there are no links, and nothing is
// passed.
func TestRefusedLinksHideNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, all := dense(func(p *life) { p.modes.Graph.RefuseLinks = true })
		h.start()
		h.liveFor(15 * time.Minute)
		h.stop(false)
		h.within(t, 10*time.Minute, all)
		if n := h.svc.Stats().Graph; n > 300 {
			t.Errorf("%d requests", n)
		}
	})
}

// What a glance brings is read to its end, so that its connection serves again; one that does not end is left soon.
func TestAGlanceLeavesItsConnection(t *testing.T) {
	for name, hangs := range map[string]bool{"whole": false, "without end": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, all := graphScene(3, 2*time.Minute, nil)
				var glances []*glanced
				h.over = func(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
					resp, err := rt.RoundTrip(r)
					if err == nil && r.URL.Query().Get("$top") == "1" {
						g := &glanced{ReadCloser: resp.Body, closed: make(chan struct{}), hangs: hangs,
							began: time.Now()}
						resp.Body = g
						glances = append(glances, g)
					}
					return resp, err
				}
				h.start()
				h.liveFor(10 * time.Minute)
				h.within(t, 2*time.Minute, all)
				h.stop(false)
				if len(glances) == 0 {
					t.Error("no glance")
				}
				for _, g := range glances {
					if g.whole == hangs || g.took > glanceFor {
						t.Errorf("read to its end: %t, after %s", g.whole, g.took)
					}
				}
			})
		})
	}
}

// glanced is the body of an answer to a glance.
type glanced struct {
	io.ReadCloser
	closed       chan struct{}
	close        sync.Once
	hangs, whole bool
	began        time.Time
	took         time.Duration
}

func (g *glanced) Read(p []byte) (int, error) {
	if g.hangs {
		<-g.closed
		return 0, net.ErrClosed
	}
	n, err := g.ReadCloser.Read(p)
	g.whole = g.whole || err == io.EOF
	return n, err
}

func (g *glanced) Close() error {
	g.close.Do(func() { g.took = time.Since(g.began); close(g.closed) })
	return g.ReadCloser.Close()
}
