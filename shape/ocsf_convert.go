package shape

import (
	"bytes"

	"fluent-bit-defender/record"
)

// idName is a member of an enum.
type idName struct {
	id   int64
	name string
}

// pair takes texts of an enum, in whatever case: the number goes to the first target, the caption to the second, and
// so on with further pairs. Of a text that is none of the enum the number is 99, and the text stands for the caption.
func pair(doc string, of map[string]idName) conv {
	type coded struct{ id, name []byte }
	m := map[string]coded{}
	for from, to := range of {
		m[from] = coded{padded(appendInt(nil, to.id)), padded(appendText(nil, to.name))}
	}
	other := padded(appendInt(nil, 99))
	words := newDictionary(m)
	return conv{doc: doc + "; 99 for all else", fn: func(e *encoder, r *rule, v []byte) bool {
		s := textIn(v)
		if s == nil {
			return false
		}
		id, name := other, v
		if to := words.find(s); to != nil {
			id, name = to.id, to.name
		}
		e.putPairs(r.puts, id, name)
		return true
	}}
}

func (e *encoder) putPairs(puts []put, id, name []byte) {
	for ; len(puts) >= 2; puts = puts[2:] {
		e.putTo(puts[:1], id)
		e.putTo(puts[1:2], name)
	}
}

var (
	ocsfSeverity = pair("1 informational, 2 low, 3 medium, 4 high, 5 critical",
		map[string]idName{"unknown": {0, "Unknown"},
			"informational": {1, "Informational"}, "low": {2, "Low"}, "medium": {3, "Medium"}, "high": {4, "High"},
			"critical": {5, "Critical"}})
	ocsfStatus = pair("1 new, 2 inProgress, 4 resolved", map[string]idName{"unknown": {0, "Unknown"}, "new": {1, "New"},
		"inprogress": {2, "In Progress"}, "resolved": {4, "Resolved"}})
	notClosed    = enum("`false` for resolved", map[string][]byte{"resolved": no})
	ocsfActivity = pair("1 Create for new, 2 Update for inProgress, 3 Close for resolved",
		map[string]idName{"unknown": {0, "Unknown"},
			"new": {1, "Create"}, "inprogress": {2, "Update"}, "resolved": {3, "Close"}})
	ocsfVerdict = pair("0 unknown, 2 malicious, 4 suspicious, 5 noThreatsFound",
		map[string]idName{"unknown": {0, "Unknown"}, "malicious": {2, "True Positive"},
			"suspicious": {4, "Suspicious"}, "nothreatsfound": {5, "Benign"}})
	ocsfClassification = pair("0 unknown, 1 falsePositive, 2 truePositive, 5 informationalExpectedActivity",
		map[string]idName{"unknown": {0, "Unknown"}, "falsepositive": {1, "False Positive"},
			"truepositive": {2, "True Positive"}, "informationalexpectedactivity": {5, "Benign"}})
	ocsfRisk = pair("0 informational and none, 1 low, 2 medium, 3 high, 4 critical",
		map[string]idName{"none": {0, "Info"}, "informational": {0, "Info"}, "low": {1, "Low"},
			"medium": {2, "Medium"}, "high": {3, "High"}, "critical": {4, "Critical"}})

	// ocsfRegistryType takes Defender's names of the types.
	ocsfRegistryType = pair("1 binary, 2 dword, 4 expandString, 6 multiString, 7 none, 8 qword, 10 string",
		map[string]idName{"unknown": {0, "Unknown"}, "binary": {1, "REG_BINARY"}, "dword": {2, "REG_DWORD"},
			"expandstring": {4, "REG_EXPAND_SZ"},
			"multistring":  {6, "REG_MULTI_SZ"}, "none": {7, "REG_NONE"}, "qword": {8, "REG_QWORD"},
			"string": {10, "REG_SZ"}})

	// ocsfOS goes by the beginning of the platform's name.
	ocsfOS = func() conv {
		families := []struct {
			name        string
			id, caption []byte
		}{
			{"windows", padded(appendInt(nil, 100)), padded(appendText(nil, "Windows"))},
			{"linux", padded(appendInt(nil, 200)), padded(appendText(nil, "Linux"))},
			{"android", padded(appendInt(nil, 201)), padded(appendText(nil, "Android"))},
			{"macos", padded(appendInt(nil, 300)), padded(appendText(nil, "macOS"))},
			{"ios", padded(appendInt(nil, 301)), padded(appendText(nil, "iOS"))},
		}
		other := appendInt(nil, 99)
		return conv{doc: "100 Windows, 200 Linux, 201 Android, 300 macOS, 301 iOS, by its beginning; 99 for all else",
			fn: func(e *encoder, r *rule, v []byte) bool {
				s := textIn(v)
				if s == nil {
					return false
				}
				id, name, family := other, v, osFamily(s)
				for i := range families {
					if families[i].name == family {
						id, name = families[i].id, families[i].caption
					}
				}
				e.putPairs(r.puts, id, name)
				return true
			}}
	}()

	// millis takes times.
	millis = conv{doc: "in milliseconds", fn: func(e *encoder, r *rule, v []byte) bool {
		sec, nsec, ok := record.ParseTime(textIn(v))
		return ok && e.put(r, e.number(sec*1000+int64(nsec/1e6)))
	}}
	recordTime = conv{doc: "in milliseconds", fn: func(e *encoder, r *rule, _ []byte) bool {
		return e.put(r, e.number(e.alert.Time.UnixMilli()))
	}}
	eventID = conv{doc: "where the alert has no id", fn: func(e *encoder, r *rule, _ []byte) bool {
		const digits = "0123456789abcdef"
		from := len(e.scratch)
		e.scratch = appendTextHead(e.scratch, 2*len(e.alert.Row.ID))
		for _, b := range e.alert.Row.ID {
			e.scratch = append(e.scratch, digits[b>>4], digits[b&15])
		}
		return e.put(r, e.made(from))
	}}

	// mail takes addresses.
	mail = conv{doc: "", fn: func(e *encoder, r *rule, v []byte) bool { return isMail(textIn(v)) && e.put(r, v) }}

	ocsfAttack = conv{doc: "technique and sub-technique by their ids", fn: func(e *encoder, r *rule, v []byte) bool {
		s := textIn(v)
		k := bytes.IndexByte(s, '.')
		if len(s) == 0 || k == 0 {
			return false
		}
		from := len(e.scratch)
		if k < 0 {
			e.scratch = appendMapHead(e.scratch, 1)
			k = len(s)
		} else {
			e.scratch = appendMapHead(e.scratch, 2)
			e.scratch = appendText(appendMapHead(appendText(e.scratch, "sub_technique"), 1), "uid")
			e.scratch = appendText(e.scratch, s)
		}
		e.scratch = appendText(appendMapHead(appendText(e.scratch, "technique"), 1), "uid")
		e.scratch = appendText(e.scratch, s[:k])
		return e.put(r, e.made(from))
	}}

	// ocsfTactic takes a category that is one.
	ocsfTactic = func() conv {
		of := map[string][]byte{}
		for _, t := range tactics {
			b := appendMapHead(appendText(appendMapHead(nil, 1), "tactic"), 2)
			b = appendText(appendText(b, "uid"), t.id)
			of[t.category] = appendText(appendText(b, "name"), t.name)
		}
		return enum("tactic with MITRE's id and name, of the categories that are tactics", of)
	}()

	ocsfMalware = conv{doc: "name, classification unknown", fn: func(e *encoder, r *rule, v []byte) bool {
		if !isText(v) {
			return false
		}
		from := len(e.scratch)
		e.scratch = append(appendText(appendMapHead(e.scratch, 3), "name"), v...)
		e.scratch = append(appendArrayHead(appendText(e.scratch, "classification_ids"), 1), 0)
		e.scratch = appendText(appendArrayHead(appendText(e.scratch, "classifications"), 1), "Unknown")
		return e.put(r, e.made(from))
	}}
)

// digest makes the object of a digest for the first target, and an observable for the second.
func digest(digits int, id int64, algorithm, name string) conv {
	head := appendText(appendText(appendMapHead(nil, 3), "algorithm"), algorithm)
	head = padded(appendText(appendInt(appendText(head, "algorithm_id"), id), "value"))
	seen := observableHead(name, 8, "Hash")
	return conv{doc: "as " + algorithm + ", as Hash", fn: func(e *encoder, r *rule, v []byte) bool {
		if !isHex(textIn(v), digits) {
			return false
		}
		e.putItem(&r.puts[0], head, v)
		e.putItem(&r.puts[1], seen, v)
		return true
	}}
}

func observableHead(name string, id int64, kind string) []byte {
	head := appendText(appendText(appendMapHead(nil, 4), "name"), name)
	head = appendText(appendText(appendInt(appendText(head, "type_id"), id), "type"), kind)
	return padded(appendText(head, "value"))
}

// observable makes an observable of a value that fits; name says where in the finding it stands.
func observable(name string, id int64, kind string, fits func([]byte) bool) conv {
	head := observableHead(name, id, kind)
	return conv{doc: "as " + kind, fn: func(e *encoder, r *rule, v []byte) bool {
		s := textIn(v)
		if len(s) == 0 || fits != nil && !fits(s) {
			return false
		}
		e.putItem(&r.puts[0], head, v)
		return true
	}}
}

// resourceOf makes a resource of a piece of evidence, by the fields with its id and name.
func resourceOf(kind, uid, name string) conv {
	doc := "name `" + name + "`, type `" + kind + "`"
	if uid != "" {
		doc = "uid `" + uid + "`, " + doc
	}
	return conv{doc: doc, fn: func(e *encoder, r *rule, v []byte) bool {
		if kindOf(v) != record.Object {
			return false
		}
		return e.resource(r, fieldOf(v, uid), fieldOf(v, name), kind)
	}}
}

func deviceResource(e *encoder, r *rule, of []*value) { e.resource(r, of[0].one, of[1].one, "device") }

func (e *encoder) resource(r *rule, uid, name []byte, kind string) bool {
	n := 1
	if uid == nil || !isText(uid) || isEmpty(uid) {
		uid = nil
	} else {
		n++
	}
	if name == nil || !isText(name) || isEmpty(name) {
		name = nil
	} else {
		n++
	}
	if n == 1 {
		return false
	}
	from := len(e.scratch)
	e.scratch = appendMapHead(e.scratch, n)
	if uid != nil {
		e.scratch = appendBytes(append(e.scratch, "\xa3uid"...), uid)
	}
	if name != nil {
		e.scratch = appendBytes(append(e.scratch, "\xa4name"...), name)
	}
	e.scratch = appendText(append(e.scratch, "\xa4type"...), kind)
	return e.put(r, e.made(from))
}

func orInt(n int64) func(e *encoder, r *rule, _ []*value) {
	v := appendInt(nil, n)
	return func(e *encoder, r *rule, _ []*value) { e.put(r, v) }
}

var (
	yes = padded([]byte{0xc3})
	no  = padded([]byte{0xc2})
)

func orTrue(e *encoder, r *rule, _ []*value) { e.put(r, yes) }

func orText(s string) func(e *encoder, r *rule, _ []*value) {
	v := appendText(nil, s)
	return func(e *encoder, r *rule, _ []*value) { e.put(r, v) }
}

func typeUID(e *encoder, r *rule, of []*value) {
	n, _ := numberIn(of[0].one)
	e.put(r, e.number(ocsfClass*100+n))
}

func typeName(e *encoder, r *rule, of []*value) {
	s := textIn(of[0].one)
	from := len(e.scratch)
	e.scratch = append(appendTextHead(e.scratch, len(ocsfName)+2+len(s)), ocsfName+": "...)
	e.scratch = append(e.scratch, s...)
	e.put(r, e.made(from))
}
