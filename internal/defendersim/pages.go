package defendersim

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Page answers 200 with whatever write writes: any body a test can think of, streamed. When write returns an error of
// its own the connection breaks.
func Page(name, contentType string, write func(w io.Writer) error) *Fault {
	return &Fault{Name: name, Page: write, ContentType: contentType}
}

// Body answers 200 with a fixed text, as JSON.
func Body(text string) *Fault {
	return Page("body", "", func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
}

// HTML is a page of a proxy or a portal with status 200.
func HTML() *Fault {
	f := Body("<!DOCTYPE html>\r\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\r\n")
	f.Name, f.ContentType = "html", "text/html; charset=utf-8"
	return f
}

// EmptyBody is status 200 without a byte.
func EmptyBody() *Fault {
	f := Body("")
	f.Name = "empty"
	return f
}

// NoAlerts is an object without any field of an alert.
func NoAlerts() *Fault {
	f := Body(`{"Message":"An error has occurred.","Code":0}`)
	f.Name = "object"
	return f
}

// NeverClosed sends every row and then ends, as a complete answer, before the list closes.
func NeverClosed() *Fault { return &Fault{Name: "open", open: true} }

// BigBody answers with generated rows of the SIEM API until their text is at least size bytes, in constant memory.
// They are not in the ledger. Asked for the same window, it gives the same rows: FullId "big-<n>:x", times evenly
// from since to until.
func BigBody(size int64) *Fault { return &Fault{Name: "big", big: size} }

func writeBig(w io.Writer, size int64, q Query) error {
	const number = "0000000000"
	a := SeedAlert(time.Unix(1, 234567800))
	text := bytes.ReplaceAll(a.Text, []byte("\n"), nil)
	text = bytes.ReplaceAll(text, []byte(a.FullID), []byte("big-"+number+":x"))
	text = bytes.ReplaceAll(text, []byte(a.AlertID), []byte("big-"+number))
	const fixed = "2006-01-02T15:04:05.0000000Z"
	text = bytes.Replace(text, []byte(a.Processed), []byte(fixed), 1)
	var numbers []int
	for at := 0; ; {
		i := bytes.Index(text[at:], []byte("big-"))
		if i < 0 {
			break
		}
		numbers = append(numbers, at+i+len("big-"))
		at += i + 1
	}
	timeAt := bytes.Index(text, []byte(fixed))
	text = append([]byte("["), text...)
	rows := size/int64(len(text)) + 1
	span := q.Until.Sub(q.Since)
	var stamped []byte
	for n := range rows {
		for _, at := range numbers {
			v := n
			for i := len(number); i > 0; i-- {
				text[at+i], v = byte('0'+v%10), v/10
			}
		}
		t := q.Since.Add(time.Duration(float64(span) * (float64(n) / float64(rows))))
		stamped = t.UTC().AppendFormat(stamped[:0], fixed) // not in place: it writes past its end and cuts
		copy(text[timeAt+1:], stamped)
		if _, err := w.Write(text); err != nil {
			return err
		}
		text[0] = ','
	}
	_, err := io.WriteString(w, "]")
	return err
}

// GzipBomb is one row whose text is size bytes long once decompressed and about a thousandth of that on the wire. It is
// declared as gzip whatever the client asked for.
func GzipBomb(size int64) *Fault {
	// A gzip stream may be many members, one after the other: the long middle is one member, sent again and again. They
	// are made here, so that the answer begins at once.
	const unit = 1 << 20
	member := func(text []byte) []byte {
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		z.Write(text)
		z.Close()
		return b.Bytes()
	}
	begin := member([]byte(`[{"AlertId":"bomb","AlertPart":0,"Description":"`))
	middle := member(bytes.Repeat([]byte("A"), unit))
	end := member([]byte(`"}]`))
	return &Fault{Name: "gzip bomb", Encoded: true, Page: func(w io.Writer) error {
		if _, err := w.Write(begin); err != nil {
			return err
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		for sent := int64(0); sent < size; sent += unit {
			if _, err := w.Write(middle); err != nil {
				return err
			}
		}
		_, err := w.Write(end)
		return err
	}}
}

// Nested is one row that is nested so many levels deep.
func Nested(depth int) *Fault {
	return Page("nested", "", func(w io.Writer) error {
		_, err := fmt.Fprintf(w, `[{"AlertId":"nested","AlertPart":0,"Deep":%s1%s}]`,
			bytes.Repeat([]byte("["), depth), bytes.Repeat([]byte("]"), depth))
		return err
	})
}
