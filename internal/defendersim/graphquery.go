package defendersim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Sizes of Graph's pages. What a page holds when $top is not given is not documented.
const (
	MaxTop     = 1000 // a larger $top is taken for this
	DefaultTop = 100
	MaxSkip    = 500 // a larger $skip is refused
)

// GraphQuery is a query of Graph's security/alerts_v2 as understood.
type GraphQuery struct {
	Filter string // $filter as written
	// Since and Until are the span of lastUpdateDateTime outside of which the filter lets nothing through; zero: open.
	Since, Until time.Time
	Top          int  // rows of a page, the default and the most that is given worked in
	Offset       int  // rows that stand before the page: by $skip and by the pages before
	Page         bool // it came by a next link
	Count        bool
	filter       *graphFilter
	issued       time.Time // when the link was given
}

// errLink is why a link is refused, whatever is wrong with it.
var errLink = errors.New("skiptoken is not valid")

// parseGraphQuery reads a raw query. Names that begin with $ are known or refused, others are ignored; a next link's
// query holds the token alone.
func parseGraphQuery(raw string, key []byte) (GraphQuery, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return GraphQuery{}, fmt.Errorf("query: %w", err)
	}
	given := make(map[string]string)
	for name, vs := range values {
		if !strings.HasPrefix(name, "$") {
			continue
		}
		switch name {
		case "$filter", "$top", "$skip", "$count", "$skiptoken":
		default:
			return GraphQuery{}, fmt.Errorf("query option %q is not supported", cutText(name))
		}
		if len(vs) > 1 {
			return GraphQuery{}, fmt.Errorf("query option %q was given more than once", name)
		}
		given[name] = vs[0]
	}
	if token, ok := given["$skiptoken"]; ok {
		if len(given) > 1 {
			return GraphQuery{}, errors.New("skiptoken: no other query option may stand beside it")
		}
		return openLink(token, key)
	}
	q := GraphQuery{Top: DefaultTop}
	whole := func(name string, least, most int, to *int) error {
		v, ok := given[name]
		if !ok {
			return nil
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("invalid value %q for %s query option", cutText(v), name)
		}
		*to = n
		return nil
	}
	if err := whole("$top", 1, 1<<31-1, &q.Top); err != nil {
		return GraphQuery{}, err
	}
	q.Top = min(q.Top, MaxTop)
	if err := whole("$skip", 0, MaxSkip, &q.Offset); err != nil {
		return GraphQuery{}, err
	}
	switch v := given["$count"]; v {
	case "", "false":
	case "true":
		q.Count = true
	default:
		return GraphQuery{}, fmt.Errorf("invalid value %q for $count query option", cutText(v))
	}
	if text, ok := given["$filter"]; ok {
		q.Filter = text
		if err := q.parse(); err != nil {
			return GraphQuery{}, err
		}
	}
	return q, nil
}

func (q *GraphQuery) parse() (err error) {
	if q.filter, err = parseFilter(q.Filter); err != nil {
		return fmt.Errorf("invalid filter clause: %w", err)
	}
	since, until := q.filter.window(false)
	q.Since, q.Until = when(since), when(until)
	return nil
}

// link is what a skiptoken holds, under a seal: readers can neither make nor change one.
type link struct {
	Filter string `json:"f,omitempty"`
	Top    int    `json:"t"`
	Offset int    `json:"o"`
	Count  bool   `json:"c,omitempty"`
	Issued int64  `json:"i"` // unix ns
}

const sealSize = 8

func seal(body, key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(body)
	return h.Sum(nil)[:sealSize]
}

// token makes the skiptoken of the page that begins at offset.
func (q GraphQuery) token(offset int, now time.Time, key []byte) string {
	body, err := json.Marshal(link{q.Filter, q.Top, offset, q.Count, now.UnixNano()})
	if err != nil {
		panic(fmt.Sprintf("defendersim: %v", err))
	}
	return base64.RawURLEncoding.EncodeToString(append(seal(body, key), body...))
}

func openLink(token string, key []byte) (GraphQuery, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < sealSize || !hmac.Equal(raw[:sealSize], seal(raw[sealSize:], key)) {
		return GraphQuery{}, errLink
	}
	var l link
	if json.Unmarshal(raw[sealSize:], &l) != nil {
		return GraphQuery{}, errLink
	}
	q := GraphQuery{
		Filter: l.Filter, Top: l.Top, Offset: l.Offset, Count: l.Count, Page: true, issued: time.Unix(0, l.Issued),
	}
	if l.Filter != "" {
		if err := q.parse(); err != nil {
			return GraphQuery{}, err
		}
	}
	return q, nil
}
