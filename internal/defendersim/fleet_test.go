package defendersim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	contoso  = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	fabrikam = "11111111-2222-3333-4444-555555555555"
)

// fleetToken asks for a tenant's token and returns it, or the answer when there is none.
func fleetToken(t *testing.T, c *http.Client, authority, tenant string) (token, refusal string) {
	t.Helper()
	res, err := c.PostForm(authority+"/"+tenant+"/oauth2/token", url.Values{
		"grant_type": {"client_credentials"}, "resource": {DefaultResource},
		"client_id": {DefaultClientID}, "client_secret": {DefaultSecret},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, token, found := strings.Cut(string(body), `"access_token":"`)
	if !found {
		return "", string(body)
	}
	token, _, _ = strings.Cut(token, `"`)
	return token, ""
}

func fleetAlerts(t *testing.T, c *http.Client, address, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestAFleetKeepsItsTenantsApart(t *testing.T) {
	f := NewFleet(Config{})
	now := time.Now()
	rnd := rand.New(rand.NewPCG(1, 2))
	rows := map[string]Alert{}
	for _, tenant := range []string{contoso, fabrikam} {
		rows[tenant] = NewGenerator(rnd, Mix{}).Alert(now.Add(-time.Minute))
		f.Tenant(tenant).Add(rows[tenant])
	}
	srv, err := StartFleet(f, ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	tr := &http.Transport{TLSClientConfig: srv.TLSConfig()}
	defer tr.CloseIdleConnections()
	for name, c := range map[string]struct {
		client            *http.Client
		authority, alerts string
	}{
		"tls":    {&http.Client{Transport: tr}, srv.Authority(), srv.AlertsURL()},
		"memory": {&http.Client{Transport: f.Transport()}, LoginHost, AlertsHost + "/api/alerts"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, tenant := range []string{contoso, strings.ToUpper(fabrikam)} {
				token, refusal := fleetToken(t, c.client, c.authority, tenant)
				if token == "" {
					t.Fatal(refusal)
				}
				status, body := fleetAlerts(t, c.client, c.alerts, token)
				want(t, tenant, status, 200)
				for owner, a := range rows {
					if strings.Contains(body, a.AlertID) != strings.EqualFold(owner, tenant) {
						t.Errorf("to %s came of %s: %.200s", tenant, owner, body)
					}
				}
			}
			_, refusal := fleetToken(t, c.client, c.authority, DefaultTenant[:35]+"8")
			if !strings.Contains(refusal, "AADSTS90002") {
				t.Errorf("a tenant of another cloud: %s", refusal)
			}
			f.Tenant(contoso).Consent(false)
			_, refusal = fleetToken(t, c.client, c.authority, contoso)
			if !strings.Contains(refusal, "AADSTS7000229") {
				t.Errorf("a tenant that refuses: %s", refusal)
			}
			f.Tenant(contoso).Consent(true)
			token, _ := fleetToken(t, c.client, c.authority, contoso)
			f.Tenant(contoso).Queue(KindAlerts, Status(503))
			status, _ := fleetAlerts(t, c.client, c.alerts, token)
			want(t, "a tenant's own fault", status, 503)
			for _, bad := range []string{"", "x", "a.b.c", token[:len(token)-3] + "xxx"} {
				if status, _ := fleetAlerts(t, c.client, c.alerts, bad); status != 401 {
					t.Errorf("token %q: %d", bad, status)
				}
			}
		})
	}
	f.Remove(contoso)
	want(t, "tenants", fmt.Sprint(f.Tenants()), "["+fabrikam+"]")
}

func TestAThousandTenantsAreCheap(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f := NewFleet(Config{})
	for i := range 1000 {
		f.Tenant(fmt.Sprintf("%08d-0000-0000-0000-000000000000", i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / 1000
	t.Logf("%d bytes a tenant", each)
	if each > 40_000 {
		t.Errorf("%d bytes a tenant", each)
	}
	runtime.KeepAlive(f)
}
