package conf

import (
	"path"
	"slices"
	"strings"
)

// The values of Config.Auth.
const (
	ClientSecret      = "client_secret"
	ClientCertificate = "client_certificate"
	WorkloadIdentity  = "workload_identity"
	ManagedIdentity   = "managed_identity"
	AuthorizationCode = "authorization_code"
)

// NoTenant stands for the tenant of a managed identity whose stanza names none, in the state key too. All identities
// of a machine are of one tenant, so that another identity goes on with the same state; no tenant can have this name.
const NoTenant = "managed_identity"

// applications are the values of auth with which an application asks Entra ID itself.
var applications = []string{ClientSecret, ClientCertificate, WorkloadIdentity, AuthorizationCode}

// filesRead are the files that the plugin reads, and so must not overwrite with another.
var filesRead = []string{"client_secret_file", "client_certificate_file", "federated_token_file", "refresh_token_file",
	"ca_file", "tenants_file"}

// credentialKeys lists the keys that belong to one credential alone: to auth, or, where that is empty, to any.
func credentialKeys(auth string) []string {
	var names []string
	for _, k := range Keys {
		if len(k.Auth) == 1 && (auth == "" || k.Auth[0] == auth) {
			names = append(names, k.Name)
		}
	}
	return names
}

// proofs are the keys given that belong to one credential alone, the first of each credential.
func (l *loader) proofs() (found []Key) {
	for _, k := range Keys {
		if len(k.Auth) == 1 && l.given(k.Name) &&
			!slices.ContainsFunc(found, func(f Key) bool { return f.Auth[0] == k.Auth[0] }) {
			found = append(found, k)
		}
	}
	return found
}

// credential finds the stanza's auth: the one given, as it stands, else the one to which all credential keys given
// belong.
func (l *loader) credential() string {
	if text, given := l.text["auth"]; given {
		return strings.ToLower(text)
	}
	if of := l.proofs(); len(of) == 1 {
		return of[0].Auth[0]
	}
	return ""
}

// environment fills in what a Kubernetes workload gets from its environment. A key of the stanza always wins, and so do
// cloud and token_url, which decide on the authority too.
func (l *loader) environment(env func(string) string) {
	if l.auth != WorkloadIdentity {
		return
	}
	decided := l.given("cloud") || l.given("token_url")
	for _, k := range Keys {
		if k.Env == "" || l.given(k.Name) || k.Name == "authority" && decided || k.Name == "tenant_id" && l.tenants {
			continue
		}
		if v := strings.TrimSpace(env(k.Env)); v != "" {
			l.text[k.Name], l.from[k.Name] = v, k.Env
		}
	}
}

// known tells whether auth has been found and is one of its values.
func (l *loader) known() bool { return slices.Contains(keyNamed("auth").Values, l.auth) }

// needed tells whether the stanza cannot do without k. While its credential is not clear that goes for what most need.
func (l *loader) needed(k *Key) bool {
	switch {
	case l.tenants && !l.entry && k.PerTenant:
		return false
	case l.entry && k.Name == "tenant_id":
		return true
	}
	if !l.known() {
		return len(k.Needs) > 1
	}
	return slices.Contains(k.Needs, l.auth)
}

// misplaced tells whether k belongs to another credential than the stanza's.
func (l *loader) misplaced(k *Key) bool {
	return l.known() && len(k.Auth) > 0 && !slices.Contains(k.Auth, l.auth)
}

// variable names the variable that could have stood in for k.
func (l *loader) variable(k *Key) string {
	if k.Env == "" || l.auth != WorkloadIdentity || k.Name == "tenant_id" && l.tenants {
		return ""
	}
	return ", or " + k.Env + " in the environment"
}

// contradiction finds two keys of different credentials in a stanza without auth.
func contradiction(l *loader) string {
	if of := l.proofs(); len(of) > 1 && !l.given("auth") {
		return "missing, and " + of[0].Name + " (auth " + of[0].Auth[0] + ") and " + of[1].Name + " (auth " +
			of[1].Auth[0] + ") are of different credentials; allowed: the keys of one"
	}
	return ""
}

// secretAndFile asks for one of the two with auth client_secret, and for any credential in a stanza that has none.
func secretAndFile(l *loader) string {
	missing := l.missing()
	switch secret, file := l.given("client_secret"), l.given("client_secret_file"); {
	case l.auth == "":
		return missing + "the application's secret, client_secret_file with the path of a file that holds it, " +
			"or another credential by client_certificate_file, federated_token_file, refresh_token_file or auth"
	case l.auth != ClientSecret:
	case secret && file:
		return "stands beside client_secret_file; allowed: one of the two"
	case !secret && !file:
		return missing + "the application's secret, or client_secret_file with the path of a file that holds it"
	}
	return ""
}

// shared finds another key with the same file as key, which is written.
func (l *loader) shared(key string, others []string) string {
	for _, other := range others {
		if l.given(key) && l.given(other) && path.Clean(l.text[key]) == path.Clean(l.text[other]) {
			return "is the file of " + other + " as well, and would be overwritten; allowed: a file of its own"
		}
	}
	return ""
}
