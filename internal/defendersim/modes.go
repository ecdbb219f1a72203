package defendersim

import "time"

// Order is the order of rows in an answer. It is undocumented, so clients must bear each.
type Order int

// Orders of rows, by LastProcessedTimeUtc.
const (
	Ascending Order = iota
	Descending
	Random // another one in each answer
)

// Form is the form of a body. All three were seen in public documents and scripts.
type Form int

// Forms of a body.
const (
	FormArray  Form = iota // [...]
	FormValue              // {"value": [...]}
	FormSingle             // the bare object when it is exactly one row, else an array
)

// Modes is the behaviour that Microsoft leaves undocumented, and behaviour that holds until it is switched off. The
// zero value is a well-behaved service.
type Modes struct {
	// Graph is what only Microsoft Graph can do. Modes of bounds, dates, compression and pace hold for both APIs,
	// those of order, form, caps and rows without a time for the SIEM API alone.
	Graph GraphModes

	// SinceExclusive and UntilExclusive leave out rows that are exactly at a bound: for Graph ge is then gt, le is lt,
	// where they compare lastUpdateDateTime.
	SinceExclusive, UntilExclusive bool
	// TruncateBounds cuts both bounds down to a multiple of this before they are compared, as a service that parses
	// only whole seconds does: rows in the last part second of a window are not in the answer. 0: not at all.
	TruncateBounds time.Duration
	// TruncateRows cuts the rows' times down for the comparison, as an index of less precision does. 0: not at all.
	TruncateRows time.Duration

	Order Order
	Form  Form
	// Cap silently keeps the newest Cap rows of each answer, after limit. 0: none.
	Cap int

	// Gzip compresses answers for clients that ask for it.
	Gzip bool
	// ContentLength declares the length of uncompressed answers; else they come chunked.
	ContentLength bool

	// NoDate leaves out the Date header. DateOffset moves every Date, without the clock. DateSkew moves the Date of a
	// share (0 to 1) of the answers, chosen by the seed.
	NoDate        bool
	DateOffset    time.Duration
	DateSkew      time.Duration
	DateSkewShare float64

	// RefreshOnce takes a refresh token only once, as stricter servers do, and revokes the login when one comes again.
	// Entra ID leaves old refresh tokens good. KeepRefresh gives no new refresh token with an access token.
	RefreshOnce, KeepRefresh bool

	// RefuseFuture answers 400 to a query whose untilTimeUtc is later than the service's clock.
	RefuseFuture bool
	// Forbidden answers 403 to every query that carries a good token.
	Forbidden bool

	// UntimedFor is how long a row without a usable LastProcessedTimeUtc comes in every answer, whatever the window,
	// from the moment it became visible; 0: 2 h. For limit and Cap such a row is older than any other (.NET's zero
	// time sorts first), or newer with UntimedNewest.
	UntimedFor    time.Duration
	UntimedNewest bool

	// StallCut breaks an answer whose client takes nothing for this long. 0: waits for ever.
	StallCut time.Duration
	// Rate limits every body to so many bytes a second. 0: no limit.
	Rate int
}

func (m Modes) untimedFor() time.Duration {
	if m.UntimedFor == 0 {
		return 2 * time.Hour
	}
	return m.UntimedFor
}
