package shape

// rule is a row, ready to run. Rules, puts and values are small, for each is looked at for each alert.
type rule struct {
	fn    func(e *encoder, r *rule, v []byte) bool // of conv
	puts  []put
	fixed []byte // of conv
	list  bool   // one of the targets is a list
	plain bool   // of conv
}

// put is a target of a rule.
type put struct {
	slot
	list  bool
	weak  bool
	group uint8  // the object that all fields from one piece of evidence go to; 0: none
	rank  uint16 // the lower goes first
}

// slot is the number of a target: a bit of a set.
type slot struct {
	bit  uint64
	n    uint16
	word uint8
}

// field is what the rows say of one field.
type field struct {
	name  string
	rules []rule
	keep  bool
	inner bool               // it has into or kinds
	into  *source            // for values that are objects, or lists of them
	kinds map[string]*source // for the list of evidence
	any   *source            // for pieces of kinds that no row names
}

// source is an object at one path of the alert.
type source struct {
	id     int
	fields map[string]*field
	consts []rule // what each such piece of evidence says
	whole  []rule // of the object itself
}

// targetKind is how a target is written.
type targetKind byte

const (
	kindGroup targetKind = iota
	kindLeaf
	kindList
	kindText // always the same
	kindRest // what has no row
)

// target is one field of the record, or of what becomes of a piece of evidence.
type target struct {
	kind    targetKind
	texts   int // fields in text
	name    string
	key     []byte   // MessagePack
	block   [32]byte // key, where it fits
	slot    slot
	leaf    bool
	list    bool
	rest    bool // takes what has no row
	kids    []*target
	picky   bool // a group that is left out without any of needs
	needs   slotSet
	has     slotSet // its slots
	anyRest bool    // it or one within it takes what has no row
	text    []byte  // key and value, where that is the same in each record
	always  bool    // it or one within it has text
}

// program is a table, ready to run. It is not changed once it is made.
type program struct {
	root      *source
	lists     []put // which begin with these items
	items     [][]byte
	special   []special
	out       []*target
	piece     []*target // fields of an element of the list that pieces of evidence become
	pieceList put       // that list; its elements are objects
	pieceHas  slotSet
	derived   []derivation // of the record, and of each piece of evidence
	derivedIn []derivation
	slots     int
	groups    [][]slot // by group
	sources   int

	single  map[uint16][]claimant // by slot
	names   map[string]*target
	inPiece map[*target]bool
	groupN  map[string]int
}

// claimant is a row that names a single target.
type claimant struct {
	put   *put
	other bool // what it says stands elsewhere too
}

// special is a target of what is no field of the alert.
type special struct {
	from string
	rule
}

type derivation struct {
	rule rule
	of   []slot
	fn   func(e *encoder, r *rule, of []*value)
}

// maxSlots is the most targets of a table.
const maxSlots = 256

// slotSet is a set of slots.
type slotSet [maxSlots / 64]uint64

func newSlot(n int) slot { return slot{1 << (n % 64), uint16(n), uint8(n / 64)} }

func (s *slotSet) has(k *slot) bool { return s[k.word&3]&k.bit != 0 }
func (s *slotSet) add(k *slot)      { s[k.word&3] |= k.bit }
func (s *slotSet) remove(k *slot)   { s[k.word&3] &^= k.bit }

func (s *slotSet) join(o slotSet) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s *slotSet) meets(o *slotSet) bool {
	return s[0]&o[0]|s[1]&o[1]|s[2]&o[2]|s[3]&o[3] != 0
}

const pieceKind = "evidence"
