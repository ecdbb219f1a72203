package entra

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

func TestClaimsOfAToken(t *testing.T) {
	simtest.Versions(t, conf.ClientSecret, func(w *simtest.World) {
		got, readable, err := clientOf(w).Claims(context.Background())
		if err != nil || !readable {
			w.Fatal(readable, err)
		}
		want := Claims{
			Audience: defendersim.DefaultResource, Tenant: simtest.Tenant, Application: simtest.ClientID,
			Roles:   []string{"Alert.Read.All"},
			Expires: w.Svc.Now().Add(3599 * time.Second).Truncate(time.Second),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			w.Errorf("claims (-want +got):\n%s", diff)
		}
	})
	c := connect(t, simtest.Settings(), &simtest.Service{})
	if _, readable, err := c.Claims(context.Background()); readable || err != nil {
		t.Errorf("an opaque token: %v, %v", readable, err)
	}
	c = connect(t, simtest.Settings(), &simtest.Service{Token: simtest.Always(503, "")})
	_, _, err := c.Claims(context.Background())
	if e := failure(t, err); e.Kind != transport.KindTokenTransient {
		t.Errorf("no token: %v", e)
	}
}

func FuzzClaims(f *testing.F) {
	f.Add(simtest.Unsigned(map[string]any{
		"aud": "https://graph.windows.net", "tid": simtest.Tenant, "exp": 1715000399,
		"roles": []string{"a"}, "scp": "a b",
	}))
	f.Add(simtest.Unsigned(map[string]any{
		"aud": []any{1, "x"}, "exp": 1e300, "roles": "x", "scp": strings.Repeat("a ", 100),
	}))
	f.Add("..")
	f.Add("a.e30.b")
	f.Fuzz(func(t *testing.T, token string) {
		c := &Tokens{net: &transport.Network{Mask: new(transport.Mask)}, needs: needs}
		claims, readable := c.claimsOf(token)
		many := len(claims.Roles) > maxClaims || len(claims.Scopes) > maxClaims
		if !readable && !cmp.Equal(claims, Claims{}) || many {
			t.Fatalf("%q: %+v, %v", token, claims, readable)
		}
		e := &transport.Error{Op: "x", What: "y"}
		c.Explain(e, token)
		if text := e.Error(); len(text) > 2000 || strings.ContainsAny(text, "\r\n\x00\x1b") {
			t.Errorf("%q: %q", token, text)
		}
	})
}
