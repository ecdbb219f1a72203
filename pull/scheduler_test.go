package pull

import (
	"testing"
	"time"
)

// Many sources are due at the ends of moments, never earlier than by themselves and never much later.
func TestManySourcesAreDueTogether(t *testing.T) {
	born := time.Now()
	for _, c := range []struct{ now, wait, want time.Duration }{
		{100 * time.Second, 60 * time.Second, 165 * time.Second},
		{103 * time.Second, 60 * time.Second, 165 * time.Second},
		{101500 * time.Millisecond, 54 * time.Second, 160 * time.Second},
		{100 * time.Second, 30 * time.Second, 132 * time.Second}, // moments of 3 s
		{100 * time.Second, 11 * time.Second, 112 * time.Second},
		{100 * time.Second, 9900 * time.Millisecond, 109900 * time.Millisecond}, // by itself
		{100 * time.Second, 0, 100 * time.Second},
		{100 * time.Second, -time.Second, 99 * time.Second},
		{100 * time.Second, time.Hour, 3705 * time.Second},
	} {
		if got := endOfMoment(born, born.Add(c.now), born.Add(c.now+c.wait)).Sub(born); got != c.want {
			t.Errorf("at %s, due in %s: due at %s, want %s", c.now, c.wait, got, c.want)
		}
	}
}
