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
	slot  slot
	list  bool
	weak  bool
	group uint8  // the object that all fields from one piece of evidence go to; 0: none
	rank  uint16 // the lower goes first
}

// slot is the number of a target.
type slot uint8

// field is what the rows say of one field.
type field struct {
	name  string
	rules []rule
	keep  bool
	plain bool               // it has one rule, for plain texts
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

// target is one field of the record, or of what becomes of a piece of evidence, while its table is compiled.
type target struct {
	name  string
	slot  slot
	leaf  bool
	list  bool
	rest  bool // takes what has no row
	kids  []*target
	picky bool // a group that is left out without any of needs
	needs slotSet
	value []byte // where that is the same in each record
}

// nodeKind is how a node is written.
type nodeKind byte

const (
	kindGroup nodeKind = iota
	kindLeaf
	kindList
	kindText // always the same
	kindRest // what has no row
)

// node is a target, ready to be written. Nodes are small, for each is looked at for each alert.
type node struct {
	kind nodeKind
	slot slot
	size uint8       // of the key
	key  [block]byte // MessagePack
	*branch
}

// branch is what nodes have that are no leaf.
type branch struct {
	fields  int    // of kindText: how many
	text    []byte // and what they are, with their keys
	kids    []node
	has     slotSet // the slots within it
	anyRest bool    // what has no row stands within it
	always  bool    // something in it is always the same
	picky   bool    // it is left out without any of needs
	needs   slotSet
}

// program is a table, ready to run. It is not changed once it is made.
type program struct {
	root       *source
	lists      []put // which begin with these items
	items      [][]byte
	special    []special
	vendor     bool // it has a place for what has no row
	nodes      []node
	pieceNodes []node // fields of an element of the list that pieces of evidence become
	pieceList  []put  // that list; its elements are objects
	pieceHas   slotSet
	derived    []derivation // of the record, and of each piece of evidence
	derivedIn  []derivation
	slots      int
	groups     []slotSet // by group
	sources    int

	// What it is compiled with.
	targets, pieceTargets []*target
	single                map[slot][]claimant
	names                 map[string]*target
	inPiece               map[*target]bool
	groupN                map[string]int
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
	any  slotSet // of
	fn   func(e *encoder, r *rule, of []*value)
}

// maxSlots is the most targets of a table.
const maxSlots = 256

// slotSet is a set of slots.
type slotSet [maxSlots / 64]uint64

func (s *slotSet) has(k slot) bool { return s[k>>6]>>(k&63)&1 != 0 }
func (s *slotSet) add(k slot)      { s[k>>6] |= 1 << (k & 63) }

func (s *slotSet) without(o *slotSet) {
	for i := range s {
		s[i] &^= o[i]
	}
}

func (s *slotSet) join(o *slotSet) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s *slotSet) meets(o *slotSet) bool {
	return s[0]&o[0]|s[1]&o[1]|s[2]&o[2]|s[3]&o[3] != 0
}

const pieceKind = "evidence"
