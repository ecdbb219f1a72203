package client

import (
	"os"
	"regexp"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
)

func TestTheFederatedTokenIsReadAtEveryUse(t *testing.T) {
	versions(t, conf.WorkloadIdentity, func(w *world) {
		c := w.client()
		for n := range 3 {
			token := w.federated(time.Duration(n+1) * time.Hour)
			w.write("token", token+"\n")
			if err := renewal(c); err != nil {
				w.Fatal(err)
			}
			form := w.wire.sent()[n]
			if form.Get("client_assertion") != token || form.Get("client_assertion_type") != assertionType || form.Get("client_id") != theClient {
				w.Errorf("use %d: form is %v", n, form)
			}
		}
	})
}

func TestAFederatedTokenIsRefusedInWords(t *testing.T) {
	f := func(name string, change func(w *world), want string) {
		t.Run(name, func(t *testing.T) {
			versions(t, conf.WorkloadIdentity, func(w *world) {
				c := w.client()
				w.good(c, "a token")
				change(w)
				e := w.token(c)
				if e.Kind != KindToken || !regexp.MustCompile("^token request: "+want+`; the service says ".*"$`).MatchString(e.Error()) {
					w.Errorf("%v: %v", e.Kind, e)
				}
				if asked := len(w.wire.sent()); asked != 2 {
					w.Errorf("%d requests: an unchanged file was tried again", asked)
				}
				w.write("token", w.federated(time.Hour))
				w.svc.SetFederation(theClient, defendersim.Federation{Cluster: theCluster(), Subject: theAccount, Audience: theAudience})
				w.good(c, "mended, without a restart")
			})
		})
	}
	trust := func(subject, audience string) func(w *world) {
		return func(w *world) {
			w.svc.SetFederation(theClient, defendersim.Federation{Cluster: theCluster(), Subject: subject, Audience: audience})
		}
	}
	const compare = `; compare issuer, subject \(system:serviceaccount:NAMESPACE:NAME\) and audience of the application's federated credential with the token in federated_token_file`
	f("subject", trust("system:serviceaccount:default:default", theAudience),
		"AADSTS700213: no federated credential of the application has the token's subject"+compare)
	f("audience", trust(theAccount, "api://other"), "AADSTS700212: no federated credential of the application has the token's audience"+compare)
	f("expired", func(w *world) { w.write("token", w.federated(-time.Hour)) },
		"AADSTS700024: the assertion is outside its time range; set this machine's clock right; the token in federated_token_file must be renewed in time")
}

func TestAMissingFederatedTokenIsNamed(t *testing.T) {
	versions(t, conf.WorkloadIdentity, func(w *world) {
		c := w.client()
		if err := os.Remove(w.cfg.FederatedTokenFile); err != nil {
			w.Fatal(err)
		}
		want := "token request: federated_token_file: open " + w.cfg.FederatedTokenFile + ": no such file or directory; " +
			"look at the pod's projected service account token, and at the webhook that sets AZURE_FEDERATED_TOKEN_FILE"
		if e := w.bad(c, "no file"); e.Kind != KindToken || e.Error() != want {
			w.Errorf("%v\n got %v\nwant %s", e.Kind, e, want)
		}
		w.write("token", w.federated(time.Hour))
		w.good(c, "the file is there")
	})
}
