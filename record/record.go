// Package record turns a JSON answer with alerts into MessagePack records as Fluent Bit takes them, one per alert:
//
//	[EventTime, {the alert's fields, in the order received, nothing renamed}]
//
// It reads the answer as a stream and each alert in one pass over its bytes: syntax, UTF-8, escapes, numbers and
// depth are checked, the record is written, and the alert's identity and time are picked up on the way. It knows
// nothing of where the answer came from.
//
// What becomes of the values:
//
//   - Strings stay strings. Invalid UTF-8 becomes U+FFFD, one for each invalid byte; so does a lone surrogate
//     (Row.Repaired).
//   - Integers of 64 bits, signed or unsigned, are exact. Larger integers and numbers that no double holds (1e400, and
//     1e-400, which would turn into 0) become strings with the text as it came. Other numbers become doubles; -0 is the
//     integer 0.
//   - Of duplicate keys in an object the last wins, and stands where the last stood.
//   - A row that cannot become a record is delivered as {"raw": text, "error": reason}, the text cut to fit (Row.Raw):
//     one that is no object, is nested deeper than 28 levels (the alert itself is the first), is larger than
//     Options.MaxAlert, or whose record would be larger than Options.MaxRecord. Its time is the time of the pull.
//
// Another shape of record is made of the native one by Options.Encode, which walks over it with a Cursor.
package record

import (
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	// maxDepth is the deepest nesting of a record's objects and arrays, the alert itself included. Fluent Bit drops
	// the rest of a chunk at its own limit (32 levels before 4.1).
	maxDepth = 28

	defaultMaxAlert = 1 << 20
	minMaxAlert     = 64
	maxTenant       = 1 << 8  // bytes of a tenant's id: a domain name has less
	minMaxRecord    = 1 << 10 // leaves room for the frame of a raw record
)

// Schema names the fields by which an API's alerts are told apart.
type Schema struct {
	ID      []string // the first of these that is present and not empty names the alert; at most 8
	Part    string   // numbers the parts of one alert
	Updated string   // when the service last touched the alert
	Markers []string // an object with any of these is an alert

	// FirstOnly leaves Updated out of the identity, so that all updates of an alert have one ID. Rows without an
	// identity of their own (see ID) still have one for each text.
	FirstOnly bool
}

// SIEM is the schema of the SIEM API of Microsoft Defender for Endpoint.
var SIEM = Schema{
	ID:      []string{"FullId", "AlertId"},
	Part:    "AlertPart",
	Updated: "LastProcessedTimeUtc",
	Markers: []string{"AlertId", "AlertTime", "LastProcessedTimeUtc"},
}

// Graph is the schema of Microsoft Graph's alerts_v2. Neither an id nor a createdDateTime makes an alert: comments
// and pieces of evidence have them too.
var Graph = Schema{
	ID:      []string{"id"},
	Updated: "lastUpdateDateTime",
	Markers: []string{"lastUpdateDateTime", "providerAlertId", "alertWebUrl"},
}

// Options say how alerts become records. They are fixed for the life of a Reader.
type Options struct {
	Schema Schema

	// TimeKey is the field of the alert that gives the record's time. When it is missing, unreadable, before 1970 or
	// after 2106, the record gets the time of the pull.
	TimeKey string

	// EventIDKey, if not empty, adds Row.ID as 32 hex digits under this name, as the last field, to raw records too. A
	// field of this name that the alert has itself is replaced by it.
	EventIDKey string

	// TenantKey, if not empty, adds the tenant (see Reader.SetTenant) under this name, as the last field but for the
	// event id, to raw records too. A field of this name that the alert has itself is replaced by it.
	TenantKey string

	// DropNull leaves out the fields whose value is null, of the alert and of the objects nested in it. Nulls in
	// arrays stay: the others' positions mean something.
	DropNull bool

	// Alerts, at most two, name fields that say which alert a row belongs to, whichever API it came from: Row.Alerts.
	Alerts []string

	// Encode, if not nil, gives the records another shape; EncodeRaw, if not nil, does so for raw rows.
	Encode    Encode
	EncodeRaw EncodeRaw

	MaxAlert  int // most bytes of JSON of one alert, at least 64; 0: 1 MiB
	MaxRecord int // most bytes of one record, at least 1 KiB; 0: twice MaxAlert
}

// ID tells rows apart. Of an alert with an identity (the first Schema.ID that is not empty, Part and, but for
// Schema.FirstOnly, Updated) it is the XXH3 of that in 128 bits: whoever could choose these fields to make two IDs
// equal could as well make the fields equal, so all that matters is chance, and SHA-256 takes 17 % of a row's time
// longer. Of a row that has none, and of a raw row, it is the first 16 bytes of a SHA-256 over the whole text, for
// there stands what an attacker chose, and two alerts with one ID would be one alert too few.
type ID [16]byte

// String returns the ID as 32 hex digits, as EventIDKey shows it.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Row tells what the reader found out about a row beside its record.
type Row struct {
	ID ID
	// Schema.Updated in Unix nanoseconds; 0: none, unreadable, before 1970 or after 2106; 0 for a raw row
	Updated  int64
	Raw      bool   // delivered as {"raw": ..., "error": Reason}
	Reason   string // why it is raw
	Repaired bool   // U+FFFD stands for what was no UTF-8
	Size     int    // bytes of JSON, before any cut

	// Alerts are the alerts that Options.Alerts name, by the XXH3 of the name in 128 bits: no IDs of rows. Zero: there
	// is none.
	Alerts [maxAlerts]ID
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	if o.MaxAlert <= 0 {
		o.MaxAlert = defaultMaxAlert
	}
	o.MaxAlert = max(o.MaxAlert, minMaxAlert)
	if o.MaxRecord <= 0 {
		o.MaxRecord = 2 * o.MaxAlert
	}
	o.Schema.ID = o.Schema.ID[:min(len(o.Schema.ID), maxIDs)]
	o.Alerts = o.Alerts[:min(len(o.Alerts), maxAlerts)]
	// the frame of a raw record holds the reason and the fields that are added beside the text
	least := minMaxRecord + 2*len(o.EventIDKey) + 2*len(o.TenantKey) + maxTenant
	if o.EncodeRaw != nil {
		least += RawFrame + maxTenant
	}
	o.MaxRecord = max(o.MaxRecord, least)
	return o
}

// The reasons why rows that are well-formed JSON are delivered raw.
const (
	reasonNoObject = "not an object"
	reasonStuck    = "could not be turned into a record"
)

func (o Options) reasonLarge() string { return fmt.Sprintf("larger than %d bytes", o.MaxAlert) }
func (o Options) reasonDeep() string  { return fmt.Sprintf("nested deeper than %d levels", maxDepth) }
func (o Options) reasonRecord() string {
	return fmt.Sprintf("its record would be larger than %d bytes", o.MaxRecord)
}

// SyntaxError says that the answer is no JSON from some byte on. All whole rows before it were delivered.
type SyntaxError struct {
	Offset int64  // of the byte that cannot stand there, in the body
	Msg    string // what is wrong there
	// Signature is the same for the same invalid text, wherever it stands: a hash of the row from its start up to and
	// including the bad byte, but of no more than its first Options.MaxAlert bytes; of the bad byte alone when it
	// stands between two rows.
	Signature ID
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("the answer is no valid JSON at byte %d: %s; at the third time the same, "+
		"the invalid text is delivered raw", e.Offset, e.Msg)
}

// NotAlertsError says that the answer is something other than alerts: empty, HTML, an object without alert fields,
// text after the end of the list.
type NotAlertsError struct {
	What string // what came, with a short piece of it in printable ASCII
}

func (e *NotAlertsError) Error() string {
	return "the answer is no list of alerts: " + e.What +
		"; if it lasts, look for a proxy with a login page, and check url and proxy_url"
}

// TruncatedError says that the body ended without an error before its list or object did. All whole rows before it
// were delivered.
type TruncatedError struct {
	Offset int64 // the body's length
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("the answer ends at byte %d before its list of alerts does; if it lasts, "+
		"look for a proxy that cuts long answers, and lower max_window", e.Offset)
}

// snippetLen is the most that an error shows of an answer that is no list of alerts.
const snippetLen = 60

// snippet returns the beginning of text in quotes, fit for a log line: printable ASCII, other bytes as dots, white
// space as one blank.
func snippet(text []byte) string {
	var b strings.Builder
	blank := true // also takes away white space at the start
	for _, c := range text[:min(len(text), snippetLen)] {
		if c <= ' ' && c != 0 {
			if !blank {
				b.WriteByte(' ')
			}
			blank = true
			continue
		}
		blank = false
		if c < ' ' || c >= 0x7f || c == '"' {
			c = '.'
		}
		b.WriteByte(c)
	}
	return `"` + strings.TrimRight(b.String(), " ") + `"`
}

// quoteByte names a byte for a message.
func quoteByte(c byte) string {
	if c < ' ' || c >= 0x7f {
		return fmt.Sprintf("byte 0x%02x", c)
	}
	return fmt.Sprintf("%q", rune(c))
}
