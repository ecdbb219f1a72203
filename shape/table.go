package shape

// row is one line of a table: a field of the alert, where its value goes, and what it becomes on the way. A field
// that is null or an empty text says nothing and is left out; one whose value fits none of its targets stays under
// the vendor's name, as fields without a row do.
//
// from is the field's path. Lists are gone through without a word about it. evidence[process] is a piece of evidence
// of that kind, evidence[*] one of any. What is no field stands in parentheses: see the constants. Empty: the value
// is as's.
//
// to are targets, separated by blanks. One that ends in [] takes all values, each once; any other the first that
// comes, but of several rows of the table that name it the upper row's, if what the others say stands elsewhere too.
// One in parentheses is only a part of a derived one. x[].y is a field y of what becomes of each piece of evidence in
// the list x. ~ before a target: only where no row without ~ has filled that object (the first part of the target). *
// alone: the field stays under the vendor's name as well.
type row struct {
	from, to string
	as       conv
}

// What a row may take beside fields of the alert.
const (
	theTenant = "(tenant)" // tenant_id of the stanza
	theText   = "(text)"   // the alert's JSON; only with keep_native
	theRecord = "(native)" // the native record; only with keep_native
	theTime   = "(time)"   // the record's time
	theID     = "(id)"     // the id that event_id_key gives
)

// derived is a target that is made of others, once all of them are known.
type derived struct {
	to   string
	of   []string
	make func(e *encoder, r *rule, of []*value)
	doc  string
}

// table is the mapping of one API's alerts to one shape.
type table struct {
	rows    []row
	derived []derived
	needs   map[string]string // by object: targets, any one of which must be there for it to be written
	vendor  string            // the target of what has no row; empty: it is left out
}

// conv makes of a field's value what a target takes. It puts what it made, and tells whether the value fits.
type conv struct {
	doc   string
	fn    func(e *encoder, r *rule, v []byte) bool
	fixed []byte // what it puts, if that is always the same
	plain bool   // it takes each text as it is
}
