package share

import (
	"log/slog"
	"time"
)

const tellEvery = 10 * time.Minute // between two lines about one lasting failure

// reporter writes about what lasts: once when it begins, in a while again, and once when it is over. It is not safe
// for concurrent use.
type reporter struct {
	log   *slog.Logger
	said  string // the last state that was told
	lasts map[string]*lasting
}

type lasting struct {
	text string
	told time.Time
}

// failed tells that doing something fails.
func (r *reporter) failed(what string, err error) {
	if r.again(what, err.Error()) {
		r.log.Error("pods that share: " + what + " failed: " + err.Error() + "; it is tried again, and nothing is " +
			"lost meanwhile")
	}
}

// warn tells of something that lasts.
func (r *reporter) warn(text string) {
	if r.again("", text) {
		r.log.Warn(text)
	}
}

func (r *reporter) again(what, text string) bool {
	now := time.Now()
	l := r.lasts[what]
	if l != nil && l.text == text && now.Sub(l.told) < tellEvery {
		return false
	}
	if l != nil && l.text != text && now.Sub(l.told) < time.Minute { // another text of the same failure
		return false
	}
	if r.lasts == nil {
		r.lasts = map[string]*lasting{}
	}
	r.lasts[what] = &lasting{text, now}
	return true
}

// recovered tells that it works, if it did not before.
func (r *reporter) recovered(what string) {
	if r.lasts[what] != nil {
		delete(r.lasts, what)
		r.log.Info("pods that share: " + what + " works again")
	}
}

// say tells a state when it is another than the one told last.
func (r *reporter) say(state string) {
	if state != r.said {
		r.said = state
		r.log.Info(state)
	}
}
