package defendersim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// graphFilter is an OData $filter as Graph takes it for alerts: comparisons of eight properties with a constant,
// joined by and, or, not and parentheses. nil lets everything through.
type graphFilter struct {
	op          string // and, or, not; else of a comparison: eq, ne, gt, ge, lt, le
	left, right *graphFilter
	prop        string
	text        string // the constant: a text,
	null        bool   // null,
	at          int64  // or a time in unix ns
}

// Limits of an expression.
const (
	maxFilter = 10_000
	maxNested = 50
)

// enums are the members of each property that has a fixed set, as they are ordered. "unknownFutureValue" parts those
// that came later: a reader gets them only when it asks for them.
var enums = map[string][]string{
	"severity": {"unknown", "informational", "low", "medium", "high", sentinel},
	"status":   {"unknown", "new", "inProgress", "resolved", sentinel},
	"classification": {"unknown", "falsePositive", "truePositive", "informationalExpectedActivity",
		sentinel},
	"determination": {"unknown", "apt", "malware", "securityPersonnel", "securityTesting", "unwantedSoftware", "other",
		"multiStagedAttack", "compromisedAccount", "phishing", "maliciousUserActivity", "notMalicious",
		"notEnoughDataToValidate", "confirmedActivity", "lineOfBusinessApplication", sentinel},
	"serviceSource": {"unknown", "microsoftDefenderForEndpoint", "microsoftDefenderForIdentity",
		"microsoftDefenderForCloudApps", "microsoftDefenderForOffice365", "microsoft365Defender",
		"azureAdIdentityProtection", "microsoftAppGovernance", "dataLossPrevention", sentinel,
		"microsoftDefenderForCloud", "microsoftSentinel", "microsoftInsiderRiskManagement"},
}

const sentinel = "unknownFutureValue"

// parseFilter reads an expression. Keywords and names are those of OData 4.0, in their own case. Only what is
// documented is taken; any other property, function or operator is refused.
func parseFilter(text string) (*graphFilter, error) {
	if len(text) > maxFilter {
		return nil, fmt.Errorf("filter of %d characters, %d at most", len(text), maxFilter)
	}
	p := &filterParser{rest: text}
	if err := p.next(); err != nil {
		return nil, err
	}
	f, err := p.either(0)
	if err != nil {
		return nil, err
	}
	if p.token != "" {
		return nil, fmt.Errorf("syntax error at %q", cutText(p.token))
	}
	return f, nil
}

type filterParser struct {
	rest   string
	token  string // "": the end
	quoted bool   // token is the value of a string
}

// next takes the next token.
func (p *filterParser) next() error {
	p.rest = strings.TrimLeft(p.rest, " \t")
	p.token, p.quoted = "", false
	if p.rest == "" {
		return nil
	}
	switch c := p.rest[0]; {
	case c == '(' || c == ')':
		p.token, p.rest = p.rest[:1], p.rest[1:]
	case c == '\'':
		var value strings.Builder
		rest := p.rest[1:]
		for {
			i := strings.IndexByte(rest, '\'')
			if i < 0 {
				return errors.New("there is an unterminated string literal")
			}
			value.WriteString(rest[:i])
			if rest = rest[i+1:]; !strings.HasPrefix(rest, "'") {
				break
			}
			value.WriteByte('\'') // written twice
			rest = rest[1:]
		}
		p.token, p.quoted, p.rest = "'"+value.String(), true, rest
	default:
		i := strings.IndexAny(p.rest, " \t()'")
		if i < 0 {
			i = len(p.rest)
		}
		p.token, p.rest = p.rest[:i], p.rest[i:]
	}
	return nil
}

func (p *filterParser) is(word string) bool { return p.token == word && !p.quoted }

func (p *filterParser) either(depth int) (*graphFilter, error) { return p.join("or", depth, p.both) }

func (p *filterParser) both(depth int) (*graphFilter, error) { return p.join("and", depth, p.one) }

func (p *filterParser) join(word string, depth int, part func(int) (*graphFilter, error)) (*graphFilter, error) {
	f, err := part(depth)
	for err == nil && p.is(word) {
		if err = p.next(); err != nil {
			break
		}
		var right *graphFilter
		if right, err = part(depth); err == nil {
			f = &graphFilter{op: word, left: f, right: right}
		}
	}
	return f, err
}

func (p *filterParser) one(depth int) (*graphFilter, error) {
	if depth > maxNested {
		return nil, errors.New("the expression is nested too deep")
	}
	switch {
	case p.is("not"):
		if err := p.next(); err != nil {
			return nil, err
		}
		f, err := p.one(depth + 1)
		if err != nil {
			return nil, err
		}
		return &graphFilter{op: "not", left: f}, nil
	case p.is("("):
		if err := p.next(); err != nil {
			return nil, err
		}
		f, err := p.either(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.is(")") {
			return nil, errors.New("a closing parenthesis is missing")
		}
		return f, p.next()
	}
	return p.comparison()
}

func (p *filterParser) comparison() (*graphFilter, error) {
	f := &graphFilter{prop: p.token}
	_, enum := enums[f.prop]
	isTime := f.prop == "createdDateTime" || f.prop == "lastUpdateDateTime"
	if p.token == "" {
		return nil, errors.New("the expression ends too soon")
	}
	if p.quoted || !enum && !isTime && f.prop != "assignedTo" {
		return nil, fmt.Errorf("could not find a property named %q that can be filtered on", cutText(f.prop))
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if f.op = p.token; p.quoted || !slices.Contains([]string{"eq", "ne", "gt", "ge", "lt", "le"}, f.op) {
		return nil, fmt.Errorf("an operator must follow %s, not %q", f.prop, cutText(p.token))
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	switch value, quoted := strings.CutPrefix(p.token, "'"); {
	case isTime && !p.quoted:
		at, err := parseTime(value)
		if err == nil && strings.Contains(value, "T") && !zoned(value) {
			err = errors.New("a time needs its zone")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.prop, err)
		}
		f.at = nanos(at)
	case p.is("null") && !isTime && (f.op == "eq" || f.op == "ne"):
		f.null = true
	case isTime || !quoted || !p.quoted:
		return nil, fmt.Errorf("%s cannot be compared with %q", f.prop, cutText(p.token))
	case enum && !slices.Contains(enums[f.prop], value):
		return nil, fmt.Errorf("%q is no value of %s", cutText(value), f.prop)
	default:
		f.text = value
	}
	return f, p.next()
}

func zoned(v string) bool {
	_, clock, _ := strings.Cut(v, "T")
	return strings.ContainsAny(clock, "Z+-")
}

func cutText(s string) string {
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return s
}

// match tells whether an alert passes.
func (f *graphFilter) match(a *GraphAlert, m *Modes) bool {
	if f == nil {
		return true
	}
	switch {
	case f.op == "and":
		return f.left.match(a, m) && f.right.match(a, m)
	case f.op == "or":
		return f.left.match(a, m) || f.right.match(a, m)
	case f.op == "not":
		return !f.left.match(a, m)
	case f.prop == "createdDateTime":
		return holds(f.op, compare(nanos(a.Created), f.at))
	case f.prop == "lastUpdateDateTime":
		return f.matchUpdated(nanos(a.Updated), m)
	}
	have := a.property(f.prop)
	if f.null || have == "" { // null is equal to null only, and neither less nor greater than anything
		return f.op == "ne" && f.null != (have == "") || f.op == "eq" && f.null && have == ""
	}
	if members, ok := enums[f.prop]; ok {
		return holds(f.op, slices.Index(members, have)-slices.Index(members, f.text))
	}
	return holds(f.op, strings.Compare(have, f.text))
}

// matchUpdated compares the time that windows are made of, under the modes of bounds.
func (f *graphFilter) matchUpdated(at int64, m *Modes) bool {
	bound := f.at
	if m.TruncateBounds > 0 {
		bound = floor(bound, m.TruncateBounds)
	}
	if m.TruncateRows > 0 {
		at = floor(at, m.TruncateRows)
	}
	op := f.op
	switch {
	case op == "ge" && m.SinceExclusive:
		op = "gt"
	case op == "le" && m.UntilExclusive:
		op = "lt"
	}
	return holds(op, compare(at, bound))
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func holds(op string, order int) bool {
	switch op {
	case "eq":
		return order == 0
	case "ne":
		return order != 0
	case "gt":
		return order > 0
	case "ge":
		return order >= 0
	case "lt":
		return order < 0
	}
	return order <= 0
}

// window is the least span of lastUpdateDateTime, in unix ns, outside of which nothing passes; not says that f is
// negated.
func (f *graphFilter) window(not bool) (since, until int64) {
	const first, last = math.MinInt64, math.MaxInt64
	if f == nil {
		return first, last
	}
	switch {
	case f.op == "not":
		return f.left.window(!not)
	case f.op == "and" || f.op == "or":
		s1, u1 := f.left.window(not)
		s2, u2 := f.right.window(not)
		if (f.op == "and") != not {
			return max(s1, s2), min(u1, u2)
		}
		return min(s1, s2), max(u1, u2)
	case f.prop != "lastUpdateDateTime":
		return first, last
	case f.op == "eq" && !not || f.op == "ne" && not:
		return f.at, f.at
	case f.op == "eq" || f.op == "ne":
		return first, last
	case (f.op == "gt" || f.op == "ge") != not:
		return f.at, last
	}
	return first, f.at
}

// when is a time of a window; the ends of what an int64 can say are the zero time.
func when(at int64) time.Time {
	if at == math.MinInt64 || at == math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(0, at).UTC()
}
