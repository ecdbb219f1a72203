package conf

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// Type says how the text of a value is read.
type Type string

const (
	Text     Type = "text"
	File     Type = "path"
	Password Type = "secret"
	List     Type = "list"
	Choice   Type = "choice"
	URL      Type = "address"
	Integer  Type = "number"
	Duration Type = "duration"
	Span     Type = "ISO 8601 duration"
	Size     Type = "size"
	Boolean  Type = "boolean"

	Expression Type = "OData expression" // see checkFilter
)

// Key is one key of the stanza, as Load reads it and as docs/configuration.md shows it.
type Key struct {
	Name     string
	Theme    string // the heading it stands under
	Type     Type
	Default  string   // as a stanza would have it; empty: none
	OfGraph  string   // the Default with api graph, where it is another one
	Absent   string   // in words, what holds where the key is absent and has no Default
	Min, Max string   // bounds of the types that are numbers, as a stanza would have them
	Values   []string // of a Choice
	Allowed  string   // in words, what the type does not say
	API      string   // the one API it belongs to; empty: any
	// why it has no place with the other one, completing the sentence "Microsoft Graph ..." or "the SIEM API ..."
	Why    string
	Help   string   // one or two sentences
	Auth   []string // the credentials it may stand with; none: any
	Needs  []string // the credentials that cannot do without it
	Env    string   // the variable that stands in for it with auth workload_identity; empty: none
	Secret bool     // no message shows its value

	PerTenant bool // an entry of tenants_file may hold it too
	Succeeds  bool // with `successor graph` it may stand beside api siem, for the successor

	shy     bool // a malformed value is not shown either: it may be a secret in the wrong place
	address address
	clean   func(text string) (string, error) // checks a Text or a File further, and normalises it
	field   func(*Config) any                 // where the value goes: a pointer that fits the type
}

// spanField takes a Span both ways.
type spanField struct {
	value *time.Duration
	text  *string
}

// set reads text into the key's field. The error completes the sentence `"text" is ...`.
func (k *Key) set(c *Config, text string) (err error) {
	field := k.field(c)
	switch k.Type {
	case Text, File, Expression:
		text, err = k.text(text)
		*field.(*string) = text
	case URL:
		*field.(*string), err = k.address.parse(text)
	case Password:
		*field.(*Secret), err = parseSecret(text)
	case List:
		*field.(*[]string), err = parseList(text)
	case Choice:
		text = strings.ToLower(text)
		*field.(*string) = text
		if !slices.Contains(k.Values, text) {
			err = errors.New("not one of its values")
		}
	case Boolean:
		*field.(*bool), err = parseBool(text)
	case Integer, Size:
		var n int64
		n, err = k.number(text)
		*field.(*int) = int(n) // every Max fits an int of 32 bits
	case Duration:
		var n int64
		n, err = k.number(text)
		*field.(*time.Duration) = time.Duration(n)
	case Span:
		var n int64
		n, err = k.number(text)
		f := field.(spanField)
		*f.value, *f.text = time.Duration(n), withoutWeeks(text)
	}
	return err
}

func (k *Key) text(text string) (string, error) {
	switch k.Type {
	case File:
		if k.clean != nil {
			return k.clean(text)
		}
		return parsePath(text)
	case Expression:
		return checkFilter(text)
	}
	if err := printable(text, maxText); err != nil || k.clean == nil {
		return text, err
	}
	return k.clean(text)
}

var numbers = map[Type]func(string) (int64, error){
	Integer:  parseInteger,
	Size:     parseSize,
	Duration: parseDuration,
	Span:     parseSpan,
}

// number reads a value of a type that is a number, and holds it against the bounds.
func (k *Key) number(text string) (int64, error) {
	read := numbers[k.Type]
	n, err := read(text)
	if err != nil {
		return 0, err
	}
	if least, err := read(k.Min); err == nil && n < least {
		return 0, errors.New("too small")
	}
	if most, err := read(k.Max); err == nil && n > most {
		return 0, errTooLarge
	}
	return n, nil
}

// allowed says in words what a value may be, for messages and for the documentation.
func (k *Key) allowed() string {
	switch {
	case k.Allowed != "":
		return k.Allowed
	case k.Type == Choice:
		return either(k.Values)
	case k.Type == Boolean:
		return "on or off"
	case k.Type == List:
		return "items separated by commas, none of them empty, " + count(maxList) + " bytes at most"
	case k.Type == Password:
		return "1 to " + count(maxSecret) + " printable characters"
	case k.Type == File:
		return "the path of a file"
	case k.Type == Integer:
		return "a whole number from " + k.Min + " to " + k.Max
	case k.Type == Duration:
		return k.Min + " to " + k.Max + ", written as 90s, 5m, 2h, 7d or a bare number of seconds"
	case k.Type == Size:
		return k.Min + " to " + k.Max + ", written as 512k, 1M or a bare number of bytes"
	case k.Type == Span:
		return k.Min + " to " + k.Max + ", written as PT10M, P1D, PT1H30M or P1W"
	}
	return "1 to " + count(maxText) + " printable characters"
}

// ofAPI returns the default of k with an API.
func (k *Key) ofAPI(api string) string {
	if api == Graph && k.OfGraph != "" {
		return k.OfGraph
	}
	return k.Default
}

// keyNamed returns the key of the table, or nil.
func keyNamed(name string) *Key {
	if i := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name }); i >= 0 {
		return &Keys[i]
	}
	return nil
}
