package entra

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

func TestEveryCredentialOverTLS(t *testing.T) {
	for auth := range simtest.Credentials {
		for _, v2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, v2 %v", auth, v2), func(t *testing.T) {
				w := simtest.OverTLS(t, auth, v2)
				c := clientOf(w)
				good(w, c, "the first token")
				w.Svc.RevokeTokens()
				good(w, c, "after the token was refused")
				if st := w.Svc.Stats(); st.Issued != 2 || st.StrayTokens != 0 {
					t.Errorf("%d tokens issued, %d strayed; want 2 and none", st.Issued, st.StrayTokens)
				}
			})
		}
	}
}

func TestEveryCredentialAsksAlike(t *testing.T) {
	want := map[string][]string{ // beside resource or scope
		conf.ClientSecret:      {"client_id", "client_secret", "grant_type"},
		conf.ClientCertificate: {"client_assertion", "client_assertion_type", "client_id", "grant_type"},
		conf.WorkloadIdentity:  {"client_assertion", "client_assertion_type", "client_id", "grant_type"},
		conf.AuthorizationCode: {"client_id", "grant_type", "refresh_token"},
	}
	for auth, names := range want {
		t.Run(auth, func(t *testing.T) {
			simtest.Versions(t, auth, func(w *simtest.World) {
				good(w, clientOf(w), "a token")
				form := w.Wire.Sent()[0]
				scope := defendersim.DefaultResource + "/.default"
				if auth == conf.AuthorizationCode {
					scope += " offline_access"
				}
				v2 := strings.HasSuffix(w.Cfg.TokenURL, "/v2.0/token")
				if v2 && form.Get("scope") != scope || !v2 && form.Get("resource") != defendersim.DefaultResource {
					w.Errorf("resource %q, scope %q", form.Get("resource"), form.Get("scope"))
				}
				for _, name := range names {
					if form.Get(name) == "" {
						w.Errorf("no %s", name)
					}
				}
				if len(form) != len(names)+1 {
					w.Errorf("parameters are %v", form)
				}
			})
		})
	}
}

// Whatever is rotated while tokens are short-lived, not one request fails.
func TestRotationUnderShortLivedTokens(t *testing.T) {
	rotate := map[string]func(w *simtest.World, n int){
		conf.ClientSecret: func(w *simtest.World, n int) {
			w.Svc.SetSecrets(simtest.ClientID, fmt.Sprintf("secret-number-%d", n))
			w.Write("secret", fmt.Sprintf("secret-number-%d", n))
		},
		conf.ClientCertificate: func(w *simtest.World, n int) {
			next := []*defendersim.Certificate{simtest.Certificate(), simtest.NextCertificate()}[n%2]
			w.Svc.SetCertificates(simtest.ClientID, next.Cert)
			w.Write("app.pem", string(next.PEM()))
		},
		conf.WorkloadIdentity: func(w *simtest.World, _ int) { w.Write("token", w.Federated(time.Minute)) },
		conf.ManagedIdentity:  func(w *simtest.World, _ int) { w.Svc.RevokeTokens() },
		// Each renewal rotates by itself; at times a person logs in again.
		conf.AuthorizationCode: func(w *simtest.World, n int) {
			if n%5 == 0 {
				login := conf.Secret(w.Svc.Login(simtest.LoginID, defendersim.DefaultResource))
				if err := credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, login); err != nil {
					w.Fatal(err)
				}
			}
		},
	}
	for auth, f := range rotate {
		t.Run(auth, func(t *testing.T) {
			simtest.Versions(t, auth, func(w *simtest.World) {
				w.Svc.SetTokenLife(50 * time.Second)
				w.Svc.SetModes(func(m *defendersim.Modes) { m.RefreshOnce = auth == conf.AuthorizationCode })
				c := clientOf(w)
				for n := range 30 {
					f(w, n)
					for range 6 {
						good(w, c, "under rotation")
						time.Sleep(10 * time.Second)
					}
				}
				if issued := w.Svc.Stats().Issued; issued < 40 {
					w.Errorf("%d tokens in half an hour", issued)
				}
			})
		})
	}
}

func TestTheFederatedTokenIsReadAtEveryUse(t *testing.T) {
	simtest.Versions(t, conf.WorkloadIdentity, func(w *simtest.World) {
		c := clientOf(w)
		for n := range 3 {
			token := w.Federated(time.Duration(n+1) * time.Hour)
			w.Write("token", token+"\n")
			if err := renewal(c); err != nil {
				w.Fatal(err)
			}
			form := w.Wire.Sent()[n]
			if form.Get("client_assertion") != token || form.Get("client_assertion_type") != assertionType ||
				form.Get("client_id") != simtest.ClientID {
				w.Errorf("use %d: form is %v", n, form)
			}
		}
	})
}

func TestAFederatedTokenIsRefusedInWords(t *testing.T) {
	f := func(name string, change func(w *simtest.World), want string) {
		t.Run(name, func(t *testing.T) {
			simtest.Versions(t, conf.WorkloadIdentity, func(w *simtest.World) {
				c := clientOf(w)
				good(w, c, "a token")
				change(w)
				e := token(w, c)
				line := regexp.MustCompile("^token request: " + want + `; the service says ".*"$`)
				if e.Kind != transport.KindToken || !line.MatchString(e.Error()) {
					w.Errorf("%v: %v", e.Kind, e)
				}
				if asked := len(w.Wire.Sent()); asked != 2 {
					w.Errorf("%d requests: an unchanged file was tried again", asked)
				}
				w.Write("token", w.Federated(time.Hour))
				trusted := defendersim.Federation{Cluster: simtest.Cluster(), Subject: simtest.Account,
					Audience: simtest.Audience}
				w.Svc.SetFederation(simtest.ClientID, trusted)
				good(w, c, "mended, without a restart")
			})
		})
	}
	trust := func(subject, audience string) func(w *simtest.World) {
		return func(w *simtest.World) {
			trusted := defendersim.Federation{Cluster: simtest.Cluster(), Subject: subject, Audience: audience}
			w.Svc.SetFederation(simtest.ClientID, trusted)
		}
	}
	const compare = `; compare issuer, subject \(system:serviceaccount:NAMESPACE:NAME\) and audience ` +
		`of the application's federated credential with the token in federated_token_file`
	f("subject", trust("system:serviceaccount:default:default", simtest.Audience),
		"AADSTS700213: no federated credential of the application has the token's subject"+compare)
	f("audience", trust(simtest.Account, "api://other"),
		"AADSTS700212: no federated credential of the application has the token's audience"+compare)
	f("expired", func(w *simtest.World) { w.Write("token", w.Federated(-time.Hour)) },
		"AADSTS700024: the assertion is outside its time range; set this machine's clock right; "+
			"the token in federated_token_file must be renewed in time")
}

func TestAMissingFederatedTokenIsNamed(t *testing.T) {
	simtest.Versions(t, conf.WorkloadIdentity, func(w *simtest.World) {
		c := clientOf(w)
		if err := os.Remove(w.Cfg.FederatedTokenFile); err != nil {
			w.Fatal(err)
		}
		want := "token request: federated_token_file: open " + w.Cfg.FederatedTokenFile + ": " +
			"no such file or directory; " +
			"look at the pod's projected service account token, and at the webhook that sets AZURE_FEDERATED_TOKEN_FILE"
		if e := bad(w, c, "no file"); e.Kind != transport.KindToken || e.Error() != want {
			w.Errorf("%v\n got %v\nwant %s", e.Kind, e, want)
		}
		w.Write("token", w.Federated(time.Hour))
		good(w, c, "the file is there")
	})
}
