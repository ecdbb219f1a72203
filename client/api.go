package client

import (
	"net/http"
	"net/url"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/entra"
	"fluent-bit-defender/transport"
)

// api is what one API of alerts has of its own: how it is asked, and what it means by its answers. Nothing else in this
// package knows one API from the other. It is not changed once made, so any number of goroutines may use it.
type api struct {
	target transport.Target
	// address returns the address for a query, and its form for the log. Its error says why the query cannot be one of
	// this API, and becomes a KindRefused.
	address func(Query) (full, shown string, err error)
	header  http.Header                          // sent with every request
	needs   entra.Needs                          // of a token
	words   map[int]words                        // by status: what a refusal means
	said    func(*transport.Mask, []byte) string // what the body of a refusal says, without secrets
	paced   string                               // the host that bounds a tenant's number of requests; empty: none does
	partial bool                                 // 206 is an answer in which rows may be missing
}

// words go on where the general text of a refusal ends.
type words struct{ more, remedy string }

// alertsRequest is what requests for alerts are called in errors.
const alertsRequest = "alerts request"

// newAPI builds the API that cfg names.
func newAPI(cfg *conf.Config) (*api, error) {
	base, err := transport.ParseAddress("url", cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.API == conf.Graph {
		return newGraph(base, cfg), nil
	}
	return newSIEM(base, cfg), nil
}

// withQuery adds an encoded query to an address. The address can carry a key in its own query, so that is left out of
// shown.
func withQuery(base *url.URL, query string) (full, shown string) {
	u := *base
	u.RawQuery, u.ForceQuery = query, false
	shown = u.String()
	if own := base.RawQuery; own != "" {
		u.RawQuery = own
		if query != "" {
			u.RawQuery += "&" + query
		}
	}
	return u.String(), shown
}

// since and until write a bound as both APIs write times: UTC, to the 100 ns. A finer bound is widened: a row at the
// very bound must not fall out by our rounding.
func since(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func until(t time.Time) string {
	if finer := t.Nanosecond() % 100; finer != 0 {
		t = t.Add(time.Duration(100 - finer))
	}
	return since(t)
}
