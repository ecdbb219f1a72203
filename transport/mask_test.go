package transport

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"fluent-bit-defender/internal/simtest"
)

func TestMask(t *testing.T) {
	var m Mask
	m.Hide(simtest.Secret)
	m.Hide("p<w&d")
	m.Hide("")
	f := func(in, want string) {
		t.Helper()
		if got := m.Text(in, 200); got != want {
			t.Errorf("%q:\n got %q\nwant %q", in, got, want)
		}
	}
	f("nothing to hide here", "nothing to hide here")
	f("the secret "+simtest.Secret+" whole", "the secret [masked] whole")
	f("its start "+simtest.Secret[:8]+" or end "+simtest.Secret[30:], "its start [masked] or end [masked]")
	f("too little to tell: "+simtest.Secret[:5], "too little to tell: "+simtest.Secret[:5])
	f("escaped "+url.QueryEscape(simtest.Secret), "escaped [masked]")
	f("in base64 "+base64.StdEncoding.EncodeToString([]byte(simtest.Secret)), "in base64 [masked]")
	f("short: p<w&d", "short: [masked]")
	f("short in HTML: p&lt;w&amp;d", "short in HTML: [masked]")
	f(`short in JSON: p\u003cw\u0026d`, "short in JSON: [masked]")
	f("apart by what nobody sees "+simtest.Secret[:7]+"\u200b"+simtest.Secret[7:14]+"\u200b"+simtest.Secret[14:20],
		"apart by what "+
			"nobody sees [masked]")
	f("a token "+simtest.Token+" of others", "a token [masked] of others")
	f("Authorization: Bearer abc.def", "Authorization: Bearer [masked]")
	f("proxy-authorization: basic dXNlcjpwYXNz", "proxy-authorization: basic [masked]")
	f("client_secret=abc&x=1", "client_secret=[masked]&x=1")
	f(`{"client_assertion": "abc", "x": 1}`, "{'client_assertion': '[masked]', 'x': 1}")
	f("opaque 0123456789abcdef0123456789abcdef", "opaque [masked]")
	f("id "+simtest.ClientID, "id "+simtest.ClientID)
	f("a\r\nb\t\x00c \x1b[0m \u202e\xff é", "a b c [0m é")
	f(strings.Repeat("é", 150), strings.Repeat("é", 98)+"...")

	t.Run("only the newest are remembered", func(t *testing.T) {
		var m Mask
		for i := range 100 {
			m.Hide(strings.Repeat(string(rune('a'+i%26)), 8+i))
		}
		if len(m.hidden) != maxHidden {
			t.Fatalf("%d secrets kept", len(m.hidden))
		}
	})
}

func FuzzMask(f *testing.F) {
	f.Add("the secret is hunter2hunter2", "hunter2hunter2")
	f.Add("hunter2hun", "hunter2hunter2")
	f.Add("aaaaaaaaaaaaaaaaaaa", "aaaaaaaa")
	f.Add("é\xff\x00", "é")
	f.Add("[masked]", "[masked]")
	f.Add("aaaaaaaa\xe3aa\xfdaaaaaa", "aaaaaaaa")
	f.Fuzz(func(t *testing.T, s, secret string) {
		if len(s) > 2000 || len(secret) > 200 {
			t.Skip()
		}
		var m Mask
		m.Hide(secret)
		got := m.Text(s, 100)
		if len(got) > 100 || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n\"") {
			t.Fatalf("%q gives %q", s, got)
		}
		// What our own marks and the clean-up join together is not the secret's doing.
		if len(secret) >= piece && strings.Contains(s, secret) && strings.Contains(got, secret) &&
			!strings.Contains("[masked][masked]", secret) && Clean(secret, 1000) == secret {
			t.Fatalf("%q shows %q: %q", s, secret, got)
		}
	})
}
