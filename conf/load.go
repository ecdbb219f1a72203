package conf

import (
	"cmp"
	"slices"
	"strings"
)

// loader holds one stanza on its way to a Config.
type loader struct {
	cfg     *Config
	text    map[string]string // the values as given, trimmed; no entry: not given
	from    map[string]string // the variable that a value came from
	auth    string            // the stanza's credential, perhaps one that is none; empty: no key tells, or several do
	bad     map[string]bool   // keys with a fault, so that rules do not blame them again
	secrets []string          // what no message may hold
	faults  []ranked

	tenants bool // the stanza has tenants_file: its entries hold what is missing
	entry   bool // this is an entry of that file over its stanza
}

// ranked is a fault with its place: in the table of keys, or the line of a file.
type ranked struct {
	rank int
	Fault
}

func (r ranked) compare(o ranked) int { return cmp.Compare(r.rank, o.rank) }

func newLoader(get, env func(string) string) *loader {
	l := &loader{cfg: &Config{}, text: map[string]string{}, from: map[string]string{}, bad: map[string]bool{}}
	for i := range Keys {
		k := &Keys[i]
		v := get(k.Name)
		if strings.TrimSpace(v) == "" {
			continue
		}
		if k.Type != Password {
			v = strings.TrimSpace(v)
		}
		l.text[k.Name] = v
		if k.Secret {
			l.hide(v)
		}
	}
	l.tenants = l.given("tenants_file")
	l.auth = l.credential()
	l.environment(env)
	return l
}

func (l *loader) hide(secret string) {
	if s := strings.TrimSpace(secret); len(s) >= secretMin {
		l.secrets = append(l.secrets, s)
	}
}

// misspelt refuses the likely wrong spellings that the stanza has.
func (l *loader) misspelt(get func(string) string) {
	type found struct {
		misspelling
		value string
	}
	var all []found
	for _, m := range misspellings() {
		v := strings.TrimSpace(get(m.wrong))
		if v == "" {
			continue
		}
		all = append(all, found{m, v})
		if m.secret { // every secret is known before the first message is written
			l.hide(v)
		}
	}
	for _, f := range all {
		hint := f.note
		if f.right != "" {
			hint = "did you mean " + f.right + "?"
			if !l.given(f.right) {
				l.bad[f.right] = true // one line for it is enough: it need not be called missing as well
			}
		}
		value := hidden
		if !f.secret {
			value = quote(keyNamed(f.right), f.value, l.secrets)
		}
		l.add(f.right, f.wrong, value+" has no effect: there is no such key; "+hint)
	}
}

// parse reads every value and every default.
func (l *loader) parse() {
	for i := range Keys {
		k := &Keys[i]
		text, given := l.text[k.Name]
		switch {
		case l.foreign(k):
			if given {
				l.blame(k.Name, "has no place with api "+l.api()+": "+apiNames[l.api()]+" "+k.Why+
					"; allowed: to leave the key out")
			}
		case l.needed(k) && !given:
			if !l.bad[k.Name] {
				l.fault(k.Name, l.missing()+k.allowed()+l.variable(k))
			}
		case given && l.misplaced(k):
			l.blame(k.Name, "has no place with auth "+l.auth+"; allowed: "+either(credentialKeys(l.auth)))
		case given || k.Default != "":
			if !given {
				text = k.ofAPI(l.api())
			}
			if err := k.set(l.cfg, text); err != nil {
				l.refuse(k, "is "+err.Error())
			}
		}
	}
}

// missing begins the fault of a key that is not there.
func (l *loader) missing() string {
	if l.entry {
		return "missing here and in the stanza; allowed: "
	}
	return "missing (a ${VARIABLE} that is not set counts as missing too); allowed: "
}

// refuse adds a fault of a value: what is wrong with it in words, then what its key allows.
func (l *loader) refuse(k *Key, wrong string) {
	l.blame(k.Name, wrong+"; allowed: "+k.allowed())
}

// blame adds a fault to a key: its value as given, and then what is wrong with it.
func (l *loader) blame(name, wrong string) {
	l.fault(name, l.value(name)+" "+wrong)
}

// fault adds a fault to a key.
func (l *loader) fault(name, message string) {
	l.bad[name] = true
	l.add(name, name, message)
}

// value writes a key's value for a message.
func (l *loader) value(name string) string {
	k := keyNamed(name)
	if text, given := l.text[name]; given {
		if variable := l.from[name]; variable != "" {
			return quote(k, text, l.secrets) + " (" + variable + ")"
		}
		return quote(k, text, l.secrets)
	}
	return k.ofAPI(l.api()) + " (the default)"
}

func (l *loader) given(name string) bool {
	_, given := l.text[name]
	return given
}

// add adds a fault at the place of a key of the table; behind all where that is none.
func (l *loader) add(place, key, message string) {
	rank := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == place })
	if rank < 0 {
		rank = len(Keys)
	}
	l.faults = append(l.faults, ranked{rank, Fault{key, message}})
}

// sorted returns the faults in the order of the table; those of one key stay as they were found.
func (l *loader) sorted() Faults {
	slices.SortStableFunc(l.faults, ranked.compare)
	var fs Faults
	for _, f := range l.faults {
		fs = append(fs, f.Fault)
	}
	return fs
}
