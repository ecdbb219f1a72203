// Command bench measures what docs/performance.md states, as ratios within one run: machines are noisy. It is a module of its
// own, so that the plugin does not depend on what it is compared with.
package main

import (
	"bytes"
	"math/rand/v2"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// sample is an answer of n rows shaped as the service's are: about 1.75 KB, nulls, digests, escaped paths, some titles beyond ASCII.
type sample struct {
	body []byte   // the JSON array
	rows [][]byte // its rows
}

func newSample(n int) sample {
	now := time.Now().UTC()
	alerts := defendersim.Generate(rand.New(rand.NewPCG(1, 2)), n, now.Add(-time.Hour), now, defendersim.Mix{Style: defendersim.WideStyle})
	var s sample
	var b bytes.Buffer
	b.WriteByte('[')
	for i, a := range alerts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(a.Text)
		s.rows = append(s.rows, a.Text)
	}
	b.WriteByte(']')
	s.body = b.Bytes()
	return s
}
