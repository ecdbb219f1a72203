package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Each dialogue: what is heard of the API (g: gone, o: anything else) or of the successor (y: it answers, n: it does
// not) at which minute, and what is decided: when the successor is asked next, and whether the source goes on with
// it.
func TestSuccession(t *testing.T) {
	for name, steps := range map[string]string{
		"the API lives": "0y next 24h0m0s; 1o next 24h0m0s; 1440y next 48h0m0s",
		"it ends":       "0y next 24h0m0s; 10g next 24h0m0s; 11g next 1h10m0s; 40g next 1h10m0s; 70y succeeds",
		"one refusal is not enough, whatever its age": "0y next 24h0m0s; 10g next 24h0m0s; 90g next " +
			"1h10m0s; 90y succeeds",
		"one answer of another kind begins anew": "0y next 24h0m0s; 10g next 24h0m0s; 20g next " +
			"1h10m0s; 69o next 24h0m0s; 70g next 24h0m0s; 71g next 2h10m0s",
		"a daily look comes first, and decides nothing too early": "0y next 24h0m0s; 1430g next 24h0m0s; 1435g next " +
			"24h0m0s; 1440y next 24h50m0s; 1490y succeeds",
		"the successor is away": "0y next 24h0m0s; 10g next 24h0m0s; 11g next 1h10m0s; " +
			"70n next 1h11m0s; 71n next 1h12m0s; 72y succeeds",
		"a permission is missing at start, and given in time": "0n next 10m0s; 10n next 20m0s; 15g next 20m0s; 16g " +
			"next 20m0s; 20n next 30m0s; 30y next 1h15m0s; 75y succeeds",
		"a permission is missing for ever": "0n next 10m0s; 10n next 20m0s; 20n next 30m0s; 30n next 40m0s; 40n next " +
			"50m0s; 50n next 1h0m0s; " +
			"60n next 25h0m0s; 61g next 25h0m0s; 62g next 2h1m0s; 121n next 2h2m0s; 122n next 2h3m0s",
	} {
		t.Run(name, func(t *testing.T) {
			born := time.Unix(1e9, 0)
			s := NewSuccession(time.Hour, born, 0)
			if ask, at := s.Next(born); !ask || !at.Equal(born) {
				t.Fatalf("asks the successor first at %s", at.Sub(born))
			}
			for _, step := range strings.Split(steps, "; ") {
				var minute int
				var what rune
				if _, err := fmt.Sscanf(step, "%d%c", &minute, &what); err != nil {
					t.Fatal(err)
				}
				local := born.Add(time.Duration(minute) * time.Minute)
				succeeds := false
				switch what {
				case 'g', 'o':
					s.Heard(local, what == 'g')
				default:
					if ask, at := s.Next(local); !ask {
						t.Errorf("%s: not asked before %s", step, at.Sub(born))
					}
					succeeds = s.Answered(local, what == 'y')
				}
				_, at := s.Next(local)
				got := fmt.Sprintf("%d%c next %s", minute, what, at.Sub(born))
				if succeeds {
					got = fmt.Sprintf("%d%c succeeds", minute, what)
				}
				if got != step {
					t.Errorf("%s, want %s", got, step)
				}
			}
		})
	}
}
