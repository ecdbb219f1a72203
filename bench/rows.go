// Command bench measures what docs/performance.md states, as ratios within one run: machines are noisy. It is a
// module of its own, so that the plugin does not depend on what it is compared with.
package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/sample"
	"fluent-bit-defender/record"
)

// answer is what is read: the JSON array, and its rows, for readers that take one at a time.
type answer struct {
	body    []byte
	rows    [][]byte
	schema  record.Schema
	timeKey string
}

// rowLike is about what one of seedLike's rows takes.
const rowLike = 1815

// seedLike is an answer of n rows that are shaped as those of the seed: about 1.8 KB, nulls, digests, escaped paths,
// some titles beyond ASCII, the keys always in the same order.
func seedLike(n int) answer {
	a := answer{body: sample.Alerts(n), schema: record.SIEM, timeKey: "AlertTime"}
	var rows []json.RawMessage
	if err := json.Unmarshal(a.body, &rows); err != nil {
		panic(err)
	}
	for _, r := range rows {
		a.rows = append(a.rows, r)
	}
	return a
}

// motley is one of the simulated service: keys that come and go, text that is escaped in four ways, lists within the
// rows.
func motley(n int) answer {
	now := time.Now().UTC()
	alerts := defendersim.Generate(rand.New(rand.NewPCG(1, 2)), n, now.Add(-time.Hour), now,
		defendersim.Mix{Style: defendersim.WideStyle})
	a := answer{schema: record.SIEM, timeKey: "AlertTime"}
	for _, al := range alerts {
		a.rows = append(a.rows, al.Text)
	}
	a.body = list(a.rows)
	return a
}

// graph is one of n alerts of Microsoft Graph as the simulated service makes them: 4.4 KB, 2 to 6 pieces of evidence
// of several kinds, escaped texts.
func graph(n int) answer {
	now := time.Now().UTC()
	a := answer{schema: record.Graph, timeKey: "createdDateTime"}
	made := defendersim.GenerateGraph(rand.New(rand.NewPCG(1, 2)), n, 0, now.Add(-time.Hour), now,
		defendersim.GraphMix{})
	for _, al := range made {
		a.rows = append(a.rows, al.Text)
	}
	a.body = list(a.rows)
	return a
}

func list(rows [][]byte) []byte {
	return slices.Concat([]byte{'['}, bytes.Join(rows, []byte{','}), []byte{']'})
}
