package record

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
)

// reads gives a body in the pieces in which it came.
type reads [][]byte

func (r *reads) Read(p []byte) (int, error) {
	if len(*r) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*r)[0])
	if (*r)[0] = (*r)[0][n:]; len((*r)[0]) == 0 {
		*r = (*r)[1:]
	}
	return n, nil
}

// Keys that are too long to be predicted, or escaped, are read for themselves, wherever the text at hand ends: behind
// it stand NULs.
func TestKeysThatCannotBePredicted(t *testing.T) {
	for _, key := range []string{
		strings.Repeat("k", 30), strings.Repeat("k", 61), strings.Repeat("k", 100), strings.Repeat("k", 128),
		strings.Repeat("k", 129), `a\"b`, `\u0001`,
	} {
		row := func(n int) string { return fmt.Sprintf(`{"AlertId":"a%d","%s":%d,"o":{"%s":1}}`, n, key, n, key) }
		body := []byte("[" + row(1) + "," + row(2) + "," + row(3) + "]")
		want, err := readAll(NewReader(siemOptions()), bytes.NewReader(body))
		if err != nil || len(want) != 3 {
			t.Fatal(len(want), err)
		}
		for at := 1; at < len(body); at++ {
			r := NewReader(siemOptions())
			r.w.size = 4 << 10
			rows, err := readAll(r, &reads{body[:at], body[at:]})
			if err != nil || len(rows) != 3 {
				t.Fatalf("%s, read in two at %d: %d rows, %v", key, at, len(rows), err)
			}
			for i := range rows {
				if rows[i].Raw || !bytes.Equal(rows[i].Data, want[i].Data) {
					t.Fatalf("%s, read in two at %d: row %d is another", key, at, i)
				}
			}
		}
	}
}

// NULs are no key, whatever was predicted.
func TestNULsAreNoKey(t *testing.T) {
	for _, key := range []string{"short", strings.Repeat("k", 29), strings.Repeat("k", 30), strings.Repeat("k", 40),
		strings.Repeat("k", 128)} {
		for n := 1; n < 140; n++ {
			for _, first := range []string{`"AlertId":"a",`, ""} {
				body := fmt.Sprintf(`[{%s"%s":1},{%s%s%s7,"x":1}]`, first, key, first, strings.Repeat("\x00", n),
					strings.Repeat("z", len(key)-len(key)/10))
				rows, err := readAll(NewReader(siemOptions()), strings.NewReader(body))
				if err == nil || len(rows) != 1 {
					t.Fatalf("%d NULs for the key %s: %d rows, %v", n, key, len(rows), err)
				}
			}
		}
	}
}

// Readers share nothing that is written: each stanza has its own, on its own goroutine.
func TestReadersShareNothing(t *testing.T) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				rows, err := readAll(NewReader(siemOptions()), &reads{[]byte("[{"), []byte(`"AlertId":"a"}]`)})
				if err != nil || len(rows) != 1 {
					t.Errorf("%d rows, %v", len(rows), err)
				}
			}
		})
	}
	wg.Wait()
}
