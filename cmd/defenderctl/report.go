package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"fluent-bit-defender/conf"
)

// level is how a line of check ends.
type level string

const (
	ok   level = "ok"
	bad  level = "fail"
	warn level = "warning" // worth knowing, and no finding: the exit code stays 0
	skip level = "skipped"
)

// line is one thing that check looked at.
type line struct {
	Stanza  string `json:"stanza,omitempty"` // empty: the configuration as a whole
	Tenant  string `json:"tenant,omitempty"` // its name, else its id, where the stanza has many
	Check   string `json:"check"`
	Level   level  `json:"status"`
	Key     string `json:"key,omitempty"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"` // what is wrong and what to do, never a secret
}

// sayer makes a line, and gives it the place of its key where there is one.
type sayer func(check string, l level, key, format string, args ...any)

// sayer makes lines about a stanza, or about one tenant of it if cfg is not nil, and hands them to add.
func (s stanza) sayer(cfg *conf.Config, add func(line)) sayer {
	return func(check string, l level, key, format string, args ...any) {
		n := line{Stanza: s.name, Check: check, Level: l, Key: key, Message: fmt.Sprintf(format, args...)}
		if cfg != nil {
			n.Tenant = tenantOf(cfg)
		}
		if key != "" {
			n.File, n.Line = s.place(key)
		}
		add(n)
	}
}

// report collects lines, and prints each as it comes unless it is for machines.
type report struct {
	Version string `json:"version"`
	Config  string `json:"config"`
	OK      bool   `json:"ok"`
	Found   int    `json:"findings"`
	Lines   []line `json:"results"`

	out   io.Writer
	json  bool
	marks marks
}

// marks are what a line begins with.
type marks map[level]string

// marksFor gives ticks and crosses to a terminal that can show them, with colour unless NO_COLOR is set, and words to
// all others.
func (a *app) marksFor() marks {
	get := func(name string) string { v, _ := a.env(name); return v }
	locale := strings.ToUpper(cmp.Or(get("LC_ALL"), get("LC_CTYPE"), get("LANG")))
	if !a.outTTY || !strings.Contains(locale, "UTF-8") && !strings.Contains(locale, "UTF8") || get("TERM") == "linux" {
		return marks{ok: "ok  ", bad: "FAIL", warn: "warn", skip: "skip"}
	}
	m := marks{ok: "✓", bad: "✗", warn: "!", skip: "-"}
	if term := get("TERM"); get("NO_COLOR") == "" && term != "" && term != "dumb" {
		for l, colour := range map[level]string{ok: "32", bad: "31", warn: "33"} {
			m[l] = "\x1b[" + colour + "m" + m[l] + "\x1b[0m"
		}
	}
	return m
}

func (r *report) add(l line) {
	l = r.note(l)
	if !r.json {
		r.print(l)
	}
}

// note collects a line without printing it.
func (r *report) note(l line) line {
	l.Message = oneLine(l.Message)
	r.Lines = append(r.Lines, l)
	if l.Level == bad {
		r.Found++
	}
	return l
}

func (r *report) print(l line) {
	indent := ""
	if l.Stanza != "" {
		indent = "  "
	}
	place := ""
	if l.Level != ok && l.Line > 0 {
		place = fmt.Sprintf("%s:%d: ", l.File, l.Line)
	}
	key := l.Check
	if l.Key != "" {
		key = l.Key
	}
	fmt.Fprintf(r.out, "%s%s %s%s: %s\n", indent, r.marks[l.Level], place, key, l.Message)
}

// title begins the lines of a stanza.
func (r *report) title(text string) {
	if !r.json {
		fmt.Fprintln(r.out, text)
	}
}

// end prints what is left: the sum, or all as JSON. Its error says whether anything was found.
func (r *report) end() error {
	r.OK = r.Found == 0
	if r.json {
		if err := writeJSON(r.out, r); err != nil {
			return err
		}
	} else {
		sum := "all good"
		if !r.OK {
			sum = plural(r.Found, "finding")
		}
		fmt.Fprintln(r.out, sum)
	}
	if !r.OK {
		return errFindings
	}
	return nil
}

func writeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
