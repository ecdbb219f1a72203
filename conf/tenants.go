package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxTenants = 10_000
	// MaxTenantsFile bounds the bytes of a tenants_file.
	MaxTenantsFile = 16 << 20
	maxTold        = 100 // faults of one file that are told
)

// Tenants is what a tenants_file holds.
type Tenants struct {
	Good []*Config // in the order of the file
	Bad  []Faulty  // entries with a fault
}

// Faulty is as much as could be read of an entry with a fault: it tells which tenant it is.
type Faulty struct {
	Name, TenantID string // empty: not given, or not readable
}

// entry is one item of the file.
type entry struct {
	line   int
	name   string
	values map[string]string
	lines  map[string]int  // of the keys, known or not
	bad    map[string]bool // keys with a fault of their own
	faults []ranked        // by line
}

func (e *entry) has(name string) bool {
	_, given := e.lines[name]
	return given
}

func (e *entry) fault(line int, f Fault) { e.faults = append(e.faults, ranked{line, f}) }

// refuse notes a fault of one key.
func (e *entry) refuse(name, message string) {
	e.bad[name] = true
	e.fault(e.lines[name], Fault{name, message})
}

// Tenants reads the text of the stanza's tenants_file: a list of maps in YAML (or JSON), each one tenant. The faults
// are in the order of the lines, each of which names its own. When the text is no such list, or an empty one, there
// are faults and no entries.
func (s *Stanza) Tenants(text []byte) (t Tenants, faults Faults) {
	entries, err := readEntries(text)
	if err != nil {
		return t, Faults{{"tenants_file", err.Error()}}
	}
	names, sources := map[string]int{}, map[Source]int{}
	var all []ranked
	for _, e := range entries {
		c := s.tenant(e)
		if line := names[e.name]; e.name != "" && line != 0 {
			e.fault(e.lines["name"], Fault{"name", fmt.Sprintf("%q is the name of the tenant in line %d too; "+
				"allowed: a name of its own", e.name, line)})
		} else {
			names[e.name] = e.line
		}
		if c != nil {
			if line := sources[c.Source()]; line != 0 {
				e.fault(e.lines["tenant_id"], Fault{"tenant_id", fmt.Sprintf("%q has the api, cloud and region (or "+
					"url), tenant and filters of the entry in line %d; "+
					"allowed: one entry of each", c.TenantID, line)})
			} else {
				sources[c.Source()] = e.line
			}
		}
		if len(e.faults) == 0 && c != nil {
			t.Good = append(t.Good, c)
			continue
		}
		id, err := cleanTenant(e.values["tenant_id"])
		if err != nil {
			id = ""
		}
		t.Bad = append(t.Bad, Faulty{e.name, id})
		all = append(all, e.faults...)
	}
	slices.SortStableFunc(all, ranked.compare)
	for i, f := range all {
		if i == maxTold {
			return t, append(faults, Fault{"tenants_file", fmt.Sprintf("%d more faults", len(all)-i)})
		}
		faults = append(faults, at(f.rank, f.Fault))
	}
	return t, faults
}

var yamlLine = regexp.MustCompile(`^line \d+: `)

// readEntries reads the list. Its error is about the text as a whole, and begins with the line.
func readEntries(text []byte) ([]*entry, error) {
	if len(text) > MaxTenantsFile {
		return nil, fmt.Errorf("%d bytes are too many; allowed: %d", len(text), MaxTenantsFile)
	}
	if json.Valid(text) {
		text = jsonEscape.ReplaceAllFunc(text, withoutEscape)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	err := d.Decode(&doc)
	if err == nil {
		err = d.Decode(&next)
	}
	switch {
	case errors.Is(err, io.EOF):
	case err == nil:
		return nil, fmt.Errorf("line %d: a second document; allowed: one list of tenants", next.Line)
	default:
		return nil, syntax(err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, errors.New("holds no tenant; allowed: a list of one or more, each with a tenant_id")
	}
	list := doc.Content[0]
	switch {
	case list.Kind != yaml.SequenceNode:
		return nil, fmt.Errorf("line %d: not a list; allowed: one item for each tenant, such as \"- tenant_id: ...\"",
			list.Line)
	case len(list.Content) == 0:
		return nil, errors.New("holds no tenant; allowed: a list of one or more, each with a tenant_id")
	case len(list.Content) > maxTenants:
		return nil, fmt.Errorf("%d tenants are too many; allowed: %d", len(list.Content), maxTenants)
	}
	entries := make([]*entry, len(list.Content))
	for i, item := range list.Content {
		entries[i] = readEntry(item)
	}
	return entries, nil
}

// jsonEscape finds what JSON can write and YAML cannot: a slash and a pair of surrogates. A backslash before a
// backslash escapes no more.
var jsonEscape = regexp.MustCompile(`\\\\|\\/|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)

func withoutEscape(escape []byte) []byte {
	var text string
	if string(escape) == `\\` || json.Unmarshal([]byte(`"`+string(escape)+`"`), &text) != nil {
		return escape
	}
	return []byte(text)
}

// syntax is an error of the YAML module without what it quotes of the text, which may be a secret.
func syntax(err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := yamlLine.FindString(message)
	message = message[len(line):]
	if strings.HasPrefix(message, "unknown anchor") {
		message = "a value that begins with * must stand in quotes"
	}
	return errors.New(line + "no valid YAML: " + message)
}

func readEntry(item *yaml.Node) *entry {
	e := &entry{line: item.Line, values: map[string]string{}, lines: map[string]int{}, bad: map[string]bool{}}
	if item.Kind != yaml.MappingNode {
		e.bad["tenant_id"] = true
		e.fault(item.Line, Fault{"tenant", "not a map; allowed: tenant_id: ... and what this tenant has of its own"})
		return e
	}
	for i := 0; i+1 < len(item.Content); i += 2 {
		e.read(item.Content[i], item.Content[i+1])
	}
	return e
}

// read takes one key and its value.
func (e *entry) read(key, value *yaml.Node) {
	name := strings.ToLower(key.Value)
	if key.Kind != yaml.ScalarNode || name == "" || printable(name, maxText) != nil {
		e.fault(key.Line, Fault{"tenant", "a key that is no name; allowed: " + entryKeys()})
		return
	}
	if line, twice := e.lines[name]; twice {
		e.fault(key.Line, Fault{name, fmt.Sprintf("stands in line %d already; allowed: once", line)})
		e.bad[name] = true
		return
	}
	e.lines[name] = key.Line
	if k := keyNamed(name); name != "name" && (k == nil || !k.PerTenant) {
		e.unknown(name, k)
		return
	}
	text, err := scalar(value, name)
	switch {
	case err != nil:
		e.refuse(name, err.Error())
	case name == "name":
		if e.name = text; printable(text, maxTenantName) != nil {
			e.name = ""
			e.refuse(name, "not a name; allowed: 1 to "+count(maxTenantName)+" printable characters")
		}
	default:
		e.values[name] = text
	}
}

const maxTenantName = 64

// unknown refuses a key that an entry cannot have.
func (e *entry) unknown(name string, k *Key) {
	if k != nil {
		e.refuse(name, "has no place in an entry, it holds for all tenants; allowed: in the stanza")
		return
	}
	hint := "allowed: " + entryKeys()
	for _, m := range misspellings() {
		if k := keyNamed(m.right); m.wrong == name && k != nil && k.PerTenant {
			hint = "did you mean " + m.right + "?"
			e.bad[m.right] = true // it need not be called missing as well
		}
	}
	e.refuse(name, "has no effect: there is no such key; "+hint)
}

// entryKeys lists what an entry may hold.
func entryKeys() string {
	names := []string{"name"}
	for _, k := range Keys {
		if k.PerTenant {
			names = append(names, k.Name)
		}
	}
	return either(names)
}

// scalar returns the text of a value as it is written; a list of texts as the stanza has lists.
func scalar(n *yaml.Node, name string) (string, error) {
	switch {
	case n.Kind == yaml.AliasNode:
		return "", errors.New("a YAML alias; allowed: the value itself, or in the stanza what all tenants have")
	case n.Kind == yaml.SequenceNode && name == "machine_groups":
		items := make([]string, len(n.Content))
		for i, item := range n.Content {
			text, err := scalar(item, "")
			if err != nil {
				return "", err
			}
			if strings.Contains(text, ",") {
				return "", errors.New("has a comma in " + strconv.Quote(text) + "; allowed: names without one")
			}
			items[i] = text
		}
		return strings.Join(items, ","), nil
	case n.Kind != yaml.ScalarNode:
		return "", errors.New("not a text; allowed: one value")
	case n.Tag == "!!null" || strings.TrimSpace(n.Value) == "":
		return "", errors.New("empty; allowed: a value, or to leave the key out")
	case strings.Contains(n.Value, "${"):
		return "", errors.New("holds a ${VARIABLE}, which only Fluent Bit's own configuration replaces; " +
			"allowed: the value, or the file of a secret")
	}
	return n.Value, nil
}

// Difference is what a file that was read again asks for.
type Difference struct {
	Begin, Stop []*Config
	Change      []Replacement // same Source, other settings
}

// Replacement is a tenant that goes on with other settings.
type Replacement struct{ Old, New *Config }

// Empty tells whether there is nothing to do.
func (d Difference) Empty() bool { return len(d.Begin)+len(d.Stop)+len(d.Change) == 0 }

// Differ compares the tenants that are pulled with those of a file. A tenant whose entry has a fault goes on as it
// was; where a faulty entry tells neither name nor id of its tenant, none stops.
func Differ(old []*Config, now Tenants) (d Difference) {
	before := make(map[Source]*Config, len(old))
	for _, c := range old {
		before[c.Source()] = c
	}
	for _, c := range now.Good {
		was := before[c.Source()]
		delete(before, c.Source())
		switch {
		case was == nil:
			d.Begin = append(d.Begin, c)
		case !reflect.DeepEqual(was, c):
			d.Change = append(d.Change, Replacement{was, c})
		}
	}
	for _, c := range old {
		if before[c.Source()] != nil && !slices.ContainsFunc(now.Bad, func(u Faulty) bool { return u.mayBe(c) }) {
			d.Stop = append(d.Stop, c)
		}
	}
	return d
}

func (u Faulty) mayBe(c *Config) bool {
	return u.TenantID == "" && u.Name == "" || u.TenantID == c.TenantID || u.Name != "" && u.Name == c.Name
}
