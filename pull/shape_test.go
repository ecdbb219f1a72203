package pull

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/shape"
)

// An alert as large as they come has a record in each format with the default sizes, also beside the native alert.
func TestLargeAlertsHaveARecordInEachFormat(t *testing.T) {
	at := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	gen := defendersim.NewGraphGenerator(rand.New(rand.NewPCG(1, 2)), defendersim.GraphMix{})
	alert := gen.Large(at, 400, 900<<10)
	if n := len(alert.Text); n < 900<<10 || n > 1<<20 {
		t.Fatalf("the alert has %d bytes", n)
	}
	for _, format := range append([]string{conf.Native}, shape.Formats...) {
		cfg := &conf.Config{
			API:    conf.Graph,
			Shape:  conf.Shape{Format: format, KeepNative: format != conf.Native, TimeKey: "createdDateTime"},
			Memory: conf.Memory{BatchSize: 1 << 20, MaxAlertSize: 1 << 20},
		}
		r := (&Source{cfg: cfg}).newReader()
		r.Reset(bytes.NewReader(alert.Text), func() time.Time { return at })
		data, row, err := r.Next(nil)
		if err != nil || row.Raw || len(data) > shapedMost<<20 {
			t.Errorf("%s: a record of %d bytes: %s, %v", format, len(data), row.Reason, err)
		}
	}
}
