package transport

import (
	"bytes"
	stdgzip "compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"

	"fluent-bit-defender/internal/simtest"
)

// streamed answers with a body of unknown length.
func streamed(body func() io.ReadCloser, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		r := simtest.Reply(req, 200, "", header...)
		r.Body, r.ContentLength = body(), -1
		return r, nil
	}
}

func TestSlowBodies(t *testing.T) {
	f := func(name string, body func() io.ReadCloser, after time.Duration, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := connect(t, simtest.Settings(), &simtest.Service{Alerts: streamed(body)})
			start := time.Now()
			a, err := c.fetch(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			_, err = io.Copy(io.Discard, io.LimitReader(a, 100<<10))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != want || time.Since(start) != after {
				t.Errorf("%s: after %v\n got %s\nwant %s", name, time.Since(start), got, want)
			}
			if want == "" {
				return
			}
			if _, again := a.Read(make([]byte, 1)); again != err {
				t.Errorf("%s: then %v instead of the same error", name, again)
			}
		})
	}
	f("silence", func() io.ReadCloser { return simtest.Drip(time.Hour, 1) }, time.Minute,
		"alerts request: answer silent for 1m0s (read_timeout) after 0 bytes; if it lasts, raise read_timeout or "+
			"lower max_window")
	f("a byte at a time", func() io.ReadCloser { return simtest.Drip(1100*time.Millisecond, 1) }, time.Minute,
		"alerts request: answer trickles: 54 bytes in 1m0s (read_timeout) of waiting, after 54 bytes; if it lasts, "+
			"raise read_timeout or lower max_window")
	f("silence after a start", func() io.ReadCloser {
		rest := simtest.Drip(time.Hour, 1)
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(strings.Repeat(" ", 2000)), rest), rest}
	}, time.Minute, "alerts request: answer silent for 1m0s (read_timeout) after 2000 bytes; if it lasts, raise "+
		"read_timeout or lower max_window")
	f("slow but steady is let through", func() io.ReadCloser { return simtest.Drip(50*time.Second, 1024) },
		100*50*time.Second, "")
	f("20 bytes a second are let through", func() io.ReadCloser { return simtest.Drip(time.Second, 20) },
		5120*time.Second, "")
}

func TestHoldingADownloadIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: streamed(func() io.ReadCloser {
			return simtest.Drip(time.Second,
				10)
		})})
		a, err := c.fetch(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		for range 50 {
			if _, err := a.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestCutBodies(t *testing.T) {
	f := func(name string, length int64, want error, text string) {
		t.Helper()
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: func(req *http.Request) (*http.Response, error) {
			r := simtest.Reply(req, 200, simtest.Alert)
			r.ContentLength = length
			return r, nil
		}})
		got, err := fetch(c)
		if got != simtest.Alert || !errors.Is(err, want) || (err != nil && err.Error() != text) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	f("whole", int64(len(simtest.Alert)), nil, "")
	f("length unknown", -1, nil, "")
	f("short by one", int64(len(simtest.Alert))+1, io.ErrUnexpectedEOF, "alerts request: answer cut after 46 "+
		"of 47 bytes: "+
		"unexpected EOF; if it lasts, look for a proxy that cuts long answers, and lower max_window")
}

func TestGzip(t *testing.T) {
	named := func() []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		z.Name, z.Comment, z.Extra = "alerts.json", "all", []byte("x")
		io.WriteString(z, " ")
		z.Close()
		return out.Bytes()
	}()
	whole := simtest.Zip(simtest.Alert)
	f := func(name string, body []byte, encoding, want, text string) {
		t.Helper()
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: simtest.Always(200, string(body),
			"Content-Encoding: "+encoding)})
		got, err := fetch(c)
		fault := ""
		if err != nil {
			fault = err.Error()
		}
		if got != want || fault != text {
			t.Errorf("%s: %q, %s\nwant %q, %s", name, got, fault, want, text)
		}
	}
	f("one member", whole, "gzip", simtest.Alert, "")
	f("its old name", whole, "X-Gzip", simtest.Alert, "")
	f("no encoding by name", []byte(simtest.Alert), "identity", simtest.Alert, "")
	f("several members", bytes.Join([][]byte{whole, simtest.Zip(""), named, whole}, nil), "gzip", simtest.Alert+" "+
		simtest.Alert,
		"")
	f("garbage behind", append(bytes.Clone(whole), "garbage behind"...), "gzip", simtest.Alert,
		"alerts request: bad gzip after 46 decompressed bytes: gzip: invalid header; if it lasts, look for a proxy "+
			"that re-encodes answers")
	f("not gzip at all", []byte(simtest.Alert), "gzip", "", "alerts request: bad gzip after 0 decompressed "+
		"bytes: gzip: "+
		"invalid header; if it lasts, look for a proxy that re-encodes answers")
	damaged := bytes.Clone(whole)
	damaged[len(damaged)-5]++
	f("wrong checksum", damaged, "gzip", simtest.Alert, "alerts request: bad gzip after 46 decompressed bytes: gzip: "+
		"invalid checksum; if it lasts, look for a proxy that re-encodes answers")
	f("empty", nil, "gzip", "", "")

	t.Run("cut at any byte", func(t *testing.T) {
		both := append(bytes.Clone(named), whole...)
		for cut := 1; cut < len(both); cut++ {
			if cut == len(named) {
				continue // a whole stream
			}
			c := connect(t, simtest.Settings(), &simtest.Service{Alerts: simtest.Always(200, string(both[:cut]),
				"Content-Encoding: gzip")})
			if _, err := fetch(c); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut at %d of %d: %v", cut, len(both), err)
			}
		}
	})
	t.Run("cut by the connection", func(t *testing.T) {
		c := connect(t, simtest.Settings(), &simtest.Service{Alerts: func(req *http.Request) (*http.Response, error) {
			r := simtest.Reply(req, 200, string(whole[:20]), "Content-Encoding: gzip")
			r.ContentLength = int64(len(whole))
			return r, nil
		}})
		_, err := fetch(c)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "alerts request: answer cut "+
			"after 20 of ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestGzipBombStaysSmall(t *testing.T) {
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 32 {
		z.Write(zeros)
	}
	z.Close()
	body := bytes.Repeat(bomb.Bytes(), 4)
	c := connect(t, simtest.Settings(), &simtest.Service{Alerts: simtest.Always(200, string(body),
		"Content-Encoding: gzip")})
	a, err := c.fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	buf := make([]byte, 64<<10)
	var total int64
	for err == nil {
		var n int
		n, err = a.Read(buf)
		total += int64(n)
	}
	runtime.ReadMemStats(&after)
	if err != io.EOF || total != 128<<20 {
		t.Fatalf("read %d bytes, %v", total, err)
	}
	// All that was ever allocated, so also the most that was held.
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Fatalf("%d KiB were allocated for 128 MiB, want less than 1 MiB", got>>10)
	}
}

// What we take for a whole stream the standard library reads alike; the reverse does
// not hold, because it lets a header cut inside its name pass for the end.
func FuzzGunzip(f *testing.F) {
	f.Add(simtest.Zip(simtest.Alert))
	f.Add(append(simtest.Zip(""), simtest.Zip(simtest.Alert)...))
	f.Add(simtest.Zip(simtest.Alert)[:20])
	f.Add([]byte("no gzip"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		ctx, cancel := context.WithCancelCause(context.Background())
		c := &Network{base: ctx, ReadTimeout: time.Hour}
		b := c.guard(Target{Name: "fuzz"}, ctx, ctx, cancel, &http.Response{Body: io.NopCloser(bytes.NewReader(in)),
			ContentLength: -1})
		b.release = func() bool { return true }
		defer b.Close()
		r, err := Decoded(http.Header{"Content-Encoding": {"gzip"}}, b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.LimitReader(r, 1<<20))
		if err != nil || len(got) == 1<<20 || len(in) == 0 {
			return
		}
		z, err := stdgzip.NewReader(bytes.NewReader(in))
		if err != nil {
			t.Fatalf("the standard library refuses what gave %q: %v", got, err)
		}
		want, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %q, the standard library %q, %v", got, want, err)
		}
	})
}

// members is one gzip member after the other, without end.
type members struct {
	one  []byte
	left []byte
}

func (m *members) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(m.left) == 0 {
			m.left = m.one
		}
		k := copy(p[n:], m.left)
		m.left = m.left[k:]
		n += k
	}
	return n, nil
}

func (*members) Close() error { return nil }

func TestEmptyGzipMembersWithoutEndAreGivenUp(t *testing.T) {
	var empty bytes.Buffer
	z := stdgzip.NewWriter(&empty)
	z.Close()
	c := connect(t, simtest.Settings(),
		&simtest.Service{Alerts: streamed(func() io.ReadCloser { return &members{one: empty.Bytes()} },
			"Content-Encoding: gzip")})
	a, err := c.fetch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	_, err = io.Copy(io.Discard, a)
	if want := "alerts request: bad gzip after 0 decompressed bytes: one empty member after the other; if it lasts, " +
		"look for a proxy that re-encodes answers"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
