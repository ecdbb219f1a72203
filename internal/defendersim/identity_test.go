package defendersim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
)

func (t *rig) identity(change func(q url.Values, h http.Header)) answer {
	t.Helper()
	at := IdentityURL
	if t.srv != nil {
		at = t.srv.IdentityURL()
	}
	q := url.Values{"api-version": {"2018-02-01"}, "resource": {DefaultResource}}
	h := http.Header{"Metadata": {"true"}}
	change(q, h)
	req := must(http.NewRequest("GET", at+"?"+q.Encode(), nil))
	req.Header = h
	return t.do(req)
}

func TestManagedIdentities(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		none := func(url.Values, http.Header) {}
		who := func(id string) func(url.Values, http.Header) {
			return func(q url.Values, _ http.Header) { q.Set("client_id", id) }
		}
		refused := func(name string, a answer, status int, text string) {
			t.Helper()
			want(t, name, a.status, status)
			contains(t, name, a.body, text)
		}
		given := func(name string, a answer, id string) {
			t.Helper()
			var got map[string]string // every value is a string
			if err := json.Unmarshal(a.body, &got); err != nil {
				t.Fatalf("%s: %v in %s", name, err, a.body)
			}
			want(t, name+": client_id", got["client_id"], id)
			want(t, name+": expires_in", got["expires_in"], "3599")
			want(t, name+": expires_on", got["expires_on"], "1715000399")
			req := must(http.NewRequest("GET", t.alerts, nil))
			req.Header.Set("Authorization", "Bearer "+got["access_token"])
			want(t, name+": the API", t.do(req).status, 200)
		}
		refused("no identity", t.identity(none), 400, "Identity not found")
		t.svc.SetIdentities("", "user-one", "user-two")
		refused("which one", t.identity(none), 400, "Multiple user assigned identities")
		given("a user-assigned one", t.identity(who("user-two")), "user-two")
		t.svc.SetIdentities("system", "user-one")
		given("the system-assigned one", t.identity(none), "system")
		given("by name", t.identity(who("user-one")), "user-one")
		refused("an unknown one", t.identity(who("user-two")), 400, "Identity not found")
		refused("no header", t.identity(func(_ url.Values, h http.Header) { h.Del("Metadata") }),
			400, "metadata header")
		refused("through a proxy", t.identity(func(_ url.Values, h http.Header) {
			h.Set("X-Forwarded-For", "10.0.0.1")
		}), 400, "X-Forwarded-For")
		refused("no version", t.identity(func(q url.Values, _ http.Header) { q.Del("api-version") }),
			400, "api-version")
		refused("no resource", t.identity(func(q url.Values, _ http.Header) { q.Del("resource") }), 400, "resource")
		refused("unknown resource", t.identity(func(q url.Values, _ http.Header) {
			q.Set("resource", "https://other.example")
		}), 400, "AADSTS500011")
		form := v1Form()
		form.Set("client_id", "system")
		form.Set("client_secret", proven)
		want(t, "an identity has no secret", t.code(t.post(t.v1, form)), 7000215)
		t.svc.Queue(KindIdentity, Status(410), Status(404))
		refused("updated", t.identity(none), 410, "Gone")
		refused("away", t.identity(none), 404, "Not Found")
		want(t, "counted", t.svc.Stats().Identities, 13)
	})
}

func TestTheAPIWantsAPermission(t *testing.T) {
	bothWays(t, Config{}, func(t *rig) {
		t.svc.SetRoles(DefaultClientID)
		want(t, "no role", t.get("").status, 401)
		t.svc.SetRoles(DefaultClientID, "Alert.Read.All")
		t.tok = ""
		want(t, "a role", t.get("").status, 200)
	})
}
