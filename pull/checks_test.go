package pull

import (
	"flag"
	"os"
	"strconv"
)

// setChecks makes each of the two shards live half of HISTORIES.
func setChecks() {
	if n, err := strconv.Atoi(os.Getenv("HISTORIES")); err == nil {
		flag.Set("rapid.checks", strconv.Itoa((n+1)/2))
	}
}
