package conf

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bare is a stanza without application and credential, plus further keys.
func bare(lines ...string) func(string) string {
	return with(append([]string{"tenant_id", "client_id", "client_secret"}, lines...)...)
}

func env(lines ...string) func(string) string {
	values := map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		values[name] = value
	}
	return func(name string) string { return values[name] }
}

// aks is what the webhook of Azure's workload identity sets.
var aks = env("AZURE_TENANT_ID="+sampleTenant, "AZURE_CLIENT_ID="+sampleClient,
	"AZURE_FEDERATED_TOKEN_FILE=/var/run/secrets/azure/tokens/azure-identity-token",
	"AZURE_AUTHORITY_HOST=https://login.microsoftonline.us/")

func loaded(t *testing.T, get, env func(string) string) *Config {
	t.Helper()
	c, err := Load(get, env)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

func TestAuthFollowsFromTheKeys(t *testing.T) {
	f := func(auth string, lines ...string) {
		t.Helper()
		if c := loaded(t, with(append(lines, "client_secret")...), noEnv); c.Auth != auth {
			t.Errorf("%v: auth %s, want %s", lines, c.Auth, auth)
		}
	}
	f(ClientSecret, "client_secret_file /s")
	f(ClientCertificate, "client_certificate_file /c.pem")
	f(ClientCertificate, "client_certificate_file /c.pfx", "client_certificate_password hunter2")
	f(WorkloadIdentity, "federated_token_file /t")
	f(AuthorizationCode, "refresh_token_file /r")
	f(ManagedIdentity, "client_id", "managed_identity_client_id "+sampleClient)
	f(ManagedIdentity, "client_id", "managed_identity_endpoint http://127.0.0.1:40342/metadata/identity/oauth2/token")
	f(ManagedIdentity, "client_id", "auth Managed_Identity")
	if c := loaded(t, with(), noEnv); c.Auth != ClientSecret {
		t.Errorf("client_secret: auth %s", c.Auth)
	}
}

func TestCredentialsReachTheirFields(t *testing.T) {
	f := func(name string, want Config, lines ...string) {
		t.Helper()
		c := loaded(t, with(append(lines, "client_secret")...), noEnv)
		got := Config{
			TenantID: c.TenantID,
			Credential: Credential{
				Auth: c.Auth, ClientID: c.ClientID, ClientCertificateFile: c.ClientCertificateFile,
				ClientCertificatePassword: c.ClientCertificatePassword,
				FederatedTokenFile:        c.FederatedTokenFile, ManagedIdentityClientID: c.ManagedIdentityClientID,
				ManagedIdentityEndpoint: c.ManagedIdentityEndpoint, RefreshTokenFile: c.RefreshTokenFile,
			},
			Service: Service{TokenURL: c.TokenURL},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	const v1 = "https://login.microsoftonline.com/" + sampleTenant + "/oauth2/token"
	f("certificate", Config{
		TenantID: sampleTenant,
		Credential: Credential{
			Auth: ClientCertificate, ClientID: sampleClient, ClientCertificateFile: "/c.pfx",
			ClientCertificatePassword: "hunter2",
		},
		Service: Service{TokenURL: v1},
	}, "client_certificate_file /c.pfx", "client_certificate_password hunter2")
	f("federated", Config{
		TenantID:   sampleTenant,
		Credential: Credential{Auth: WorkloadIdentity, ClientID: sampleClient, FederatedTokenFile: "/t"},
		Service:    Service{TokenURL: v1},
	},
		"federated_token_file /t")
	f("login", Config{
		TenantID:   sampleTenant,
		Credential: Credential{Auth: AuthorizationCode, ClientID: sampleClient, RefreshTokenFile: "/r"},
		Service:    Service{TokenURL: v1},
	},
		"refresh_token_file /r")
	f("system-assigned", Config{
		TenantID:   NoTenant,
		Credential: Credential{Auth: ManagedIdentity, ManagedIdentityEndpoint: IMDS},
	},
		"auth managed_identity", "tenant_id", "client_id")
	f("user-assigned, in a known tenant", Config{
		TenantID: sampleTenant,
		Credential: Credential{
			Auth: ManagedIdentity, ManagedIdentityClientID: sampleClient,
			ManagedIdentityEndpoint: "http://10.0.0.1/token",
		},
	},
		"client_id", "managed_identity_client_id "+sampleClient, "managed_identity_endpoint HTTP://10.0.0.1:80/token")
}

func TestAWorkloadTakesItsEnvironment(t *testing.T) {
	c := loaded(t, bare("auth workload_identity"), aks)
	got := []string{c.TenantID, c.ClientID, c.FederatedTokenFile, c.TokenURL}
	want := []string{sampleTenant, sampleClient, "/var/run/secrets/azure/tokens/azure-identity-token",
		"https://login.microsoftonline.us/" + sampleTenant + "/oauth2/token"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tenant, client, file, token_url (-want +got):\n%s", diff)
	}
	f := func(name, want, got string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	f("a key wins", "/mine", loaded(t, bare("federated_token_file /mine"), aks).FederatedTokenFile)
	f("a tenant wins", "contoso.com", loaded(t, bare("auth workload_identity", "tenant_id contoso.com"), aks).TenantID)
	f("an authority wins", "https://login.example.com/"+sampleTenant+"/oauth2/token",
		loaded(t, bare("auth workload_identity", "authority https://login.example.com"), aks).TokenURL)
	f("a cloud wins", "https://login.microsoftonline.com/"+sampleTenant+"/oauth2/token",
		loaded(t, bare("auth workload_identity", "region", "cloud gcc"), aks).TokenURL)
	f("a token_url wins", "https://login.example.com/x/oauth2/v2.0/token",
		loaded(t, bare("auth workload_identity", "token_url https://login.example.com/x/oauth2/v2.0/token"),
			aks).TokenURL)
}

func TestOnlyAWorkloadTakesTheEnvironment(t *testing.T) {
	asked := func(name string) string { t.Errorf("%s was asked for", name); return "" }
	loaded(t, with(), asked)
	loaded(t, bare("auth managed_identity"), asked)
	loaded(t, with("client_secret", "refresh_token_file /r"), asked)
	if _, err := Load(bare(), asked); err == nil {
		t.Error("a stanza without credential is taken")
	}
}

func TestABadVariableIsNamed(t *testing.T) {
	_, err := Load(bare("auth workload_identity"), env("AZURE_TENANT_ID=common", "AZURE_CLIENT_ID="+sampleSecret,
		"AZURE_FEDERATED_TOKEN_FILE=/t", "AZURE_AUTHORITY_HOST=http://login.example.com"))
	want := `tenant_id: "common" (AZURE_TENANT_ID) is no tenant of its own, and gives an application no token; ` +
		"allowed: the tenant's GUID, or one of its domain names such as contoso.onmicrosoft.com\n" +
		"client_id: the value (not shown) (AZURE_CLIENT_ID) is not an application's id; " +
		"allowed: the application's GUID (letters, digits, '.', '_' and '-', 128 at most)\n" +
		`authority: "http://login.example.com" (AZURE_AUTHORITY_HOST) is plain http to a host that is no loopback address; ` +
		"allowed: https://HOST, without user, query and fragment; http to loopback addresses only"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestEveryCredentialHasItsKeys(t *testing.T) {
	for _, k := range Keys {
		for _, auth := range append(k.Auth, k.Needs...) {
			if keyNamed("auth").set(&Config{}, auth) != nil {
				t.Errorf("%s is for %q, which is no auth", k.Name, auth)
			}
		}
	}
	for _, auth := range keyNamed("auth").Values {
		if len(credentialKeys(auth)) == 0 || entra[auth] == "" {
			t.Errorf("nothing tells of %s", auth)
		}
	}
}
