package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

// toGraph turns a world's stanza to Graph.
func toGraph(w *simtest.World) {
	w.Cfg.API, w.Cfg.Cloud, w.Cfg.Updates = conf.Graph, "public", "all"
	w.Cfg.Resource = defendersim.GraphHost
	w.Cfg.URL = defendersim.GraphHost + "/v1.0/security/alerts_v2"
	if w.Cfg.Auth == conf.AuthorizationCode {
		w.Cfg.RefreshTokenFile = w.Write("graph", w.Svc.Login(simtest.LoginID, defendersim.GraphHost)+"\n")
	}
}

func TestEveryCredentialPullsFromGraph(t *testing.T) {
	for auth := range simtest.Credentials {
		t.Run(auth, func(t *testing.T) {
			simtest.Versions(t, auth, func(w *simtest.World) {
				toGraph(w)
				good(w, clientOf(w), "Graph")
			})
		})
	}
}

func TestALoginForGraph(t *testing.T) {
	simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
		toGraph(w)
		l := loginOf(w)
		in, err := l.Redeem(context.Background(), w.Person(l.URL(), "accept"))
		if err != nil {
			w.Fatal(err)
		}
		if in.Claims.Audience != defendersim.GraphHost || len(l.Doubts(in.Claims)) != 0 {
			w.Errorf("claims %+v, doubts %v", in.Claims, l.Doubts(in.Claims))
		}
		if err := credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, in.RefreshToken); err != nil {
			w.Fatal(err)
		}
		good(w, clientOf(w), "with the login")
	})
}

func TestTheSimulatedGraphsRefusalsAreExplained(t *testing.T) {
	f := func(name string, change func(w *simtest.World), kind transport.Kind, want ...string) {
		t.Helper()
		simtest.Versions(t, conf.ClientSecret, func(w *simtest.World) {
			toGraph(w)
			change(w)
			e := bad(w, clientOf(w), name)
			for _, text := range want {
				if e.Kind != kind || !strings.Contains(e.Error(), text) {
					w.Errorf("%s: %v: %v", name, e.Kind, e)
				}
			}
		})
	}
	f("a token of another API", func(w *simtest.World) { w.Cfg.Resource = defendersim.DefaultResource },
		transport.KindUnauthorized, "the token is for https://graph.windows.net (aud), "+
			"while the API takes tokens for https://graph.microsoft.com or",
		"(InvalidAuthenticationToken, request-id ")
	f("no role", func(w *simtest.World) { w.Svc.SetGraphRoles(simtest.ClientID, "User.Read.All") },
		transport.KindForbidden,
		"grant the application the application permission SecurityAlert.Read.All",
		"Missing application roles", "(Forbidden, request-id ")
	f("a field that is no filter", func(w *simtest.World) { w.Cfg.Filter = "category eq 'Malware'" },
		transport.KindRefused, "check filter and limit", "(BadRequest, request-id ")
}

func TestPagesOfTheSimulatedGraph(t *testing.T) {
	simtest.Versions(t, conf.ClientSecret, func(w *simtest.World) {
		toGraph(w)
		w.Cfg.Filter = "severity eq 'high' or assignedTo eq 'O''Brien & (sons'"
		w.Svc.AddGraph(graphAlerts(w.Svc.Now(), 25)...)
		c := clientOf(w)
		now := w.Svc.Now()
		seen := map[string]int{}
		q := Query{Since: now.Add(-time.Hour), Until: now.Add(time.Second), Limit: 10}
		for page := 1; ; page++ {
			text, err := fetch(c, q)
			if err != nil {
				w.Fatalf("page %d: %v", page, err)
			}
			var answer struct {
				Value []struct{ ID string }
				Next  string `json:"@odata.nextLink"`
			}
			if err := json.Unmarshal([]byte(text), &answer); err != nil {
				w.Fatal(err)
			}
			for _, alert := range answer.Value {
				seen[alert.ID]++
			}
			if answer.Next == "" {
				if page != 3 || len(seen) != 25 {
					w.Errorf("%d alerts on %d pages", len(seen), page)
				}
				break
			}
			q = Query{Page: answer.Next}
		}
		link := w.Cfg.URL + "?$skiptoken=" + url.QueryEscape(strings.Repeat("A", 40))
		_, err := fetch(c, Query{Page: link})
		var e *transport.Error
		if !errors.As(err, &e) || e.Kind != transport.KindRefused ||
			!strings.Contains(e.Error(), "refused its own link to the next page (400)") {
			w.Errorf("a link that the service does not know: %v", err)
		}
		if log := w.Logged.String(); strings.Contains(log, strings.Repeat("A", 10)) {
			w.Errorf("a link is in the log: %s", log)
		}
	})
}

// graphAlerts are n alerts that are high and n that are not, of the minutes before now.
func graphAlerts(now time.Time, n int) (alerts []defendersim.GraphAlert) {
	for i := range 2 * n {
		a := defendersim.GraphAlert{
			ID: fmt.Sprintf("da%d", i), Updated: now.Add(-time.Duration(i+1) * time.Second),
			Severity: []string{"high", "low"}[i%2],
		}
		a.Created, a.UpdatedText = a.Updated, a.Updated.Format(time.RFC3339)
		a.Text = fmt.Appendf(nil, `{"id":%q,"severity":%q,"createdDateTime":%q,"lastUpdateDateTime":%q}`,
			a.ID, a.Severity, a.UpdatedText, a.UpdatedText)
		alerts = append(alerts, a)
	}
	return alerts
}
