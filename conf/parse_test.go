package conf

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseDuration(t *testing.T) {
	f := func(text string, want time.Duration, wantErr error) {
		t.Helper()
		if n, err := parseDuration(text); time.Duration(n) != want || !errors.Is(err, wantErr) {
			t.Errorf("%q: %v, %v; want %v, %v", text, time.Duration(n), err, want, wantErr)
		}
	}
	f("90s", 90*time.Second, nil)
	f("5m", 5*time.Minute, nil)
	f("5M", 5*time.Minute, nil)
	f("2h", 2*time.Hour, nil)
	f("7d", 7*24*time.Hour, nil)
	f("90", 90*time.Second, nil)
	f("007", 7*time.Second, nil)
	f("9223372036", 9223372036*time.Second, nil)
	f("9223372037", 0, errTooLarge)
	f("106752d", 0, errTooLarge)
	f("99999999999999999999d", 0, errTooLarge)
	for _, text := range []string{"", "s", "-5s", "+5s", "1.5h", "1h30m", "5 m", "5ms", "5w", "٥s", "1e3", "0x10",
		"5s\x00"} {
		f(text, 0, errNotDuration)
	}
}

func TestParseSize(t *testing.T) {
	f := func(text string, want int64, wantErr error) {
		t.Helper()
		if n, err := parseSize(text); n != want || !errors.Is(err, wantErr) {
			t.Errorf("%q: %d, %v; want %d, %v", text, n, err, want, wantErr)
		}
	}
	f("512k", 512_000, nil)
	f("1M", 1_000_000, nil)
	f("1mb", 1_000_000, nil)
	f("2G", 2_000_000_000, nil)
	f("4096", 4096, nil)
	f("9223372036854775807", math.MaxInt64, nil)
	f("9223372036854775808", 0, errTooLarge)
	f("9223372036854775807k", 0, errTooLarge)
	for _, text := range []string{"", "k", "-1", "1.5M", "1MiB", "1T", "1 M", "1b", "1kk"} {
		f(text, 0, errNotSize)
	}
}

func TestParseSpan(t *testing.T) {
	f := func(text string, want time.Duration, wantErr error) {
		t.Helper()
		if n, err := parseSpan(text); time.Duration(n) != want || !errors.Is(err, wantErr) {
			t.Errorf("%q: %v, %v; want %v, %v", text, time.Duration(n), err, want, wantErr)
		}
	}
	f("PT10M", 10*time.Minute, nil)
	f("P1D", 24*time.Hour, nil)
	f("PT1H30M", 90*time.Minute, nil)
	f("P1W", 7*24*time.Hour, nil)
	f("P1DT1H1M1S", 25*time.Hour+61*time.Second, nil)
	f("PT0S", 0, nil)
	f("P1Y", 0, errNoFixedSpan)
	f("P1M", 0, errNoFixedSpan)
	f("P1Y2M3DT4H", 0, errNoFixedSpan)
	f("P106751DT24H", 0, errTooLarge)
	f("PT9223372037S", 0, errTooLarge)
	f("P99999999999999999999W", 0, errTooLarge)
	for _, text := range []string{"", "P", "PT", "P1DT", "PT1.5H", "PT1,5H", "pt10m", "10M", "-PT1H", "P-1D", "P1W2D",
		"PT1M1H", "PT1H ", "P1D1H"} {
		f(text, 0, errNotSpan)
	}
}

func TestParseBool(t *testing.T) {
	for text, want := range map[string]bool{"on": true, "TRUE": true, "Yes": true, "off": false, "false": false,
		"NO": false} {
		if got, err := parseBool(text); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "0", "y", "enabled", "onn"} {
		if _, err := parseBool(text); !errors.Is(err, errNotBoolean) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseList(t *testing.T) {
	f := func(text string, want []string, wantErr error) {
		t.Helper()
		got, err := parseList(text)
		if !errors.Is(err, wantErr) || !cmp.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q, %v", text, got, err, want, wantErr)
		}
	}
	f("a", []string{"a"}, nil)
	f(" b , a b,b", []string{"b", "a b"}, nil)
	f("Führung,گروه\u200cها", []string{"Führung", "گروه\u200cها"}, nil)
	f("", nil, errEmptyItem)
	f(",", nil, errEmptyItem)
	f("a,,b", nil, errEmptyItem)
	f("a, ", nil, errEmptyItem)
	f("a\nb", nil, errUnprintable)
	f("a\ufeff", nil, errUnprintable)
	f("a\xff", nil, errUnprintable)
	f(strings.Repeat("a", maxList), []string{strings.Repeat("a", maxList)}, nil)
	f(strings.Repeat("a", maxList+1), nil, errTooLong)
}

func TestParsePath(t *testing.T) {
	for _, text := range []string{"/var/lib/x.db", "x.db", "./x.db", "../x.db", "/a b/c", "/a/..b"} {
		if got, err := parsePath(text); got != text || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	f := func(text string, want error) {
		t.Helper()
		if _, err := parsePath(text); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	for _, text := range []string{"/", "/var/lib/", ".", "..", "/var/lib/.", "a/.."} {
		f(text, errNotFile)
	}
	f("~/x.db", errHomeNotKnown)
	f("/x\x00y", errUnprintable)
	f(strings.Repeat("p", maxPath+1), errTooLong)
}

func TestParseSecret(t *testing.T) {
	if s, err := parseSecret(sampleSecret); s.Reveal() != sampleSecret || err != nil {
		t.Errorf("%q, %v", s.Reveal(), err)
	}
	f := func(text string, want error) {
		t.Helper()
		if _, err := parseSecret(text); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	f(" abc", errEdgeSpace)
	f("abc\n", errEdgeSpace)
	f("a\tb", errUnprintable)
	f(strings.Repeat("x", maxSecret+1), errTooLong)
}

func TestParseAddress(t *testing.T) {
	endpoint, anywhere, proxy := address{whole: true}, address{plain: true, whole: true},
		address{plain: true, proxy: true}
	f := func(a address, text, want string, wantErr error) {
		t.Helper()
		if got, err := a.parse(text); got != want || !errors.Is(err, wantErr) {
			t.Errorf("%+v %q: %q, %v; want %q, %v", a, text, got, err, want, wantErr)
		}
	}
	f(endpoint, "https://Host.Example.com:443/api/Alerts/", "https://host.example.com/api/Alerts/", nil)
	f(endpoint, "https://[2001:DB8::1]:8443/x", "https://[2001:db8::1]:8443/x", nil)
	for _, host := range []string{"localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9:81", "[::1]:81",
		"[::ffff:127.0.0.1]"} {
		f(endpoint, "http://"+host+"/x", "http://"+strings.ToLower(host)+"/x", nil)
	}
	for _, host := range []string{"localhost.example.com", "127.0.0.1.nip.io", "128.0.0.1", "[::2]", "0.0.0.0",
		"2130706433", "169.254.169.254"} {
		f(endpoint, "http://"+host+"/x", "", errPlain)
		f(anywhere, "http://"+host+"/x", "http://"+host+"/x", nil)
	}
	f(endpoint, "http://localhost:80/x", "http://localhost/x", nil)
	f(endpoint, "https://user@localhost/x", "", errCredentials)
	f(endpoint, "https://:pass@localhost/x", "", errCredentials)
	f(endpoint, "https:///x", "", errNoHost)
	f(endpoint, "https://täst.example/x", "", errNoHost)
	f(endpoint, "https://-a.example/x", "", errNoHost)
	f(endpoint, "https://[fe80::1%25eth0]/x", "", errNoHost)
	f(endpoint, "https://a:/x", "", errPort)
	f(endpoint, "https://a:65536/x", "", errPort)
	f(endpoint, "https://a:port/x", "", errNotAddress)
	f(endpoint, "https://a/", "", errNoPath)
	f(endpoint, "https://a/x?", "", errQuery)
	f(endpoint, "https://a/<x>", "", errPlaceholder)
	f(endpoint, "https:a/x", "", errNotAddress)
	f(endpoint, "socks5://a/x", "", errScheme)
	f(endpoint, "https://a/\x01", "", errUnprintable)
	f(endpoint, "https://a/"+strings.Repeat("x", maxURL), "", errTooLong)
	f(address{}, "https://login.example.com/adfs/", "https://login.example.com/adfs", nil)
	f(proxy, "http://proxy:3128/", "http://proxy:3128", nil)
	f(proxy, "https://proxy", "https://proxy", nil)
	f(proxy, "socks5://proxy:1080", "socks5://proxy:1080", nil)
	f(proxy, "http://proxy/x", "", errPath)
	f(proxy, "ftp://proxy", "", errScheme)
}

func TestWholeSecondsAreWrittenAsTheStanzaDoes(t *testing.T) {
	for text, want := range map[string]string{"0": "0s", "59s": "59s", "90s": "90s", "960": "16m", "120m": "2h",
		"36h": "36h", "48h": "2d"} {
		n, err := parseDuration(text)
		if err != nil || span(time.Duration(n)) != want {
			t.Errorf("%s: %s, want %s (%v)", text, span(time.Duration(n)), want, err)
		}
	}
}
