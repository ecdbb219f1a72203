package defendersim

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestWindowsOfGraphFilters(t *testing.T) {
	const a, b = "2024-05-06T12:00:00Z", "2024-05-06T13:00:00Z"
	at := func(text string) int64 {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v.UnixNano()
	}
	const first, last = math.MinInt64, math.MaxInt64
	for filter, w := range map[string][2]int64{
		"severity eq 'high'":                                            {first, last},
		"lastUpdateDateTime ge " + a:                                    {at(a), last},
		"lastUpdateDateTime lt " + a:                                    {first, at(a)},
		"lastUpdateDateTime eq " + a:                                    {at(a), at(a)},
		"lastUpdateDateTime ne " + a:                                    {first, last},
		"not lastUpdateDateTime ne " + a:                                {at(a), at(a)},
		"not (lastUpdateDateTime ge " + a + ")":                         {first, at(a)},
		"lastUpdateDateTime ge " + a + " and severity eq 'high'":        {at(a), last},
		"lastUpdateDateTime ge " + a + " or severity eq 'high'":         {first, last},
		"createdDateTime ge " + a:                                       {first, last},
		"lastUpdateDateTime eq " + a + " or lastUpdateDateTime eq " + b: {at(a), at(b)},
		"(severity eq 'low') and lastUpdateDateTime ge " + a + " and lastUpdateDateTime le " + b: {at(a), at(b)},
		"not (lastUpdateDateTime lt " + a + " or lastUpdateDateTime gt " + b + ")":               {at(a), at(b)},
	} {
		f, err := parseFilter(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		since, until := f.window(false)
		want(t, filter, [2]int64{since, until}, w)
	}
}

func FuzzGraphFilter(f *testing.F) {
	for _, s := range []string{
		"lastUpdateDateTime ge 2024-05-06T11:00:00Z and lastUpdateDateTime le 2024-05-06T12:00:00.1234567Z",
		"(severity eq 'high' or not (status ne 'new')) and assignedTo eq null", "assignedTo eq 'o''hara'",
		"not not createdDateTime lt 2024-05-06", "severity eq 'high", "((", "'",
		"lastUpdateDateTime eq 0001-01-01T00:00:00Z", "lastUpdateDateTime ge 9999-12-31T23:59:59Z",
		"severity gt 'low' )",
	} {
		f.Add(s)
	}
	var rows []GraphAlert
	for i := range 20 {
		a := galert("a", noon.Add(time.Duration(i-10)*time.Hour))
		a.Severity = enums["severity"][i%5]
		a.Status = []string{"", "new", "resolved"}[i%3]
		a.AssignedTo = []string{"", "o'hara"}[i%2]
		rows = append(rows, a)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := parseFilter(text)
		if err != nil {
			if filter != nil {
				t.Errorf("%q: a filter beside %v", text, err)
			}
			return
		}
		opposite, err := parseFilter("not (" + text + ")")
		if err != nil && len(text) < maxFilter-10 && !strings.Contains(err.Error(), "nested") {
			t.Fatalf("%q cannot be negated: %v", text, err)
		}
		since, until := filter.window(false)
		for i := range rows {
			a := &rows[i]
			pass := filter.match(a, &Modes{})
			if at := a.Updated.UnixNano(); pass && (at < since || at > until) {
				t.Errorf("%q lets %v through outside of its window", text, a.Updated)
			}
			if opposite != nil && opposite.match(a, &Modes{}) == pass {
				t.Errorf("%q and its opposite agree on %+v", text, a)
			}
		}
	})
}

func FuzzGraphQuery(f *testing.F) {
	key := []byte("key")
	for _, s := range []string{
		"$filter=severity+eq+'high'&$top=5&$skip=1&$count=true", "%24top=1000",
		"$skiptoken=" + GraphQuery{Filter: "severity eq 'low'", Top: 3}.token(3, noon, key),
		"$skiptoken=AAAA", "$top=1;", "%zz", "$filter=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseGraphQuery(raw, key)
		if err != nil {
			return
		}
		if q.Top < 1 || q.Top > MaxTop || q.Offset < 0 || !q.Page && q.Offset > MaxSkip {
			t.Errorf("%q: %+v", raw, q)
		}
		// The query of a page is that of its first page, further on.
		next, err := parseGraphQuery("$skiptoken="+q.token(q.Offset+q.Top, noon, key), key)
		if err != nil && strings.ToValidUTF8(q.Filter, "") == q.Filter {
			t.Fatalf("%q: its link: %v", raw, err)
		}
		if err == nil && (!next.Page || next.Offset != q.Offset+q.Top || next.Top != q.Top || next.Count != q.Count ||
			!next.Since.Equal(q.Since) || !next.Until.Equal(q.Until)) {
			t.Errorf("%q: %+v became %+v", raw, q, next)
		}
	})
}
