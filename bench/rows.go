// Command bench measures what docs/performance.md states, as ratios within one run: machines are noisy. It is a module of its
// own, so that the plugin does not depend on what it is compared with.
package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/sample"
)

// answer is what is read: the JSON array, and its rows, for readers that take one at a time.
type answer struct {
	body []byte
	rows [][]byte
}

// rowLike is about what one of seedLike's rows takes.
const rowLike = 1815

// seedLike is an answer of n rows that are shaped as those of the seed: about 1.8 KB, nulls, digests, escaped paths, some titles beyond ASCII, the
// keys always in the same order.
func seedLike(n int) answer {
	a := answer{body: sample.Alerts(n)}
	var rows []json.RawMessage
	if err := json.Unmarshal(a.body, &rows); err != nil {
		panic(err)
	}
	for _, r := range rows {
		a.rows = append(a.rows, r)
	}
	return a
}

// motley is one of the simulated service: keys that come and go, text that is escaped in four ways, lists within the rows.
func motley(n int) answer {
	now := time.Now().UTC()
	alerts := defendersim.Generate(rand.New(rand.NewPCG(1, 2)), n, now.Add(-time.Hour), now, defendersim.Mix{Style: defendersim.WideStyle})
	var a answer
	var b bytes.Buffer
	b.WriteByte('[')
	for i, al := range alerts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(al.Text)
		a.rows = append(a.rows, al.Text)
	}
	b.WriteByte(']')
	a.body = b.Bytes()
	return a
}
