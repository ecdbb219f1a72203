package flbhost

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Metrics asks for what the metrics endpoint of the instances that run would show.
func (h *Host) Metrics() (Samples, error) {
	h.command.Lock()
	h.change(func(*View) { h.metrics = nil })
	h.command.Unlock()
	if err := h.order("metrics"); err != nil {
		return nil, err
	}
	var text string
	h.Look(func(*View) { text = strings.Join(h.metrics, "\n") })
	return ParseMetrics(text)
}

// Sample is one series of an endpoint.
type Sample struct {
	Name   string
	Kind   string // counter, gauge, histogram, as the endpoint says
	Labels map[string]string
	Value  float64
}

// Samples are those of an endpoint, in its order.
type Samples []Sample

// Of returns the samples of a name that have these labels, which come in pairs of key and value.
func (s Samples) Of(name string, labels ...string) Samples {
	var found Samples
	for _, one := range s {
		ok := one.Name == name
		for pair := range slices.Chunk(labels, 2) {
			ok = ok && one.Labels[pair[0]] == pair[1]
		}
		if ok {
			found = append(found, one)
		}
	}
	return found
}

// Sum adds up what Of finds; NaN: there is none.
func (s Samples) Sum(name string, labels ...string) float64 {
	found, sum := s.Of(name, labels...), 0.0
	if len(found) == 0 {
		return math.NaN()
	}
	for _, one := range found {
		sum += one.Value
	}
	return sum
}

// ParseMetrics reads Prometheus' text form. It fails where Prometheus would read something else than was meant: on a
// series that comes twice, a metric whose type is said twice, and a sample of no metric whose type was said before.
func ParseMetrics(text string) (Samples, error) {
	var all Samples
	kinds, seen := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if kinds[name] != "" {
				return nil, fmt.Errorf("the type of %s is said twice", name)
			}
			kinds[name] = kind
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		one, err := parseSample(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, line)
		}
		if one.Kind = kindOf(kinds, one.Name); one.Kind == "" {
			return nil, fmt.Errorf("no type was said of %s", one.Name)
		}
		key := one.Name
		for _, k := range slices.Sorted(maps.Keys(one.Labels)) {
			key += fmt.Sprintf(" %s=%q", k, one.Labels[k])
		}
		if seen[key] {
			return nil, fmt.Errorf("%s comes twice", key)
		}
		seen[key] = true
		all = append(all, one)
	}
	return all, nil
}

// kindOf is the type of the metric that a series belongs to, "" when none was said.
func kindOf(kinds map[string]string, series string) string {
	if kind := kinds[series]; kind != "" {
		return kind
	}
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		whole, ok := strings.CutSuffix(series, part)
		if kind := kinds[whole]; ok && (kind == "histogram" || kind == "summary") {
			return kind
		}
	}
	return ""
}

// parseSample reads NAME{KEY="VALUE",...} NUMBER.
func parseSample(line string) (Sample, error) {
	end := strings.IndexAny(line, "{ ")
	if end <= 0 {
		return Sample{}, fmt.Errorf("no sample")
	}
	one, rest := Sample{Name: line[:end], Labels: map[string]string{}}, line[end:]
	if rest[0] == '{' {
		rest = rest[1:]
		for !strings.HasPrefix(rest, "}") {
			key, after, ok := strings.Cut(rest, "=")
			quoted, err := strconv.QuotedPrefix(after)
			if !ok || err != nil || quoted[0] != '"' {
				return Sample{}, fmt.Errorf("no label")
			}
			value, err := strconv.Unquote(quoted)
			if err != nil {
				return Sample{}, fmt.Errorf("no label: %w", err)
			}
			if _, twice := one.Labels[key]; twice {
				return Sample{}, fmt.Errorf("a label comes twice")
			}
			one.Labels[key] = value
			rest = strings.TrimPrefix(after[len(quoted):], ",")
		}
		rest = rest[1:]
	}
	var err error
	one.Value, err = strconv.ParseFloat(strings.TrimSpace(rest), 64)
	return one, err
}
