package shape

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// isIP takes the addresses that net/netip does, but for those with a zone.
func checkIP(t *testing.T, s string) {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if want := err == nil && a.Zone() == ""; isIP([]byte(s)) != want {
		t.Errorf("%q: want %v", s, want)
	}
}

var addresses = []string{
	"", "1", "1.2.3.4", "255.255.255.255", "256.1.1.1", "01.2.3.4", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3",
	"0.0.0.0", "1.2.3.4 ", "::", "::1", "1::",
	":", ":1", "1:", ":::", "1:::2", "1::2::3", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
	"1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8::",
	"fe80::1%eth0", "fe80::1", "FE80::ABCD", "12345::", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:1.2.3.4",
	"1:2:3:4:5:6:7:1.2.3.4", "::1.2.3.4:5",
	"::1.2.3", "1::1.2.3.4", "g::", "::g", "2001:db8::8a2e:370:7334", "::1.2.3.256", "1:2:3:4:5:6::1.2.3.4",
	"1:2:3:4:5::1.2.3.4", "1.2.3.4:80", "0::0::0",
}

func TestAddresses(t *testing.T) {
	for _, s := range addresses {
		checkIP(t, s)
	}
}

func FuzzAddresses(f *testing.F) {
	for _, s := range addresses {
		f.Add(s)
	}
	f.Fuzz(checkIP)
}

func TestDigests(t *testing.T) {
	for c := range 256 {
		for _, digits := range []int{32, 40, 64} {
			for k := range digits {
				s := []byte(strings.Repeat("09afAF5c", 8)[:digits])
				s[k] = byte(c)
				if want := strings.ContainsRune("0123456789abcdefABCDEF", rune(c)); isHex(s, digits) != want {
					t.Fatalf("%q: want %v", s, want)
				}
			}
		}
	}
	if isHex(make([]byte, 31), 32) {
		t.Error("31 bytes are 32 digits")
	}
}

// Elasticsearch takes each time that date lets through, which is the same instant as in the alert.
func TestDates(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		r := readAll(t, optionsOf(t, ECS, siem, false),
			list([]byte(`{"AlertId":"a","AlertTime":"`+in+`"}`)))[0].fields(t)
		got, _ := r["event"].(map[string]any)["created"].(string)
		if got != want {
			t.Errorf("%s became %q, want %q", in, got, want)
		}
		if _, err := time.Parse(time.RFC3339Nano, got); want != "" && err != nil {
			t.Error(err)
		}
	}
	f("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z")
	f("2024-01-01T00:00:00.1234567Z", "2024-01-01T00:00:00.1234567Z")
	f("2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00+02:00")
	f("2024-01-01T00:00:00.5-11:30", "2024-01-01T00:00:00.5-11:30")
	f("2024-01-01 00:00:00", "2024-01-01T00:00:00Z")
	f("2024-01-01t00:00:00z", "2024-01-01T00:00:00Z")
	f("2024-01-01T00:00:00", "2024-01-01T00:00:00Z")
	f("2024-01-01T00:00:00,25Z", "2024-01-01T00:00:00.25Z")
	f("2024-01-01T02:00:00+0200", "2024-01-01T00:00:00Z")
	f("2024-01-01T02:00:00+02", "2024-01-01T00:00:00Z")
	f("0001-01-01T00:00:00", "")
	f("yesterday", "")
}
