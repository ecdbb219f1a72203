package shape

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/record"
)

var update = flag.Bool("update", false, "write golden files and docs/shapes.md anew")

const testTenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"

// pulled is the time of the pull in all tests.
var pulled = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func optionsOf(t testing.TB, format, api string, keepNative bool) record.Options {
	t.Helper()
	opt := record.Options{Schema: record.SIEM, TimeKey: "AlertTime"}
	if api == graph {
		opt = record.Options{Schema: record.Graph, TimeKey: "createdDateTime"}
	}
	if format != "native" {
		if opt.Encode, opt.EncodeRaw = Encoders(format, api, keepNative); opt.Encode == nil {
			t.Fatalf("no format %s for %s", format, api)
		}
	}
	return opt
}

// encoded is one record.
type encoded struct {
	row  record.Row
	time time.Time
	data []byte // its fields, as a MessagePack map
	text []byte // the same as JSON
}

func (r *encoded) fields(t testing.TB) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(r.text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v: %s", err, r.text)
	}
	return m
}

// readAll reads the records of an answer.
func readAll(t testing.TB, opt record.Options, body []byte) []encoded {
	t.Helper()
	r := record.NewReader(opt)
	r.Reset(bytes.NewReader(body), func() time.Time { return pulled })
	r.SetTenant(testTenant)
	var out []encoded
	for {
		data, row, err := r.Next(nil)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		e := encoded{row: row, data: data[11:]}
		e.time = time.Unix(int64(uint32(data[3])<<24|uint32(data[4])<<16|uint32(data[5])<<8|uint32(data[6])),
			int64(uint32(data[7])<<24|uint32(data[8])<<16|uint32(data[9])<<8|uint32(data[10]))).UTC()
		c := record.NewCursor(e.data)
		e.text = toJSON(nil, &c)
		if c.Offset() != len(e.data) {
			t.Fatalf("%d bytes behind the end of the record", len(e.data)-c.Offset())
		}
		out = append(out, e)
	}
}

// toJSON writes the value at the cursor, its fields in their order.
func toJSON(dst []byte, c *record.Cursor) []byte {
	switch c.Kind() {
	case record.Object:
		dst = append(dst, '{')
		for i, n := 0, c.Open(); i < n; i++ {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendJSONText(dst, c.Text()), ':')
			dst = toJSON(dst, c)
		}
		return append(dst, '}')
	case record.Array:
		dst = append(dst, '[')
		for i, n := 0, c.Open(); i < n; i++ {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = toJSON(dst, c)
		}
		return append(dst, ']')
	case record.Text:
		return appendJSONText(dst, c.Text())
	case record.Int:
		n, big := c.Int()
		if big {
			return strconv.AppendUint(dst, uint64(n), 10)
		}
		return strconv.AppendInt(dst, n, 10)
	case record.Float:
		return strconv.AppendFloat(dst, c.Float(), 'g', -1, 64)
	case record.Bool:
		return strconv.AppendBool(dst, c.Bool())
	}
	c.Skip()
	return append(dst, "null"...)
}

func appendJSONText(dst, text []byte) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(string(text))
	return append(dst, bytes.TrimRight(b.Bytes(), "\n")...)
}

func list(rows ...[]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(rows, []byte{','})...), ']')
}

// siemRows and graphRows are alerts of the simulated service, always the same.
func siemRows(n int) [][]byte {
	var rows [][]byte
	from := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, a := range defendersim.Generate(rand.New(rand.NewPCG(1, 2)), n, from, from.Add(time.Hour),
		defendersim.Mix{Style: defendersim.MixedStyle}) {
		rows = append(rows, a.Text)
	}
	return rows
}

func graphRows(alerts, updates int) [][]byte {
	var rows [][]byte
	from := time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, a := range defendersim.GenerateGraph(rand.New(rand.NewPCG(1, 2)), alerts, updates, from, from.Add(time.Hour),
		defendersim.GraphMix{}) {
		rows = append(rows, a.Text)
	}
	return rows
}

// kindRows are alerts of Graph with a piece of evidence of each kind, as Microsoft documents them, and of one that
// nobody knows.
func kindRows(t testing.TB) [][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/evidence.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for _, r := range rows {
		out = append(out, r)
	}
	return out
}

// sampleRows are n alerts of the simulated service, the public example, those with each kind of evidence, and odd ones.
func sampleRows(t testing.TB, api string, n int) [][]byte {
	if api == siem {
		return append(siemRows(n), defendersim.SeedAlertText(), []byte(siemOdd))
	}
	return append(append(graphRows(n-n/3, n/3), kindRows(t)...), []byte(graphOdd))
}

// Alerts whose fields hold what nobody expects there.
const (
	siemOdd = `{"AlertId":1,"AlertTime":"yesterday","Severity":"Apocalyptic","Category":{"a":1},"Sha1":"xyz","IpAddress":"999.1.1.1","InternalIPv4List":["1.2.3.4",5],` +
		`"RemediationIsSuccess":"yes","Url":"no url","UserName":"","FilePath":[],"Extra":{"deep":[1,2.5,null,true]}}`
	graphOdd = `{"id":true,"lastUpdateDateTime":"2024-01-01T00:00:00Z","createdDateTime":"2024-01-01T00:00:00.5+02:00","firstActivityDateTime":"2024-01-02T00:00:00Z",` +
		`"lastActivityDateTime":"2024-01-01T00:00:00Z","severity":"unknownFutureValue","mitreTechniques":["T1059.001",null,5,""],"category":"New",` +
		`"evidence":[null,17,"text",{},[],{"@odata.type":5},{"@odata.type":"#microsoft.graph.security.processEvidence","processId":"12x","imageFile":[1,{"sha1":5}],"userAccount":"x"}]}`
)
