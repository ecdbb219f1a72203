package sample

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Contender is one of several things whose speed is compared.
type Contender struct {
	Name string
	Run  func() error
	Took func() time.Duration // what the last run took, where another process ran it; else nil
	Best time.Duration        // the least CPU time that a turn took
}

// Turn lets each run once, in turns. The best of many turns is what counts, in CPU time: so a busy machine spoils
// little.
func Turn(all []*Contender) error {
	for _, c := range all {
		began := cpuTime()
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		took := cpuTime() - began
		if c.Took != nil {
			took = c.Took()
		}
		if c.Best == 0 || took < c.Best {
			c.Best = took
		}
	}
	return nil
}

// cpuTime is that of this process, with Go's garbage collector in it.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// Reader is record.Reader.
type Reader[Row any] interface {
	Reset(body io.Reader, now func() time.Time)
	Next(dst []byte) ([]byte, Row, error)
}

// Reading returns a run that reads all rows of a body, of which it has so many, into batches of 1 MB.
func Reading[Row any](r Reader[Row], body []byte, rows int) func() error {
	const batch = 1 << 20
	dst := make([]byte, 0, 2*batch)
	in := bytes.NewReader(nil)
	now := func() time.Time { return time.Unix(1_700_000_000, 0) }
	return func() error {
		in.Reset(body)
		r.Reset(in, now)
		for n := 0; ; n++ {
			if len(dst) > batch {
				dst = dst[:0]
			}
			var err error
			dst, _, err = r.Next(dst)
			switch {
			case errors.Is(err, io.EOF) && n == rows:
				return nil
			case errors.Is(err, io.EOF):
				return fmt.Errorf("%d rows, want %d", n, rows)
			case err != nil:
				return err
			}
		}
	}
}
